"""Annotations of a GitHub Actions job."""

from __future__ import annotations

from gpu_inference.report import Report, Reporter

_LEVEL = {"error": "error", "warning": "warning", "info": "notice"}


class GithubReporter(Reporter):
    """A workflow command a finding. GitHub shows the first ten errors and ten warnings of a step, so errors come first.
    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands, 2026-11-21.
    """

    def write(self, report: Report) -> None:
        for finding in sorted(report.findings, key=lambda finding: list(_LEVEL).index(finding.severity)):
            fields = {
                "file": finding.file,
                "line": finding.line,
                "col": finding.column,
                "title": f"{finding.rule}: {finding.path}",
            }
            where = ",".join(f"{key}={_property(str(value))}" for key, value in fields.items())
            fix = f" Fix: {finding.fix}." if finding.fix else ""
            print(f"::{_LEVEL[finding.severity]} {where}::{_data(f'{finding.message}.{fix}')}", file=self.out)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
