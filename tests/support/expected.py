"""The resolved model as the values API promises it, computed from the data files alone.

Deliberately not `gpu_inference.resolve`: a naive reading of chart/values.yaml's one line of precedence, so that the
chart is judged by something that shares no code with it.
"""

from __future__ import annotations

import functools
import json
import math
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


def part(spec: Spec, accelerator: Spec) -> float:
    """The share of a GPU that a pod has; 1 for whole ones."""
    gpu = spec["accelerator"]
    if gpu["sharing"] == "mig":
        return float(accelerator["mig"]["profiles"][gpu["mig"]["profile"]] / accelerator["memory"]["visibleMiB"])
    return 1.0 if gpu["sharing"] == "none" else 1.0 / gpu["shared"]["replicas"]


def _sizes(spec: Spec, accelerator: Spec, own: Spec) -> Spec:
    """What follows from the model's size and the share of a GPU, where neither model nor values' preset says it."""
    gpu, model, sizes = spec["accelerator"], spec["model"], Spec()
    share = part(spec, accelerator)
    if {"weightsDtype", "parametersBillion"} <= model.keys():
        byte = {"bfloat16": 2, "bf16": 2, "fp16": 2, "fp8": 1, "int4": 0.5625}[model["weightsDtype"]]
        disk = math.ceil(1.5 * byte * model["parametersBillion"] / gpu["count"])
        memory = disk + 8
    elif share < 1:
        disk = math.ceil(share * _gib(spec["storage"]["cache"]["sizeLimit"]))
        memory = max(8, math.ceil(share * _gib(spec["resources"]["memory"]["requests"])))
    else:
        return sizes
    if path(own, "storage.cache") is None:
        sizes["storage"] = {"cache": {"sizeLimit": f"{disk}Gi"}}
    sizes["resources"] = {"memory": {"requests": f"{memory}Gi", "limits": f"{math.ceil(memory * 1.25)}Gi"}}
    if share < 1:
        cores = max(2, math.ceil(share * spec["resources"]["cpu"]["requests"]))
        sizes["resources"]["cpu"] = {"requests": cores, "limits": cores * 1.25}
    return {**sizes, "resources": {k: v for k, v in sizes["resources"].items() if path(own, f"resources.{k}") is None}}


def _gib(size: str) -> float:
    return float(size.removesuffix("Gi"))


def _nodes(spec: Spec, accelerator: Spec, cloud: Spec) -> Spec:
    """nodeSelector with the labels of nodes that share GPUs, or have just so many, in place of the product's."""
    gpu, nodes = spec["accelerator"], dict(spec["nodeSelector"])
    label = cloud["productLabels"][accelerator["resource"]]
    product = accelerator["nodeLabels"][label]
    for name, by_count in accelerator.get("countLabels", {}).items():
        nodes = {name: by_count[str(gpu["count"])], **nodes}
    way = gpu["sharing"] + (gpu["mig"]["strategy"].title() if gpu["sharing"] == "mig" else "")
    way += "Renamed" if gpu["shared"]["renamed"] and gpu["sharing"] in ("timeSlicing", "mps") else ""
    if gpu["sharing"] == "none" and not gpu["dra"]:
        return nodes
    known = cloud.get("sharing", {}).get(accelerator["resource"], {}).get(way, {})
    if known or gpu["dra"]:
        nodes = {k: v for k, v in nodes.items() if (k, v) != (label, product)}
    if gpu["dra"]:
        return nodes
    marks = json.dumps(known)
    for word, value in (
        ("product", product),
        ("profile", gpu["mig"].get("profile")),
        ("replicas", gpu["shared"].get("replicas")),
    ):
        marks = marks.replace(f"{{{word}}}", str(value))
    return {**json.loads(marks), **nodes}


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
        image = {"image": runtime.get("images", {}).get(accelerator["resource"].split("/")[0], {})}
        presets = (runtime.get("defaults", {}), image, accelerator.get("defaults", {}))
        for top in (values["modelDefaults"], *presets, model):
            spec = over(spec, top)
        spec = over({"model": {"servedName": name}}, spec)
        own = over(values["accelerators"].get(said["accelerator"]["type"], {}).get("defaults", {}), model)
        spec = over(spec, _sizes(spec, accelerator, own))
        spec["nodeSelector"] = _nodes(spec, accelerator, cloud)
        result[name] = {**spec, "_runtime": runtime, "_accelerator": accelerator, "_cloud": cloud}
    return result
