"""Findings somebody has accepted: in a comment, with a reason and a day it ends, or in an earlier report.

    # gpu-inference: ignore open-service until 2027-03-31: only the load test's addresses can reach it
    service: {type: LoadBalancer}

A comment speaks of its own line, or, where nothing else is on that, of the next line that is no comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from gpu_inference.errors import UserError
from gpu_inference.report import Finding

_COMMENT = re.compile(r"(?:^|\s)#\s*gpu-inference:\s*ignore\b(?P<rest>.*)$")
_REST = re.compile(r"\s+(?P<rule>[a-z][a-z0-9-]*)\s+until\s+(?P<day>\d{4}-\d\d-\d\d):\s*(?P<reason>\S.*)")
_FORM = "write: # gpu-inference: ignore RULE until YYYY-MM-DD: why"


@dataclass(frozen=True, slots=True)
class _Ignore:
    """A comment: the rule and the line it speaks of, its last day, and where it stands."""

    rule: str
    line: int
    until: date
    at: tuple[int, int]


def without_ignored(findings: Sequence[Finding], sources: Mapping[str, Sequence[str]], today: date) -> list[Finding]:
    """The findings no comment accepts, and those about comments: not readable, out of date, or about nothing."""
    left = list(findings)
    for file, lines in sources.items():
        for comment in _comments(file, lines):
            if isinstance(comment, Finding):
                left.append(comment)
                continue
            meant = [f for f in left if (f.file, f.line, f.rule) == (file, comment.line, comment.rule)]
            if comment.until < today:
                left.append(_about(file, comment.at, "expired", f"ended on {comment.until}", "mend what it ignores"))
            elif not meant:
                # Where there are errors, not every rule was asked.
                if not any((f.file, f.severity) == (file, "error") for f in findings):
                    left.append(_about(file, comment.at, "unused", "there is nothing to ignore", "remove the comment"))
            else:
                left = [finding for finding in left if finding not in meant]
    return sorted(left)


def _comments(file: str, lines: Sequence[str]) -> Iterator[_Ignore | Finding]:
    for index, line in enumerate(lines):
        found = _COMMENT.search(line)
        if not found:
            continue
        at = (index + 1, line.index("#", found.start()) + 1)
        rest = _REST.fullmatch(found["rest"].rstrip())
        try:
            day = date.fromisoformat(rest["day"]) if rest else None
        except ValueError:
            day = None
        if rest is None or day is None:
            problem = _about(file, at, "unreadable", "a rule, a last day and a reason are needed", _FORM)
            yield replace(problem, severity="error")
            continue
        meant = index
        if line.lstrip().startswith("#"):
            meant = next((n for n in range(index + 1, len(lines)) if not lines[n].lstrip().startswith("#")), index)
        yield _Ignore(rest["rule"], meant + 1, day, at)


def _about(file: str, at: tuple[int, int], what: str, message: str, fix: str) -> Finding:
    return Finding(file, *at, f"ignore-{what}", "$", message, fix, "warning")


def without_known(findings: Iterable[Finding], baseline: Path) -> list[Finding]:
    """The findings that an earlier report, in JSON, does not have. UserError if it is none."""
    try:
        known = {
            (entry["rule"], entry["file"], entry["path"])
            for entry in json.loads(baseline.read_text(encoding="utf-8"))["findings"]
        }
    except OSError as error:
        raise UserError(f"cannot read {baseline}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{baseline} is no report of `gpu-inference validate`", fix="write one with -o json > FILE"
        ) from error
    return [finding for finding in findings if (finding.rule, finding.file, finding.path) not in known]
