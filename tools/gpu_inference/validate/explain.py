"""`gpu-inference rules`: what `validate` looks for, and why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gpu_inference.errors import UserError

if TYPE_CHECKING:
    from gpu_inference.validate.catalogue import Rule

_EPILOG = """\
An ID is a rule, as findings name it in brackets, or the number of a failure known from the field, such as PRB002.
"""
_HEAD = ("rule", "severity", "needs", "summary")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("id", nargs="?", metavar="ID", help="a rule or a number; without it, all rules")
    parser.add_argument(
        "-o", "--output", choices=("text", "json", "markdown"), default="text", help="format (default: text)"
    )


def run(args: argparse.Namespace) -> int:
    from gpu_inference.validate.catalogue import catalogue, dropped

    if args.id is None:
        sys.stdout.write(_TABLES[args.output](list(catalogue().values())))
        return 0
    rules, code = _find(args.id), args.id.upper()
    reason = "" if rules else dropped()[code]
    write = {"text": _entries, "json": _json, "markdown": _markdown_entries}[args.output]
    sys.stdout.write(_dropped(code, reason, args.output) if reason else write(rules))
    return 0


def _find(wanted: str) -> Sequence[Rule]:
    """The rule of this name, or those of this number; none for a number without rules. UserError for neither."""
    from difflib import get_close_matches

    from gpu_inference.validate.catalogue import catalogue, dropped, numbers

    rules, code = catalogue(), wanted.upper()
    if wanted.lower() in rules:
        return [rules[wanted.lower()]]
    found = [rule for rule in rules.values() if code in rule.codes]
    if found or code in dropped():
        return found
    known = {word.lower(): word for word in (*rules, *numbers())}
    near = [known[word] for word in get_close_matches(wanted.lower(), known)]
    message = f"no rule is called {wanted}"
    raise UserError(message, fix=f"use {' or '.join(near)}" if near else "`gpu-inference rules` lists all")


def _areas(rules: Sequence[Rule]) -> Mapping[str, list[Rule]]:
    areas: dict[str, list[Rule]] = {}
    for rule in rules:
        areas.setdefault(rule.area, []).append(rule)
    return areas


def _row(rule: Rule) -> tuple[str, ...]:
    return rule.name, ", ".join(rule.severities), rule.needs, rule.summary


def _table(rules: Sequence[Rule]) -> str:
    rows = [_row(rule) for rule in rules]
    widths = [max(len(row[column]) for row in (_HEAD, *rows)) for column in range(3)]

    def lines() -> Iterator[str]:
        for area, own in _areas(rules).items():
            yield f"{area}:"
            for rule in own:
                *cells, summary = _row(rule)
                padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
                yield f"  {'  '.join(padded)}  {summary}"

    return "\n".join(lines()) + "\n"


def _markdown_table(rules: Sequence[Rule]) -> str:
    parts = []
    for area, own in _areas(rules).items():
        rows = "".join(f"| {' | '.join((f'`{name}`', *rest))} |\n" for name, *rest in map(_row, own))
        parts.append(f"## {area.capitalize()}\n\n| {' | '.join(_HEAD)} |\n{'|---' * len(_HEAD)}|\n{rows}")
    return "\n".join(parts)


def _json(rules: Sequence[Rule]) -> str:
    return json.dumps({"rules": [rule.as_json() for rule in rules]}, indent=2, ensure_ascii=False) + "\n"


def _entries(rules: Sequence[Rule]) -> str:
    return "\n".join(map(_entry, rules))


def _entry(rule: Rule) -> str:
    codes = f" · {', '.join(rule.codes)}" if rule.codes else ""
    lines = [
        f"{rule.name}  {', '.join(rule.severities)} · needs {rule.needs}{codes}",
        f"  {rule.summary}",
        f"  {rule.why}",
    ]
    if rule.example:
        lines += ["", *(f"      {line}" for line in rule.example.splitlines())]
    return "\n".join([*lines, "", *(f"  {url}" for url in rule.evidence)]) + "\n"


def _markdown_entries(rules: Sequence[Rule]) -> str:
    return "\n".join(map(_markdown_entry, rules))


def _markdown_entry(rule: Rule) -> str:
    codes = f"; {', '.join(rule.codes)}" if rule.codes else ""
    example = f"\n```yaml\n{rule.example.strip()}\n```\n" if rule.example else ""
    links = "".join(f"- <{url}>\n" for url in rule.evidence)
    facts = f"{', '.join(rule.severities)}; needs {rule.needs}{codes}"
    return f"## {rule.name}\n\n{facts}\n\n{rule.summary} {rule.why}\n{example}\n{links}"


def _dropped(code: str, reason: str, output: str) -> str:
    if output == "json":
        return json.dumps({"code": code, "dropped": reason}, indent=2, ensure_ascii=False) + "\n"
    return f"{code} needs no rule: {reason}\n"


_TABLES: Mapping[str, Callable[[Sequence[Rule]], str]] = {
    "text": _table,
    "json": _json,
    "markdown": _markdown_table,
}
