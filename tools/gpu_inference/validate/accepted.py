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
    left: dict[tuple[str, int, str], list[Finding]] = {}
    for finding in findings:
        left.setdefault((finding.file, finding.line, finding.rule), []).append(finding)
    # Where there are errors, not every rule was asked.
    with_errors = {finding.file for finding in findings if finding.severity == "error"}
    about_comments = []
    for file, lines in sources.items():
        for comment in _comments(file, lines):
            if isinstance(comment, Finding):
                about_comments.append(comment)
            elif comment.until < today:
                said = f"ended on {comment.until}"
                about_comments.append(_about(file, comment.at, "expired", said, "mend what it ignores"))
            elif not left.pop((file, comment.line, comment.rule), None) and file not in with_errors:
                said = "there is nothing to ignore"
                about_comments.append(_about(file, comment.at, "unused", said, "remove the comment"))
    return sorted([*(finding for found in left.values() for finding in found), *about_comments])


def _comments(file: str, lines: Sequence[str]) -> Iterator[_Ignore | Finding]:
    for index, meant in _candidates(lines):
        line = lines[index]
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
        yield _Ignore(rest["rule"], meant + 1, day, at)


def _candidates(lines: Sequence[str]) -> list[tuple[int, int]]:
    """(index, index of the line it would speak of) of each line that may have such a comment."""
    found, next_line = [], -1  # the next that is no comment
    for index in range(len(lines) - 1, -1, -1):
        if not lines[index].lstrip().startswith("#"):
            next_line = index
        if "gpu-inference:" in lines[index]:
            found.append((index, next_line if next_line >= 0 else index))
    return found[::-1]


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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{baseline} is no report of `gpu-inference validate`", fix="write one with -o json > FILE"
        ) from error
    return [finding for finding in findings if (finding.rule, finding.file, finding.path) not in known]
