"""GitLab's code quality report."""

from __future__ import annotations

import json

from gpu_inference.report import Report, Reporter

_SEVERITY = {"error": "major", "warning": "minor", "info": "info"}


class GitlabReporter(Reporter):
    """A list of {description, check_name, fingerprint, severity, location}.
    https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format, 2026-11-21.
    """

    def write(self, report: Report) -> None:
        issues = [
            {
                "description": f"{finding.path}: {finding.message}. Fix: {finding.fix}.",
                "check_name": finding.rule,
                "fingerprint": finding.fingerprint,
                "severity": _SEVERITY[finding.severity],
                "location": {"path": finding.file.removeprefix("./"), "lines": {"begin": finding.line}},
            }
            for finding in report.findings
        ]
        json.dump(issues, self.out, indent=2, ensure_ascii=False)
        print(file=self.out)
