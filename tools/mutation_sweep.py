"""Breaks every values file in every single place, and counts the mutants that nobody notices, as JSON:
`python tools/mutation_sweep.py [--helm] [FILE …]`.

One at a time, each key is misspelled, each scalar gets another type, each word of an enumeration and each name of a
preset becomes an unknown one, and each number is negated. A mutant that `validate` has nothing new to say about has
escaped. tests/schema/mutation_waivers.yaml says which may, and why. With --helm, one mutant of each kind at each place
of the schema also goes to `helm template`, which must refuse what the schema refuses.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path as FilePath
from typing import Any

import yaml

from gpu_inference.errors import UserError
from gpu_inference.helm import Helm, find_helm
from gpu_inference.inputs import subjects
from gpu_inference.paths import CHART, ROOT, VALUES
from gpu_inference.report import Finding
from gpu_inference.schema.bundle import follow, source
from gpu_inference.validate.engine import Subject, check
from gpu_inference.values.loader import parse
from gpu_inference.values.tree import Path

WAIVERS = ROOT / "tests" / "schema" / "mutation_waivers.yaml"
FILES = sorted(VALUES.rglob("*.yaml"))

Schemas = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Mutant:
    """A values file with one thing broken. `place` is the path with what the user names as `*`, for example
    `models.*.env.*`; `below` are the files it goes over."""

    file: FilePath
    kind: str
    path: Path
    place: str
    change: str
    values: dict[str, Any]
    below: Sequence[FilePath]

    def __str__(self) -> str:
        return f"{self.file.name}: {self.kind} at {'.'.join(map(str, self.path))}: {self.change}"


def mutants(file: FilePath) -> Iterator[Mutant]:
    """Every mutant of a values file."""
    ((*below, document),) = [subject.layers for subject in subjects([file])]
    values = document.tree.plain()
    for path, place, schemas in _walk(values, [source()[0]], (), ""):
        old = _at(values, path)
        named = [("key", misspelled(path[-1]))] if isinstance(path[-1], str) else []
        for kind, new in (*named, *_broken(old, schemas)):
            broken = copy.deepcopy(values)
            parent = _at(broken, path[:-1])
            if kind == "key":
                parent[new] = parent.pop(path[-1])
            else:
                parent[path[-1]] = new
            change = f"{path[-1]} -> {new}" if kind == "key" else f"{json.dumps(old)} -> {json.dumps(new)}"
            yield Mutant(file, kind, path, place, change, broken, [FilePath(layer.file) for layer in below])


def escapes(some: Iterable[Mutant]) -> Iterator[tuple[Mutant, list[Finding]]]:
    """Each mutant with what `validate` finds that it does not find in the file as it is."""
    for mutant in some:
        yield mutant, [f for f in _findings(mutant) if (f.rule, f.path) not in _known(mutant.file)]


def waived(mutant: Mutant, waivers: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a mutant may escape; in a waiver's places `**` stands for any number of keys."""
    return any(
        mutant.kind in waiver["kinds"]
        and any(re.fullmatch(re.escape(place).replace(r"\*\*", ".*"), mutant.place) for place in waiver["places"])
        for waiver in waivers
    )


def read_waivers() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(WAIVERS.read_text(encoding="utf-8"))
    return found


def one_of_each(some: Iterable[Mutant]) -> Iterator[Mutant]:
    """The first mutant of each kind at each place."""
    seen = set()
    for mutant in some:
        if (mutant.kind, mutant.place) not in seen:
            seen.add((mutant.kind, mutant.place))
            yield mutant


def refused(helm: Helm, mutant: Mutant) -> bool:
    """Whether Helm refuses to render a mutant."""
    with tempfile.TemporaryDirectory() as folder:
        file = FilePath(folder, "values.yaml")
        file.write_text(json.dumps(mutant.values), encoding="utf-8")
        try:
            helm.template("m", CHART, layers=[*mutant.below, file])
        except UserError:
            return True
    return False


def _findings(mutant: Mutant) -> Iterable[Finding]:
    (*below, _) = next(iter(subjects([mutant.file]))).layers
    return check([Subject([*below, parse(json.dumps(mutant.values).encode(), str(mutant.file))])]).findings


@cache
def _known(file: FilePath) -> set[tuple[str, str]]:
    return {(finding.rule, finding.path) for finding in check(subjects([file])).findings}


