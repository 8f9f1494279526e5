"""What a rule on rendered objects looks at, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_inference.validate.rendered.objects import Object, Pod, is_hook, model_of, pods
from gpu_inference.validate.rendered.origin import Origins
from gpu_inference.values.tree import Path

# Values that are put into objects as they are.
_HATCHES = ("extraObjects", "pod", "container", "volumes")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at a path of an object; `severity`: None for what the catalogue says."""

    rule: str
    obj: Object
    path: Path
    message: str
    fix: str
    severity: str | None = None
    about_key: bool = False


@dataclass(frozen=True)
class Release:
    """The objects of a release, in which Kubernetes knows every field; specs: what its models resolve to."""

    objects: Sequence[Object]
    specs: Mapping[str, Mapping[str, Any]]
    origins: Origins
    pods: Sequence[Pod] = field(default_factory=list)

    def of_a_hatch(self, pod: Pod, path: Path) -> bool:
        """Whether what is at a path of a pod template was written as it is, and not by the chart."""
        found = self.origins.path(pod.obj, (*pod.path, *path))
        return found[:1] == ("extraObjects",) or (len(found) > 2 and found[2] in _HATCHES) or found[1:2] == ("pod",)

    def long_lived(self) -> Iterator[Pod]:
        """Pods that are not a hook's own."""
        return (pod for pod in self.pods if pod.obj["kind"] != "Pod" or not is_hook(pod.obj))

    def spec_of(self, obj: Object) -> Mapping[str, Any]:
        """What the model of an object resolves to; empty for one of none."""
        return self.specs.get(model_of(obj) or "", {})


def release(objects: Sequence[Object], values: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]) -> Release:
    return Release(objects, specs, Origins(values, specs), list(pods(objects)))
