"""The resolved model as the values API promises it, computed from the data files alone.

Deliberately not `gpu_inference.resolve`: a naive reading of chart/values.yaml's one line of precedence, so that the
chart is judged by something that shares no code with it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from gpu_inference.paths import CHART

from .matrix import Case
from .render import load_yaml

Spec = dict[str, Any]


def over(base: Any, top: Any) -> Any:
    """top over base: maps merge key by key, everything else is replaced."""
    if isinstance(base, dict) and isinstance(top, dict):
        return {k: over(base[k], top[k]) if k in base and k in top else {**base, **top}[k] for k in {**base, **top}}
    return top


def kept(entries: Spec) -> Spec:
    """A map of the user's own entries without those that `false` removed."""
    return {k: v for k, v in entries.items() if v is not False}


def path(spec: Any, dotted: str) -> Any:
    """The value at a dotted path, None where nothing is."""
    for key in dotted.split("."):
        if not isinstance(spec, dict) or key not in spec:
            return None
        spec = spec[key]
    return spec


@functools.cache
def _values(layers: tuple[Path, ...]) -> Spec:
    values = load_yaml(CHART / "values.yaml")
    for layer in layers:
        values = over(values, load_yaml(layer) or {})
    return values


@functools.cache
def _file(kind: str, name: str) -> Spec:
    file = CHART / kind / f"{name}.yaml"
    return load_yaml(file) if file.exists() else {}


def _preset(values: Spec, kind: str, name: str) -> Spec:
    return over(_file(kind, name), values[kind].get(name, {}))


def _scheduling(cloud: Spec, accelerator: Spec, capacity: str) -> Spec:
    """What selects the cloud's nodes: the lowest layer of a model."""
    label = cloud["productLabels"][accelerator["resource"]]
    own = cloud["onDemand" if capacity == "mixed" else capacity]  # of mixed, this is the base
    return {
        "nodeSelector": {label: accelerator["nodeLabels"][label], **cloud["nodeSelector"], **own["nodeSelector"]},
        "absentNodeLabels": own["absentNodeLabels"],
        "tolerations": {**cloud["tolerations"], **own["tolerations"]},
    }


@functools.cache
def specs(case: Case) -> dict[str, Spec]:
    """Model name -> resolved spec, with its presets under `_runtime`, `_accelerator` and `_cloud`."""
    values = _values(case.layers)
    cloud = _preset(values, "clouds", values["cloud"])
    result = {}
    for name, model in values["models"].items():
        said = over(values["modelDefaults"], model)
        runtime = _preset(values, "runtimes", said["runtime"])
        accelerator = _preset(values, "accelerators", said["accelerator"]["type"])
        spec = _scheduling(cloud, accelerator, said["capacity"])
        for top in (values["modelDefaults"], runtime.get("defaults", {}), accelerator.get("defaults", {}), model):
            spec = over(spec, top)
        spec = over({"model": {"servedName": name}}, spec)
        result[name] = {**spec, "_runtime": runtime, "_accelerator": accelerator, "_cloud": cloud}
    return result
