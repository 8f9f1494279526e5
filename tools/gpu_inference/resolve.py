"""What each model becomes: the chart's precedence in Python, so that tools need no Helm to know it.

    modelDefaults < runtime preset's defaults < accelerator preset's defaults < models.<name>

Mirrors the chart's templates/_lib; a test compares both on every values file through the chart's debug ConfigMap.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.paths import CHART
from gpu_inference.values.loader import Document, load
from gpu_inference.values.merge import helm_values
from gpu_inference.values.presets import KINDS, load_presets, overlay
from gpu_inference.values.tree import Tree

Spec = dict[str, Any]


def resolve(layers: Sequence[Path] = ()) -> dict[str, Any]:
    """The release that `helm template CHART -f layer …` describes: {"cloud", "cloudPreset", "values", "models":
    {name: spec}}.

    UserError for a file that cannot be read or parsed, and for an unknown runtime, accelerator or cloud.
    """
    documents = [load(layer) for layer in layers]
    for problem in (problem for document in documents for problem in document.problems):
        raise UserError(f"{problem.at}: {problem.message}", fix=problem.fix)
    return resolve_values(helm_values(chart_defaults().tree, [document.tree for document in documents]).plain())


def resolve_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same for values that are merged already, as Helm's `.Values` holds them."""
    runtimes, accelerators, clouds = (load_presets(kind, values) for kind in KINDS)
    cloud = values["cloud"]
    cloud_preset = _pick("cloud", cloud, clouds, "$.cloud")
    models = {}
    for name, own in values["models"].items():
        said = overlay(values["modelDefaults"], own)
        at = f"$.models.{name}"
        runtime = _pick("runtime", said["runtime"], runtimes, f"{at}.runtime")
        accelerator = _pick("accelerator", said["accelerator"]["type"], accelerators, f"{at}.accelerator.type")
        models[name] = _spec(name, values["modelDefaults"], runtime, accelerator, own)
    return {"cloud": cloud, "cloudPreset": cloud_preset, "values": dict(values), "models": models}


def _spec(name: str, defaults: Mapping[str, Any], runtime: Spec, accelerator: Spec, own: Mapping[str, Any]) -> Spec:
    spec: Spec = {}
    for layer in (defaults, runtime.get("defaults", {}), accelerator.get("defaults", {}), own):
        spec = overlay(spec, layer)
    spec["model"].setdefault("servedName", name)
    return spec | {"name": name, "runtimePreset": runtime, "acceleratorPreset": accelerator}


def _pick(what: str, name: str, known: Mapping[str, Spec], path: str) -> Spec:
    if name not in known:
        raise UserError(f"{path}: unknown {what} {name!r}", fix=f"use one of {', '.join(sorted(known))}", exit_code=1)
    return known[name]


@cache
def chart_defaults() -> Document:
    """chart/values.yaml with positions."""
    return load(CHART / "values.yaml")


def merged(layers: Sequence[Tree]) -> Tree:
    """The layers over the chart's defaults, as Helm checks them against the schema."""
    return helm_values(chart_defaults().tree, layers)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--values", type=Path, action="append", default=[], metavar="LAYER", help="a values file; later ones win"
    )
    parser.add_argument("model", nargs="?", help="only this model")


def run(args: argparse.Namespace) -> int:
    release = resolve(args.values)
    models = release["models"]
    if args.model and args.model not in models:
        raise UserError(f"no model {args.model!r}", fix=f"use one of {', '.join(models) or '(the values define none)'}")
    print(json.dumps(models[args.model] if args.model else release, indent=2))
    return 0
