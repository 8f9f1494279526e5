"""Selectors over rendered objects: plain functions, so a test reads as what it claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpu_inference.validate.rendered.objects import (
    MODEL_LABEL,
    WORKLOADS,
    Object,
    is_hook,
    model_of,
    name,
    of_kind,
    pods,
    selects,
)

# Those that the product has, for its own rules.
__all__ = ["MODEL_LABEL", "WORKLOADS", "Object", "is_hook", "model_of", "name", "of_kind", "selects"]

CAPACITY_LABEL = "gpu-inference.io/capacity"
SERVING = ("Deployment", "StatefulSet", "LeaderWorkerSet")  # kinds of `workload` whose pods the chart describes
OPERATED = ("RayService", "NIMService")  # and those that leave them to an operator


def is_headless(obj: Object) -> bool:
    """True for a Service that only gives pods names."""
    return obj["kind"] == "Service" and obj["spec"].get("clusterIP") == "None"


def component(obj: Object) -> str | None:
    """What an object is for: server, test, download …"""
    found: str | None = obj["metadata"].get("labels", {}).get("app.kubernetes.io/component")
    return found


def is_beside(obj: Object) -> bool:
    """True for a Deployment beside a model's own: of spot pods above an on-demand base, or of balloons."""
    labels = obj["metadata"].get("labels", {})
    return CAPACITY_LABEL in labels or labels.get("app.kubernetes.io/component") == "balloon"


def one(objects: list[Object], kind: str, model: str | None = None) -> Object:
    """The only object of a kind (and model)."""
    found = [o for o in of_kind(objects, kind) if model is None or model_of(o) == model]
    assert len(found) == 1, f"{len(found)} {kind} of {model}: {[name(o) for o in found]}"
    return found[0]


def maybe(objects: list[Object], kind: str, model: str) -> Object | None:
    """The object of a kind and model, or None; more than one is an error."""
    found = [o for o in of_kind(objects, kind) if model_of(o) == model]
    assert len(found) <= 1, [name(o) for o in found]
    return found[0] if found else None


def pod_templates(objects: list[Object]) -> list[tuple[str, Object]]:
    """(Kind/name, pod template) of everything that makes pods, test hooks included."""
    return [(pod.where, pod.template) for pod in pods(objects)]


def containers(pod: Object) -> list[Object]:
    """Every container of a pod template, init containers included."""
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def server(deployment: Object) -> Object:
    """The container that serves: the first, by Kubernetes' convention the default one."""
    return deployment["spec"]["template"]["spec"]["containers"][0]


def env_of(container: Object) -> dict[str, Object]:
    """Environment by name; the whole entry, since it may come from a Secret."""
    return {e["name"]: e for e in container.get("env", [])}


def walk(value: Any, path: str = "$") -> Iterator[tuple[str, Any]]:
    """(JSON path, value) of every node, containers first."""
    yield path, value
    if isinstance(value, dict):
        for k, v in value.items():
            yield from walk(v, f"{path}.{k}")
    elif isinstance(value, list):
        for i, v in enumerate(value):
            yield from walk(v, f"{path}[{i}]")
