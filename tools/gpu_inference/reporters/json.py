"""For programs; also what --baseline reads."""

from __future__ import annotations

import json

from gpu_inference.report import Report, Reporter


class JsonReporter(Reporter):
    """{"findings": [{rule, severity, file, line, column, path, message, fix}]}, whatever the verbosity."""

    def write(self, report: Report) -> None:
        findings = [finding.as_json() for finding in report.findings]
        json.dump({"findings": findings}, self.out, indent=2, ensure_ascii=False)
        print(file=self.out)
