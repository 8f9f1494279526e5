"""From documents to a report; reads nothing but the documents it is given and the chart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
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


def check(subjects: Iterable[Subject], today: date | None = None, context: Context = NOTHING_KNOWN) -> Report:
    """A report on all subjects; what several of them share is reported once. `today` decides which of the comments that
    ignore a finding have ended; `context` is what is known beside the values."""
    findings: dict[Finding, None] = {}
    names = []
    sources: dict[str, list[str]] = {}
    for subject, found in _all(subjects, context):
        names.append(subject.name)
        findings |= dict.fromkeys(found)
        sources |= {layer.file: layer.lines for layer in subject.layers}
    return Report(without_ignored(list(findings), sources, today or date.today()), names, sources)


def _all(subjects: Iterable[Subject], context: Context) -> Iterator[tuple[Subject, list[Finding]]]:
    if context.renderer is None:
        yield from ((subject, _check(subject, context)) for subject in subjects)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # it is helm that takes the time
        yield from pool.map(lambda subject: (subject, _check(subject, context)), subjects)


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
    found = list(mistakes(values))
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
    at = place.key_at if mistake.about_key and place.key_at else place.at
    where = (at.file, at.line, at.column, mistake.rule, redacted(format_path(mistake.path)))
    severity = mistake.severity or catalogue()[mistake.rule].severity
    return Finding(*where, redacted(mistake.message), redacted(mistake.fix), severity)
