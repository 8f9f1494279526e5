"""The objects of every release a tree describes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_inference.diff.model import Fleet
from gpu_inference.errors import UserError
from gpu_inference.helm import Helm
from gpu_inference.inputs import subjects
from gpu_inference.inputs.source import is_ours
from gpu_inference.values.merge import merge_layers
from gpu_inference.values.parameters import ParameterError, with_parameters

Object = dict[str, Any]
# Rendered on top, for what models resolve to; it is no part of the release.
_RESOLVED = "debug.resolvedSpecs=true"


@dataclass(frozen=True, slots=True)
class Rendered:
    """Objects by (kind with its API's group, namespace, name), and the GPUs they take; or why there are none."""

    objects: Mapping[tuple[str, str, str], Object] = field(default_factory=dict)
    fleet: Fleet = field(default_factory=Fleet)
    error: str = ""


def releases(helm: Helm, tree: Path, paths: Sequence[Path]) -> Iterator[tuple[str, Rendered]]:
    """(name, what it renders to) of everything the files below `tree` install; files that are not there install
    nothing. UserError where the tree has no chart."""
    chart = tree / "chart"
    if not is_ours(chart):
        raise UserError(f"there is no chart of gpu-inference at chart/ in {tree}", fix="name a revision that has it")
    for path in paths:
        if not (tree / path).exists():
            continue
        for subject in subjects([tree / path]):
            name = subject.name.replace(f"{tree}/", "")
            broken = [problem for layer in subject.layers if not layer.complete for problem in layer.problems]
            if broken:
                yield name, Rendered(error=f"{broken[0].at.line}: {broken[0].message}")
                continue
            try:
                values = with_parameters(merge_layers([layer.tree for layer in subject.layers]), subject.parameters)
                yield name, _render(helm, chart, values.plain())
            except (UserError, ParameterError) as error:
                yield name, Rendered(error=str(error))


def _render(helm: Helm, chart: Path, values: Any) -> Rendered:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        found = helm.template("release", chart, [Path(file.name)], set_values=[_RESOLVED])
    objects = {}
    specs: dict[str, Any] = {}
    for item in found:
        meta = item["metadata"]
        if meta["name"].endswith("-resolved") and meta["labels"]["app.kubernetes.io/component"] == "debug":
            specs = {model: json.loads(text) for model, text in item.get("data", {}).items()}
        elif "helm.sh/hook" not in meta.get("annotations", {}):
            group = item["apiVersion"].rpartition("/")[0]
            kind = f"{item['kind']}.{group}" if group else item["kind"]
            objects[kind, meta.get("namespace", ""), meta["name"]] = item
    return Rendered(objects, _fleet(specs))


def _fleet(specs: Mapping[str, Any]) -> Fleet:
    fleet = Fleet()
    for spec in specs.values():
        scaling = spec["autoscaling"]
        gpus = int(spec["accelerator"]["count"])
        if spec["workload"] == "LeaderWorkerSet":
            gpus *= int(spec["parallelism"]["pipeline"])
        kind = (spec["accelerator"]["type"], spec["capacity"])
        bounds = [scaling["minReplicas"], scaling["maxReplicas"]] if scaling["enabled"] else [spec["replicas"]] * 2
        fleet.least[kind] = fleet.least.get(kind, 0) + int(bounds[0]) * gpus
        fleet.most[kind] = fleet.most.get(kind, 0) + int(bounds[1]) * gpus
    return fleet
