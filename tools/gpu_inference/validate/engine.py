"""From documents to a report; reads nothing but the documents it is given and the chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any

from gpu_inference.report import Finding, Report
from gpu_inference.resolve import merged
from gpu_inference.secrets import redacted
from gpu_inference.validate.accepted import without_ignored
from gpu_inference.validate.catalogue import catalogue
from gpu_inference.validate.context import NOTHING_KNOWN, Context
from gpu_inference.validate.rules import broken_rules, unknown_names
from gpu_inference.validate.schema_errors import Mistake, mistakes
from gpu_inference.validate.waiting import Wait, impatient
from gpu_inference.values.loader import Document, Problem
from gpu_inference.values.merge import merge_layers
from gpu_inference.values.parameters import Parameter, ParameterError, with_parameters
from gpu_inference.values.tree import Tree, format_path

# Of a file with more, the first ones say what it is: none of ours.
MAX_MISTAKES = 1000


@dataclass(frozen=True, slots=True)
class Subject:
    """What belongs together: layers, and single values set over them. `label` is what reports call it; `waits`: how
    long whoever installs it waits for its pods."""

    layers: Sequence[Document]
    label: str = ""
    parameters: Sequence[Parameter] = ()
    waits: tuple[Wait, ...] = ()

    @property
    def name(self) -> str:
        return self.label or " + ".join(layer.file for layer in self.layers)


@dataclass(frozen=True, slots=True)
class Judged:
    """A subject's name, its findings, and the lines of its files."""

    name: str
    findings: Sequence[Finding]
    sources: Mapping[str, Sequence[str]]


def check(subjects: Iterable[Subject], today: date | None = None, context: Context = NOTHING_KNOWN) -> Report:
    """A report on all subjects; what several of them share is reported once. `today` decides which of the comments that
    ignore a finding have ended; `context` is what is known beside the values."""
    return together((judge(subject, context) for subject in subjects), today)


def judge(subject: Subject, context: Context = NOTHING_KNOWN) -> Judged:
    """What is wrong with one subject."""
    return Judged(subject.name, _check(subject, context), {layer.file: layer.lines for layer in subject.layers})


def together(judged: Iterable[Judged], today: date | None = None) -> Report:
    """The report of check() on subjects that have been judged."""
    findings: dict[Finding, None] = {}
    names = []
    sources: dict[str, Sequence[str]] = {}
    for one in judged:
        names.append(one.name)
        findings |= dict.fromkeys(one.findings)
        sources |= one.sources
    return Report(without_ignored(list(findings), sources, today or date.today()), names, sources)


def _check(subject: Subject, context: Context) -> list[Finding]:
    problems = [_of_problem(problem) for layer in subject.layers for problem in layer.problems]
    if not all(layer.complete for layer in subject.layers):
        return problems
    tree = merge_layers([layer.tree for layer in subject.layers])
    try:
        given = with_parameters(tree, subject.parameters)
        tree = merged([given])
    except ParameterError as error:
        return [*problems, _of_problem(Problem("parameter", str(error), "write it as in helm --set", error.at))]
    values = tree.plain()
    found = list(islice(mistakes(values), MAX_MISTAKES))
    if found:  # other rules across fields take the types for granted
        wrong = {mistake.path for mistake in found}
        found += [mistake for mistake in unknown_names(values) if mistake.path not in wrong]
    else:
        found += broken_rules(values, context)
        if context.renderer:
            found += _of_objects(context, given, values, found)
        problems += impatient(subject.waits, values) if subject.waits else ()
    return problems + [_of_mistake(mistake, tree) for mistake in found]


def _of_objects(context: Context, given: Tree, values: Mapping[str, Any], known: Sequence[Mistake]) -> list[Mistake]:
    """What is wrong with the objects; that helm refuses to make any is no news where there are mistakes already."""
    assert context.renderer
    found = context.renderer.mistakes(given.plain(), values, context.kube_version)
    refused = any(mistake.rule == "render" for mistake in found)
    return [] if refused and any(mistake.severity in (None, "error") for mistake in known) else found


def _of_problem(problem: Problem) -> Finding:
    at = problem.at
    where = (at.file, at.line, at.column, f"yaml-{problem.rule}", redacted(format_path(problem.path)))
    return Finding(*where, redacted(problem.message), redacted(problem.fix))


def _of_mistake(mistake: Mistake, tree: Tree) -> Finding:
    place = tree.find(mistake.path)
    # What is not there is shown where it belongs: at the name of the map that lacks it, not at its first entry.
    lacking = bool(mistake.path) and tree.find(mistake.path[:-1]).child(mistake.path[-1]) is None
    at = place.key_at if (mistake.about_key or lacking) and place.key_at else place.at
    where = (at.file, at.line, at.column, mistake.rule, redacted(format_path(mistake.path)))
    severity = mistake.severity or catalogue()[mistake.rule].severity
    return Finding(*where, redacted(mistake.message), redacted(mistake.fix), severity)
