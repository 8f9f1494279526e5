"""Helm runs once per (major, chart, layers, flags) in a session; tests select in the objects it rendered."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu_inference.errors import UserError
from gpu_inference.helm import Helm, find_helm
from gpu_inference.paths import CHART

from .frozen import freeze

RELEASE = "llm"
NAMESPACE = "serving"
MAJORS = (3, 4)

_scratch = tempfile.TemporaryDirectory(prefix="gpu-inference-render-")


@functools.cache
def helm(major: int = 4) -> Helm:
    """The helm binary of a major version, found or built once."""
    return Helm(find_helm(major))


@functools.cache
def _layer(text: str) -> Path:
    path = Path(_scratch.name, f"values-{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml")
    path.write_text(text)
    return path


def as_layer(values: dict[str, Any] | str) -> Path:
    """A values file with these values; a string is taken as the file's text."""
    return _layer(values if isinstance(values, str) else json.dumps(values, ensure_ascii=False))


@functools.cache
def _template(major: int, chart: Path, layers: tuple[Path, ...], sets: tuple[str, ...], release: str) -> Any:
    try:
        objects = helm(major).template(release, chart, layers=list(layers), namespace=NAMESPACE, set_values=list(sets))
    except UserError as error:
        return error
    return freeze(objects)


def render(
    values: dict[str, Any] | str | None = None,
    *,
    layers: Sequence[Path] = (),
    set_values: Iterable[str] = (),
    major: int = 4,
    chart: Path = CHART,
    release: str = RELEASE,
) -> list[dict[str, Any]]:
    """The objects `helm template` makes of the layers, then of the values (last, so they win). Raises UserError."""
    files = (*layers, as_layer(values)) if values is not None else tuple(layers)
    result = _template(major, chart, files, tuple(set_values), release)
    if isinstance(result, UserError):
        raise result
    return result


def render_error(values: dict[str, Any] | str | None = None, **kwargs: Any) -> str:
    """Helm's words about values it must refuse."""
    with pytest.raises(UserError) as caught:
        render(values, **kwargs)
    return f"{caught.value.message}\n{caught.value.fix}"


def scratch_dir(name: str) -> Path:
    """A private folder that goes with the session."""
    path = Path(_scratch.name, name)
    path.mkdir(exist_ok=True)
    return path


@functools.cache
def load_yaml(path: Path) -> Any:
    """A data file of the project, unchangeable; None where it is empty."""
    return freeze(yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
