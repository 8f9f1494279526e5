"""Rules about values that Argo CD or Flux installs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.values.tree import Path

_ARGO, _HELM = "argocd.argoproj.io/hook", "helm.sh/hook"


def release(values: Mapping[str, Any]) -> Iterator[Mistake]:
    """Hooks of two kinds: with one of its own among the objects, Argo CD takes no notice of Helm's."""
    found = {name: _annotations(obj) for name, obj in values["extraObjects"].items()}
    argo = [name for name, keys in found.items() if _ARGO in keys]
    for name, keys in found.items():
        # It runs no tests anyway.
        if argo and _HELM in keys and not str(keys[_HELM]).startswith("test"):
            path: Path = ("extraObjects", name, "metadata", "annotations", _HELM)
            message = f"extraObjects.{argo[0]} is a hook of Argo CD's own, beside which it ignores all of Helm's"
            yield Mistake("mixed-hooks", path, message, f"use {_ARGO} here, too", severity="warning")


def _annotations(obj: Any) -> Mapping[str, Any]:
    found = obj.get("metadata", {}).get("annotations") if isinstance(obj, Mapping) else None
    return found if isinstance(found, Mapping) else {}
