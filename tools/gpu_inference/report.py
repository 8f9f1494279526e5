"""What a check found, and the ways to print it."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

_RED, _YELLOW, _BOLD, _DIM, _END = "\033[31m", "\033[33m", "\033[1m", "\033[2m", "\033[0m"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing wrong at one place. `severity` is "error" or "warning"; line and column count from 1."""

    file: str
    line: int
    column: int
    rule: str
    path: str
    message: str
    fix: str
    severity: str = "error"

    def as_json(self) -> dict[str, Any]:
        keys = ("rule", "severity", "file", "line", "column", "path", "message", "fix")
        fields = asdict(self)
        return {key: fields[key] for key in keys}


@dataclass(frozen=True, slots=True)
class Report:
    """Findings, and what was checked: a line of text for each file or set of layers."""

    findings: Sequence[Finding]
    checked: Sequence[str]

    @property
    def errors(self) -> Sequence[Finding]:
        """What Helm refuses too; the rest are warnings."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def exit_code(self) -> int:
        return 1 if self.errors else 0


class Reporter(ABC):
    """Writes a report. `verbosity` is 1, less 1 for each -q, plus 1 for each -v."""

    def __init__(self, out: TextIO, verbosity: int = 1, color: bool = False) -> None:
        self.out = out
        self.verbosity = verbosity
        self.color = color

    @abstractmethod
    def write(self, report: Report) -> None: ...


class TextReporter(Reporter):
    """A line a finding, `file:line:column: $.path: what is wrong. Fix: …  [rule]`, and a summary."""

    def write(self, report: Report) -> None:
        for finding in report.findings:
            print(self._line(finding), file=self.out)
        if self.verbosity > 1:
            for name in report.checked:
                print(f"checked {name}", file=self.out)
        if self.verbosity > 0:
            print(self._summary(report), file=self.out)

    def _line(self, finding: Finding) -> str:
        place = self._paint(_BOLD, f"{finding.file}:{finding.line}:{finding.column}:")
        warns = finding.severity == "warning"
        message = self._paint(_YELLOW, f"warning: {finding.message}") if warns else self._paint(_RED, finding.message)
        fix = f" Fix: {finding.fix}." if finding.fix else ""
        return f"{place} {finding.path}: {message}.{fix}  {self._paint(_DIM, f'[{finding.rule}]')}"

    def _summary(self, report: Report) -> str:
        checked = _count(len(report.checked), "values set")
        if report.errors:
            return f"{_count(len(report.findings), 'finding')} in {checked}"
        return f"ok: {checked}" + (f", {_count(len(report.findings), 'warning')}" if report.findings else "")

    def _paint(self, style: str, text: str) -> str:
        return f"{style}{text}{_END}" if self.color else text


class JsonReporter(Reporter):
    """{"findings": [{rule, severity, file, line, column, path, message, fix}]}, whatever the verbosity."""

    def write(self, report: Report) -> None:
        json.dump(
            {"findings": [finding.as_json() for finding in report.findings]}, self.out, indent=2, ensure_ascii=False
        )
        print(file=self.out)


REPORTERS: dict[str, type[Reporter]] = {"text": TextReporter, "json": JsonReporter}


def use_color(choice: str, out: TextIO = sys.stdout) -> bool:
    """Whether to colour: "always", "never", or "auto": on a terminal unless NO_COLOR is set (https://no-color.org)."""
    if choice == "auto":
        return out.isatty() and not os.environ.get("NO_COLOR")
    return choice == "always"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
