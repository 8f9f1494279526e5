"""From documents to a report; reads nothing but the documents it is given and the chart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from gpu_inference.report import Finding, Report
from gpu_inference.resolve import merged
from gpu_inference.validate.accepted import without_ignored
from gpu_inference.validate.catalogue import catalogue
from gpu_inference.validate.rules import broken_rules, unknown_names
from gpu_inference.validate.schema_errors import Mistake, mistakes
from gpu_inference.values.loader import Document, Problem
from gpu_inference.values.merge import merge_layers
from gpu_inference.values.parameters import Parameter, ParameterError, with_parameters
from gpu_inference.values.tree import Tree, format_path


@dataclass(frozen=True, slots=True)
class Subject:
    """What belongs together: layers, and single values set over them. `label` is what reports call it."""

    layers: Sequence[Document]
    label: str = ""
    parameters: Sequence[Parameter] = ()

    @property
    def name(self) -> str:
        return self.label or " + ".join(layer.file for layer in self.layers)


def check(subjects: Iterable[Subject], today: date | None = None) -> Report:
    """A report on all subjects; what several of them share is reported once. `today` decides which of the comments that
    ignore a finding have ended."""
    findings: dict[Finding, None] = {}
    names = []
    sources: dict[str, list[str]] = {}
    for subject in subjects:
        names.append(subject.name)
        findings |= dict.fromkeys(_check(subject))
        sources |= {layer.file: layer.lines for layer in subject.layers}
    return Report(without_ignored(list(findings), sources, today or date.today()), names, sources)


def _check(subject: Subject) -> list[Finding]:
    problems = [_of_problem(problem) for layer in subject.layers for problem in layer.problems]
    if not all(layer.complete for layer in subject.layers):
        return problems
    tree = merge_layers([layer.tree for layer in subject.layers])
    try:
        tree = merged([with_parameters(tree, subject.parameters)])
    except ParameterError as error:
        return [*problems, _of_problem(Problem("parameter", str(error), "write it as in helm --set", error.at))]
    values = tree.plain()
    found = list(mistakes(values))
    if found:  # other rules across fields take the types for granted
        wrong = {mistake.path for mistake in found}
        found += [mistake for mistake in unknown_names(values) if mistake.path not in wrong]
    else:
        found += broken_rules(values)
    return problems + [_of_mistake(mistake, tree) for mistake in found]


def _of_problem(problem: Problem) -> Finding:
    at = problem.at
    return Finding(
        at.file, at.line, at.column, f"yaml-{problem.rule}", format_path(problem.path), problem.message, problem.fix
    )


def _of_mistake(mistake: Mistake, tree: Tree) -> Finding:
    place = tree.find(mistake.path)
    at = place.key_at if mistake.about_key and place.key_at else place.at
    where = (at.file, at.line, at.column, mistake.rule, format_path(mistake.path))
    severity = mistake.severity or catalogue()[mistake.rule].severity
    return Finding(*where, mistake.message, mistake.fix, severity)
