"""From a subject's values to what is wrong with the objects they become."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART
from gpu_inference.resolve import resolve_values
from gpu_inference.validate.rendered import object_rules, pod_rules
from gpu_inference.validate.rendered.fields import Version, problems
from gpu_inference.validate.rendered.objects import Object
from gpu_inference.validate.rendered.release import Fault, Release, release
from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.values.tree import format_path

_RULES = (*pod_rules.RULES, *object_rules.RULES)
# It counts in names alone; a short one, so that none is too long that would do.
_RELEASE = "llm"
# A line of chart/templates/check: `models.chat.replicas: what is wrong. Fix: what to do.`
_REFUSAL = re.compile(r"(?:- )?models\.(?P<model>[a-z0-9-]+)[^:]*: (?P<message>.+?)\. Fix: (?P<fix>.+?)\.?")


@dataclass(frozen=True, slots=True)
class Renderer:
    """Runs helm for one subject at a time; plain data, so that threads and processes can have it."""

    helm: Helm

    def mistakes(self, given: Any, values: Mapping[str, Any], version: Version | None = None) -> list[Mistake]:
        """What is wrong with the objects that `given` (a user's values) become; `values` are the same, merged over the
        chart's defaults, and satisfy the schema and its rules."""
        try:
            objects = self._render(given, version)
        except UserError as error:
            return list(_refusals(error.message))
        return list(broken(objects, values, version))

    def _render(self, given: Any, version: Version | None) -> list[Object]:
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(given, file)
            file.flush()
            exact = f"{version[0]}.{version[1]}.0" if version else None
            return self.helm.template(_RELEASE, CHART, [Path(file.name)], kube_version=exact)


def _refusals(text: str) -> Iterator[Mistake]:
    """Helm's words; what the chart's own check says, a line a problem, at the model it is about."""
    said = [found for line in text.splitlines() if (found := _REFUSAL.fullmatch(line.strip()))]
    for found in said:
        yield Mistake("render", ("models", found["model"]), f"helm refuses it: {found['message']}", found["fix"])
    if not said:
        words = " ".join(text.split())
        yield Mistake("render", (), f"helm refuses the values: {words}", "correct them; helm template says the same")


def broken(objects: Sequence[Object], values: Mapping[str, Any], version: Version | None = None) -> Iterator[Mistake]:
    """Mistakes in rendered objects, at the values they come from. Objects that are alike break a rule once."""
    found = release(objects, values, resolve_values(values)["models"])
    seen: dict[Mistake, None] = {}
    for fault in _faults(found, version):
        seen.setdefault(_mistake(found, fault))
    yield from seen


def _faults(found: Release, version: Version | None) -> Iterator[Fault]:
    wrong = []
    for obj in found.objects:
        faults = list(_fields(obj, version))
        yield from faults
        wrong += [obj] if faults else []
    # The other rules take fields for what they should be.
    right = [obj for obj in found.objects if not any(obj is each for each in wrong)]
    rest = Release(right, found.specs, found.origins, [pod for pod in found.pods if any(pod.obj is o for o in right)])
    for rule in _RULES:
        yield from rule(rest)


def _fields(obj: Object, version: Version | None) -> Iterator[Fault]:
    for problem in problems(obj, version):
        rule = "kubernetes-kind" if problem.path[-1:] in (("apiVersion",), ("kind",)) else "kubernetes-field"
        yield Fault(rule, obj, problem.path, problem.message, problem.fix, about_key=problem.about_key)


def _mistake(found: Release, fault: Fault) -> Mistake:
    path = found.origins.path(fault.obj, fault.path)
    message, exact = fault.message, bool(path) and path[-1:] == fault.path[-1:]
    if not exact:
        message += f" ({fault.obj['kind']}, {format_path(fault.path)[2:] or 'as a whole'})"
    made = Mistake(fault.rule, path, message, fault.fix, about_key=fault.about_key and exact)
    return replace(made, severity=fault.severity) if fault.severity else made
