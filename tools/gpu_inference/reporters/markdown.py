"""A comment on a pull request."""

from __future__ import annotations

from gpu_inference.report import Report, Reporter, count

_SIGN = {"error": "❌", "warning": "⚠️", "info": "ℹ️"}


class MarkdownReporter(Reporter):
    """A headline, and a table with a row a finding."""

    def write(self, report: Report) -> None:
        checked = count(len(report.checked), "values set")
        verdict = "failed" if report.failures else "passed"
        print(f"### Values {verdict}: {count(len(report.findings), 'finding')} in {checked}", file=self.out)
        if report.findings:
            print("\n| | where | what is wrong | fix | rule |\n|---|---|---|---|---|", file=self.out)
        for finding in report.findings:
            where = f"`{finding.file}:{finding.line}`<br>`{finding.path}`"
            cells = (_SIGN[finding.severity], where, finding.message, finding.fix, f"`{finding.rule}`")
            print("| " + " | ".join(_cell(cell) for cell in cells) + " |", file=self.out)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
