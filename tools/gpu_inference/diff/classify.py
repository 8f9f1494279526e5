"""From two versions of an object to what the change does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gpu_inference.diff.model import Change, Difference
from gpu_inference.diff.render import Object, Rendered

Path = tuple[str, ...]
# Below these an API server accepts no change (Kubernetes 1.36, pkg/apis/*/validation).
_IMMUTABLE: Mapping[str, tuple[str, ...]] = {
    "Deployment.apps": ("spec.selector",),
    "DaemonSet.apps": ("spec.selector",),
    "Job.batch": ("spec.template", "spec.selector", "spec.completions"),
    "PersistentVolumeClaim": ("spec.accessModes", "spec.storageClassName", "spec.volumeName", "spec.selector"),
    "PriorityClass.scheduling.k8s.io": ("value", "preemptionPolicy"),
    "ResourceClaimTemplate.resource.k8s.io": ("spec",),
    "Service": ("spec.clusterIP",),
}
# Of a StatefulSet's spec all but these.
_MUTABLE_STATEFULSET = (
    "spec.replicas",
    "spec.ordinals",
    "spec.template",
    "spec.updateStrategy",
    "spec.revisionHistoryLimit",
    "spec.persistentVolumeClaimRetentionPolicy",
    "spec.minReadySeconds",
)
# Below these a change replaces pods.
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Deployment.apps": ("spec.template",),
    "DaemonSet.apps": ("spec.template",),
    "StatefulSet.apps": ("spec.template",),
    "LeaderWorkerSet.leaderworkerset.x-k8s.io": ("spec.leaderWorkerTemplate",),
    "RayService.ray.io": ("spec.rayClusterConfig",),
    "NIMService.apps.nvidia.com": ("spec",),
}
_SIZES = (
    "spec.replicas",
    "spec.minReplicas",
    "spec.maxReplicas",
    "spec.minReplicaCount",
    "spec.maxReplicaCount",
    "spec.scale",
)
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def changes(old: Rendered, new: Rendered) -> Iterator[Change]:
    """Every object that is not the same in both, the old release's first."""
    for key in [*old.objects, *(key for key in new.objects if key not in old.objects)]:
        before, after = old.objects.get(key), new.objects.get(key)
        if before == after:
            continue
        kind, name = key[0], f"{key[0].split('.')[0]}/{key[2]}"
        if after is None and before is not None:
            yield _removed(kind, name, before, old)
        elif before is None and after is not None:
            yield Change(name, "adds")
        elif before is not None and after is not None:
            yield _changed(kind, name, before, after, old)


def _removed(kind: str, name: str, before: Object, old: Rendered) -> Change:
    kept = before["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    if kind == "PersistentVolumeClaim" and not kept:
        return Change(name, "deletes-data")
    return Change(name, "removes", pods=_pods(before, old) if kind in _TEMPLATES else 0)


def _changed(kind: str, name: str, before: Object, after: Object, old: Rendered) -> Change:
    found = tuple(_differences(before, after))
    paths = [path for path, _, _ in found]
    differences = tuple(Difference(".".join(path), _text(a), _text(b)) for path, a, b in found)
    refused = [path for path in paths if _immutable(kind, path)] or _shrunk(kind, before, after)
    if refused:
        return Change(name, "fails", differences, detail=", ".join(sorted({".".join(path) for path in refused})))
    if any(_below(path, _TEMPLATES.get(kind, ())) for path in paths):
        pods = _pods(before, old)
        minutes = pods * _gpus(before) * _load_seconds(before) / 60
        return Change(name, "restarts", differences, pods, minutes)
    if any(_below(path, _SIZES) for path in paths):
        return Change(name, "scales", differences)
    if all(_below(path, ("metadata.labels", "metadata.annotations")) for path in paths):
        return Change(name, "cosmetic", differences)
    return Change(name, "updates", differences)


def _immutable(kind: str, path: Path) -> bool:
    if kind == "StatefulSet.apps":
        return path[0] == "spec" and not _below(path, _MUTABLE_STATEFULSET)
    return _below(path, _IMMUTABLE.get(kind, ()))


def _shrunk(kind: str, before: Object, after: Object) -> list[Path]:
    """A claim may grow and never shrink."""
    if kind != "PersistentVolumeClaim":
        return []
    path = ("spec", "resources", "requests", "storage")
    old, new = (_bytes(_at(item, path)) for item in (before, after))
    return [path] if new < old else []


def _bytes(quantity: Any) -> float:
    text = str(quantity or 0)
    unit = text[-2:]
    return float(text[:-2]) * _UNITS[unit] if unit in _UNITS else float(text.rstrip("kMGT") or 0)


def _below(path: Path, places: tuple[str, ...]) -> bool:
    return any(path[: len(steps)] == steps for steps in (tuple(place.split(".")) for place in places))


def _differences(old: Any, new: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Leaves that differ. Lists whose items have names are compared by them, so that a new one moves nothing."""
    old, new = _named(old), _named(new)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(*pair, (*path, str(index))) if pair[0] != pair[1] else ()
    elif isinstance(old, list) and isinstance(new, list):
        yield path, [item for item in old if item not in new], [item for item in new if item not in old]
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if old.get(key) != new.get(key) or (key in old) != (key in new):
                yield from _differences(old.get(key), new.get(key), (*path, str(key)))
    else:
        yield path, old, new


def _named(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        names = [item["name"] for item in value]
        return dict(zip(names, value, strict=True)) if len({*names}) == len(names) else value
    return value


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _pods(item: Object, release: Rendered) -> int:
    """Pods at least: what the object says, else the least of the autoscaler that points at it."""
    replicas = _at(item, ("spec", "replicas"))
    if replicas is None:
        for other in release.objects.values():
            if _at(other, ("spec", "scaleTargetRef", "name")) == item["metadata"]["name"]:
                replicas = _at(other, ("spec", "minReplicas")) or _at(other, ("spec", "minReplicaCount"))
    size = _at(item, ("spec", "leaderWorkerTemplate", "size")) or 1
    return int(1 if replicas is None else replicas) * int(size)


def _pod_template(item: Object) -> Any:
    return _at(item, ("spec", "template")) or _at(item, ("spec", "leaderWorkerTemplate", "workerTemplate")) or {}


def _gpus(item: Object) -> int:
    """Devices of one pod: resources of a vendor's name. Those a claim asks for are not counted."""
    containers = _at(_pod_template(item), ("spec", "containers")) or []
    limits = [_at(container, ("resources", "limits")) or {} for container in containers]
    return sum(int(count) for limit in limits for name, count in limit.items() if "/" in name)


def _load_seconds(item: Object) -> int:
    annotations = _at(_pod_template(item), ("metadata", "annotations")) or {}
    return int(annotations.get("gpu-inference.io/load-seconds", 0))