def _walk(value: Any, schemas: Schemas, path: Path, place: str) -> Iterator[tuple[Path, str, Schemas]]:
    """Path, place and schemas of everything below a value. Below what the schema leaves open there are none."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children:
        below, name = _below(schemas, step)
        here = f"{place}.{name}".lstrip(".")
        yield (*path, step), here, below
        yield from _walk(child, below, (*path, step), here)


def _below(schemas: Schemas, step: str | int) -> tuple[Schemas, str]:
    known, free = [], []
    for schema in schemas:
        if isinstance(step, int):
            free += _choices(schema.get("items"))
        else:
            known += _choices(schema.get("properties", {}).get(step))
            free += _choices(schema.get("additionalProperties"))
    return (known, str(step)) if known else (free, "*") if free or isinstance(step, int) else ([], str(step))


def _choices(schema: Any) -> Iterator[Mapping[str, Any]]:
    """A schema and the alternatives it offers; nothing for a schema that says nothing."""
    if isinstance(schema, dict):
        whole = follow(schema)
        yield {**whole, "isName": schema.get("$ref") == "#/$defs/presetName"}
        for part in (*whole.get("anyOf", ()), *whole.get("oneOf", ())):
            yield from _choices(part)


def _broken(old: Any, schemas: Schemas) -> Iterator[tuple[str, Any]]:
    """(kind, what to write instead) of every mutation of a scalar."""
    if isinstance(old, bool):
        yield "type", str(old).lower()
    elif isinstance(old, str):
        yield "type", 12345
        if any(old in schema.get("enum", ()) for schema in schemas):
            yield "enum", f"{old}x"
        elif any(schema["isName"] for schema in schemas):
            yield "preset", f"{old}x"
    elif isinstance(old, int | float):
        yield "type", str(old)
        if old:
            yield "negated", -old


def misspelled(key: str) -> str:
    """Two letters changed places; where all are the same, one too many."""
    for index in range(len(key) // 2, len(key) - 1):
        if key[index] != key[index + 1]:
            return f"{key[:index]}{key[index + 1]}{key[index]}{key[index + 2 :]}"
    return f"{key}x"


def _at(values: Any, path: Path) -> Any:
    for step in path:
        values = values[step]
    return values


def sweep(files: Iterable[FilePath], helm: Helm | None = None) -> dict[str, Any]:
    """The report: how many mutants there are, were found and escaped, of all and by kind; which escapes are waived,
    and by which waiver; which found ones Helm renders all the same."""
    waivers, by_kind = read_waivers(), {}
    escaped, accepted, used = [], [], Counter[int]()
    everything = [mutant for file in files for mutant in mutants(file)]
    first = {str(mutant) for mutant in one_of_each(everything)}
    tried = 0
    for mutant, findings in escapes(everything):
        kind = by_kind.setdefault(mutant.kind, {"mutants": 0, "found": 0, "waived": 0, "escaped": 0})
        waiver = next((number for number, waiver in enumerate(waivers) if waived(mutant, [waiver])), None)
        outcome = "found" if findings else "escaped" if waiver is None else "waived"
        kind["mutants"] += 1
        kind[outcome] += 1
        if outcome == "escaped":
            escaped.append(str(mutant))
        if outcome == "waived":
            used[waiver or 0] += 1
        if helm and str(mutant) in first and any(finding.severity == "error" for finding in findings):
            tried += 1
            if not refused(helm, mutant):
                accepted.append({"mutant": str(mutant), "rules": sorted({finding.rule for finding in findings})})
    total = {key: sum(kind[key] for kind in by_kind.values()) for key in ("mutants", "found", "waived", "escaped")}
    return {
        **total,
        "escapeRate": round(total["escaped"] / max(1, total["mutants"]), 4),
        "escapeRateWithWaived": round((total["escaped"] + total["waived"]) / max(1, total["mutants"]), 4),
        "byKind": by_kind,
        "escapes": escaped,
        "waivers": [
            {"places": waiver["places"], "kinds": waiver["kinds"], "mutants": used[number], "reason": waiver["reason"]}
            for number, waiver in enumerate(waivers)
        ],
        **({"helm": {"tried": tried, "accepted": accepted}} if helm else {}),
    }


def main() -> int:
    """Prints the report; exit code 1 where something escapes that is not waived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=FilePath, metavar="FILE", help="default: all of values/")
    parser.add_argument("--helm", action="store_true", help="also ask Helm, about a mutant of each kind and place")
    args = parser.parse_args()
    try:
        report = sweep(args.files or FILES, Helm(find_helm()) if args.helm else None)
    except UserError as error:
        print(f"error: {error.message}\nfix: {error.fix}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report, indent=2))
    return 1 if report["escaped"] or report.get("helm", {}).get("accepted") else 0


if __name__ == "__main__":
    sys.exit(main())
