"""Which value a place in a rendered object comes from: the deepest one that somebody wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_inference.validate.rendered.objects import Object, lookup, model_of, pods
from gpu_inference.values.tree import Path

# The server, by Kubernetes' convention the default container.
_SERVER: Path = ("spec", "containers", 0)


class Origins:
    """Of the objects of one release, by its merged values and what its models resolve to."""

    def __init__(self, values: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]) -> None:
        self._values = values
        self._specs = specs

    def extra(self, obj: Object) -> str | None:
        """The name in extraObjects of an object that is written there."""
        for key, given in self._values["extraObjects"].items():
            if given == obj:
                return str(key)
        return None

    def path(self, obj: Object, path: Path) -> Path:
        """Where the values say what is at a path of an object; at worst its model, or the root."""
        extra = self.extra(obj)
        if extra is not None:
            return ("extraObjects", extra, *path)
        model = model_of(obj)
        if model is None or model not in self._specs:
            return ()
        best: Path = ("models", model)
        depth = 0
        for wanted in self._candidates(obj, path):
            for layer in self._layers(model):
                found = _deepest(self._values, (*layer, *wanted), len(layer))
                # Nothing but `pod: {}` says nothing.
                if len(found) - len(layer) > max(depth, 1) or (
                    len(wanted) == 1 and not depth and found == (*layer, *wanted)
                ):
                    best, depth = found, len(found) - len(layer)
        return best

    def _layers(self, model: str) -> list[Path]:
        """Where a model's values can be written, what wins first."""
        spec = self._specs[model]
        accelerator: Path = ("accelerators", spec["accelerator"]["type"], "defaults")
        return [("models", model), accelerator, ("runtimes", spec["runtime"], "defaults"), ("modelDefaults",)]

    def _candidates(self, obj: Object, path: Path) -> Iterator[Path]:
        """Paths in a model that may have set what is at a path of the object, the likeliest first."""
        for pod in pods([obj]):
            if path[: len(pod.path)] == pod.path:
                yield from _of_pod(pod.template, path[len(pod.path) :])


def _of_pod(template: Object, path: Path) -> Iterator[Path]:
    if path[:2] == ("metadata", "labels"):
        yield ("podLabels", *path[2:])
    elif path[:2] == ("metadata", "annotations"):
        yield ("podAnnotations", *path[2:])
    elif path[:3] == _SERVER:
        yield from _of_server(template, path[3:])
    elif path[:1] == ("spec",):
        yield ("pod", *path[1:])
        if path[:2] == ("spec", "securityContext"):
            yield ("security", *path[2:])
        elif path[:2] == ("spec", "volumes") and path[2:]:
            volume = str(lookup(template, (*path[:3], "name")))
            yield ("volumes", volume, "source", *path[3:])
            yield ("claims", volume)
            if volume == "model":
                yield ("model", "source")


def _of_server(template: Object, path: Path) -> Iterator[Path]:
    yield ("container", *path)
    entry = lookup(template, (*_SERVER, *path[:2])) if len(path) > 1 else None
    if path[:1] == ("securityContext",):
        yield ("security", *path[1:])
    elif path[:1] == ("image",):
        yield ("image",)
    elif path[:1] == ("env",) and isinstance(entry, dict):
        yield ("env", entry.get("name", ""), *path[2:])
    elif path[:1] == ("volumeMounts",) and isinstance(entry, dict):
        yield ("volumes", entry.get("name", ""), "mount", *path[2:])


def _deepest(values: Mapping[str, Any], path: Path, least: int) -> Path:
    """The longest beginning of a path that the values have; () if it is shorter than `least`."""
    for end in range(len(path), least, -1):
        if lookup(values, path[:end]) is not None:
            return path[:end]
    return ()
