"""The resolved model as the values API promises it, computed from the data files alone.

Deliberately not `gpu_inference.resolve`: a third, naive reading of the one-line precedence
`modelDefaults < runtime defaults < accelerator defaults < models.<name>`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from gpu_inference.paths import CHART

from .matrix import Case
from .render import load_yaml


def over(base: Any, top: Any) -> Any:
    """top over base: maps merge key by key, everything else is replaced."""
    if isinstance(base, dict) and isinstance(top, dict):
        return {k: over(base[k], top[k]) if k in base and k in top else {**base, **top}[k] for k in {**base, **top}}
    return top


@functools.cache
def _values(layers: tuple[Path, ...]) -> dict[str, Any]:
    values = load_yaml(CHART / "values.yaml")
    for layer in layers:
        values = over(values, load_yaml(layer) or {})
    return values


@functools.cache
def _preset(kind: str, name: str) -> dict[str, Any]:
    file = CHART / kind / f"{name}.yaml"
    return load_yaml(file) if file.exists() else {}


@functools.cache
def specs(case: Case) -> dict[str, dict[str, Any]]:
    """Model name -> resolved spec, with its presets under `_runtime`, `_accelerator` and `_cloud`."""
    values = _values(case.layers)
    result = {}
    for name, model in values["models"].items():
        presets = {}
        for kind, chosen in [
            ("runtimes", over(values["modelDefaults"], model)["runtime"]),
            ("accelerators", over(values["modelDefaults"], model)["accelerator"]["type"]),
            ("clouds", values["cloud"]),
        ]:
            presets[kind] = over(_preset(kind, chosen), values.get(kind, {}).get(chosen, {}))
        spec = values["modelDefaults"]
        for top in (presets["runtimes"].get("defaults", {}), presets["accelerators"].get("defaults", {}), model):
            spec = over(spec, top)
        result[name] = {
            **spec,
            "_runtime": presets["runtimes"],
            "_accelerator": presets["accelerators"],
            "_cloud": presets["clouds"],
        }
    return result


def path(spec: Any, dotted: str) -> Any:
    """The value at a dotted path, None where nothing is."""
    for key in dotted.split("."):
        if not isinstance(spec, dict) or key not in spec:
            return None
        spec = spec[key]
    return spec
