"""For people at a terminal."""

from __future__ import annotations

from gpu_inference.report import Finding, Report, Reporter, count

_RED, _YELLOW, _BLUE, _BOLD, _DIM, _END = "\033[31m", "\033[33m", "\033[34m", "\033[1m", "\033[2m", "\033[0m"
_STYLE = {"error": _RED, "warning": _YELLOW, "info": _BLUE}
# An excerpt of a longer line would fill the screen.
_WIDTH = 120


class TextReporter(Reporter):
    """A line a finding, `file:line:column: $.path: what is wrong. Fix: …  [rule]`, the line it is about, and a summary;
    with -q the findings alone."""

    def write(self, report: Report) -> None:
        for finding in report.findings:
            print(self._line(finding), file=self.out)
            if self.verbosity > 0:
                self._excerpt(finding, report.line_of(finding))
        if self.verbosity > 1:
            for name in report.checked:
                print(f"checked {name}", file=self.out)
        if self.verbosity > 0:
            print(self._summary(report), file=self.out)

    def _line(self, finding: Finding) -> str:
        place = self._paint(_BOLD, f"{finding.file}:{finding.line}:{finding.column}:")
        prefix = "" if finding.severity == "error" else f"{finding.severity}: "
        message = self._paint(_STYLE[finding.severity], prefix + finding.message)
        fix = f" Fix: {finding.fix}." if finding.fix else ""
        return f"{place} {finding.path}: {message}.{fix}  {self._paint(_DIM, f'[{finding.rule}]')}"

    def _excerpt(self, finding: Finding, line: str | None) -> None:
        if line is None or len(line) > _WIDTH or not line.strip():
            return
        number = str(finding.line)
        # A tab before the caret moves it as it moves the text.
        indent = "".join("\t" if char == "\t" else " " for char in line[: finding.column - 1])
        print(self._paint(_DIM, f"  {number} | ") + line, file=self.out)
        print(self._paint(_DIM, f"  {' ' * len(number)} | ") + indent + self._paint(_BOLD, "^"), file=self.out)

    def _summary(self, report: Report) -> str:
        checked = count(len(report.checked), "values set")
        if report.failures:
            return f"{count(len(report.findings), 'finding')} in {checked}"
        mild = [count(n, "warning" if s == "warning" else s) for s in ("error", "warning") if (n := len(report.of(s)))]
        return ", ".join([f"ok: {checked}", *mild])

    def _paint(self, style: str, text: str) -> str:
        return f"{style}{text}{_END}" if self.color else text
