"""The chart's presets: runtimes, accelerators and clouds, one YAML file each, and the values' own on top."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from gpu_inference.errors import UserError
from gpu_inference.paths import CHART
from gpu_inference.values.loader import load

Kind = Literal["runtimes", "accelerators", "clouds"]
KINDS: tuple[Kind, ...] = ("runtimes", "accelerators", "clouds")


def load_presets(kind: Kind, values: Mapping[str, Any] | None = None, chart: Path = CHART) -> dict[str, dict[str, Any]]:
    """All presets of a kind by name: the chart's files, and `values[kind]` merged over them. They are read once and
    shared: nothing may change them."""
    presets = dict(_files(kind, chart))
    for name, own in (values or {}).get(kind, {}).items():
        presets[name] = overlay(presets.get(name, {}), own)
    return presets


def overlay(below: Any, above: Any) -> Any:
    """`above` over `below` as sprig's mustMergeOverwrite does it: maps are merged, all else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return copied(above)
    merged = dict(below)
    for key, value in above.items():
        merged[key] = overlay(merged[key], value) if key in merged else copied(value)
    return merged


def copied(value: Any) -> Any:
    """copy.deepcopy of plain data, ten times as fast."""
    if isinstance(value, dict):
        return {key: copied(child) for key, child in value.items()}
    return [copied(child) for child in value] if isinstance(value, list) else value


@cache
def _files(kind: Kind, chart: Path) -> dict[str, dict[str, Any]]:
    presets = {}
    for path in sorted((chart / kind).glob("*.yaml")):
        document = load(path)
        if document.problems:
            problem = document.problems[0]
            raise UserError(f"{problem.at}: {problem.message}", fix=problem.fix)
        presets[path.stem] = document.tree.plain()
    return presets
