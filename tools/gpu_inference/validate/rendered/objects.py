"""Rendered objects: reading them, and selecting in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_inference.values.tree import Path

Object = dict[str, Any]

MODEL_LABEL = "gpu-inference.io/model"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet")
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod template {metadata, spec}, the object it is part of, and its path there. `role` tells those of one object
    apart."""

    obj: Object
    path: Path
    template: Object
    role: str = ""

    @property
    def where(self) -> str:
        """Kind/name, and /role where an object has several."""
        return f"{name(self.obj)}/{self.role}" if self.role else name(self.obj)

    def containers(self) -> Iterator[tuple[Path, Object]]:
        """(path below the template, container), in the order they start."""
        for group in ("initContainers", "containers"):
            for index, container in enumerate(self.template["spec"].get(group) or ()):
                yield ("spec", group, index), container


def name(obj: Object) -> str:
    """Kind/name, for messages."""
    return f"{obj['kind']}/{obj['metadata']['name']}"


def is_hook(obj: Object) -> bool:
    """True for objects Helm runs beside the release (tests)."""
    return "helm.sh/hook" in (lookup(obj, ("metadata", "annotations")) or {})


def model_of(obj: Object) -> str | None:
    """The model an object belongs to."""
    found = lookup(obj, ("metadata", "labels", MODEL_LABEL))
    return found if isinstance(found, str) else None


def of_kind(objects: Iterable[Object], *kinds: str, hooks: bool = False) -> list[Object]:
    """The release's objects of these kinds; hooks are left out unless asked for."""
    return [o for o in objects if o["kind"] in kinds and (hooks or not is_hook(o))]


def pods(objects: Iterable[Object]) -> Iterator[Pod]:
    """Every pod template of everything that makes pods, test hooks included; what has none where it should is left
    out."""
    for obj in objects:
        for path, role in _templates(obj):
            template = lookup(obj, path)
            if isinstance(template, dict) and isinstance(template.get("spec"), dict):
                yield Pod(obj, path, template, role)


def _templates(obj: Object) -> Iterator[tuple[Path, str]]:
    kind = obj["kind"]
    if kind in WORKLOADS:
        yield ("spec", "template"), ""
    elif kind == "CronJob":
        yield ("spec", "jobTemplate", "spec", "template"), ""
    elif kind == "Pod":
        yield (), ""
    elif kind == "LeaderWorkerSet":
        for role in ("leader", "worker"):
            yield ("spec", "leaderWorkerTemplate", f"{role}Template"), role
    elif kind == "RayService":
        ray: Path = ("spec", "rayClusterConfig")
        yield (*ray, "headGroupSpec", "template"), "head"
        groups = lookup(obj, (*ray, "workerGroupSpecs"))
        for index, group in enumerate(groups if isinstance(groups, list) else ()):
            yield (*ray, "workerGroupSpecs", index, "template"), str(lookup(group, ("groupName",)))


def probes(container: Object) -> Iterator[tuple[Path, Object]]:
    """(path, handler with httpGet, tcpSocket, grpc or exec) of a container's probes and hooks."""
    for key in _PROBES:
        if container.get(key):
            yield (key,), container[key]
    for key, handler in (container.get("lifecycle") or {}).items():
        if isinstance(handler, dict):
            yield ("lifecycle", key), handler


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a selector, of a Service or with matchLabels and matchExpressions, takes a pod with these labels."""
    if not {"matchLabels", "matchExpressions"} & selector.keys():
        return selector.items() <= labels.items()
    wanted = selector.get("matchLabels") or {}
    expressions: Sequence[Mapping[str, Any]] = selector.get("matchExpressions") or ()
    return wanted.items() <= labels.items() and all(_holds(each, labels) for each in expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return (key in labels) == (operator == "Exists")
    return (labels.get(key) in expression.get("values", ())) == (operator == "In")


def lookup(value: Any, path: Path) -> Any:
    """What lies at a path; None where nothing does."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
