"""What a check found, and what all ways to print it have in common."""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from gpu_inference.secrets import redacted

# From the mildest on; --fail-on names one of them.
SEVERITIES = ("info", "warning", "error")
_ABOUT_SECRETS = ("literal-secret", "literal-token", "secret-in-values")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing wrong at one place. `severity` is one of SEVERITIES; line and column count from 1."""

    file: str
    line: int
    column: int
    rule: str
    path: str
    message: str
    fix: str
    severity: str = "error"

    @property
    def fingerprint(self) -> str:
        """The same as long as rule, file and path are: lines move, and messages carry figures."""
        return hashlib.sha256("\0".join((self.rule, self.file, self.path)).encode()).hexdigest()[:32]

    def as_json(self) -> dict[str, Any]:
        keys = ("rule", "severity", "file", "line", "column", "path", "message", "fix")
        fields = asdict(self)
        return {key: fields[key] for key in keys}


@dataclass(frozen=True, slots=True)
class Report:
    """Findings; what was checked, a line of text for each file or set of layers; the lines of the files by name; and
    the mildest severity that counts as a failure, "never" for none."""

    findings: Sequence[Finding]
    checked: Sequence[str]
    sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fail_on: str = "error"

    def of(self, severity: str) -> Sequence[Finding]:
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def errors(self) -> Sequence[Finding]:
        return self.of("error")

    @property
    def failures(self) -> Sequence[Finding]:
        """The findings that count."""
        if self.fail_on == "never":
            return []
        counted = SEVERITIES[SEVERITIES.index(self.fail_on) :]
        return [finding for finding in self.findings if finding.severity in counted]

    @property
    def exit_code(self) -> int:
        return 1 if self.failures else 0

    def line_of(self, finding: Finding) -> str | None:
        """The line of text a finding points at, without secrets; None where it is not known."""
        lines = self.sources.get(finding.file, ())
        if not 0 < finding.line <= len(lines):
            return None
        line = lines[finding.line - 1].rstrip("\r")
        # What no form tells from other text is left out from where it stands.
        return redacted(f"{line[: finding.column - 1]}…" if finding.rule in _ABOUT_SECRETS else line)


class Reporter(ABC):
    """Writes a report. `verbosity` is 1, less 1 for each -q, plus 1 for each -v."""

    def __init__(self, out: TextIO, verbosity: int = 1, color: bool = False) -> None:
        self.out = out
        self.verbosity = verbosity
        self.color = color

    @abstractmethod
    def write(self, report: Report) -> None: ...


def use_color(choice: str, out: TextIO = sys.stdout) -> bool:
    """Whether to colour: "always", "never", or "auto": on a terminal unless NO_COLOR is set (https://no-color.org)."""
    if choice == "auto":
        return out.isatty() and not os.environ.get("NO_COLOR")
    return choice == "always"


def count(number: int, noun: str) -> str:
    """ "1 finding", "2 findings"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
