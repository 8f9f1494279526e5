"""Rules about on-demand and spot nodes and about priorities, as chart/templates/_lib/check-capacity.tpl has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.values.presets import overlay

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# What the chart makes for balloons unless the values do.
_BALLOON_PRIORITY = -10


def sides(capacity: str) -> tuple[str, ...]:
    """The kinds of nodes, keys of a cloud preset, that a model of this capacity uses."""
    return ("onDemand", "spot") if capacity == "mixed" else (capacity,)


def tolerations(model: Model) -> Mapping[str, Any]:
    """Those of all of a model's pods: spot pods above an on-demand base have the cloud's for spot nodes, too."""
    spot = model.cloud.get("spot", {}).get("tolerations", {}) if model.spec["capacity"] == "mixed" else {}
    found = overlay(spot, model.spec["tolerations"])
    own = overlay(model.values["modelDefaults"], model.values["models"][model.name])["tolerations"]
    return {name: toleration for name, toleration in found.items() if own.get(name) is not False}


def mixed(model: Model) -> Iterator[Mistake]:
    """An on-demand base, and spot pods above it that are the autoscaler's."""
    if model.spec["capacity"] != "mixed":
        return
    scaling, base, kind = model.spec["autoscaling"], model.spec["replicas"], model.spec["workload"]
    if kind != "Deployment":
        message = f"a {kind} has one kind of pods, and mixed needs two"
        yield model.mistake("mixed", "workload", message, "set it to Deployment, or capacity to onDemand or spot")
    if not scaling["enabled"]:
        message = "is false, and the spot pods above the base are the autoscaler's"
        fix = "set it to true, or capacity to onDemand or spot"
        yield model.mistake("mixed", "autoscaling.enabled", message, fix)
    elif scaling["maxReplicas"] <= base:
        message = f"{scaling['maxReplicas']} leaves no spot pod above the on-demand base, replicas, {base}"
        yield model.mistake("mixed", "autoscaling.maxReplicas", message, "raise it, or set capacity to onDemand")
    if scaling["provider"] == "keda":
        fix = "set it to hpa, or capacity to onDemand or spot"
        yield model.mistake("mixed", "autoscaling.provider", "KEDA does not know of the on-demand base", fix)
    if scaling["target"].get("queueComputeRatio"):
        message = "does not tell what the on-demand base bears"
        fix = "set it to false, or capacity to onDemand or spot"
        yield model.mistake("mixed", "autoscaling.target.queueComputeRatio", message, fix)
    if base < 1:
        message = "is 0, and is the on-demand base"
        yield model.mistake("mixed", "replicas", message, "set it to 1 or more, or capacity to spot")
    yield from _sibling(model, "spot")


def notice(model: Model) -> Iterator[Mistake]:
    """What a cloud leaves a pod when it takes the node back may be less than the pod needs to drain. The grace period
    stays as long as it is: rollouts and scale-downs have the time.
    """
    drain, stop = model.spec["drain"], model.spec["drain"]["preStopSeconds"]
    left = model.cloud.get("spot", {}).get("podGraceSeconds", drain["graceSeconds"])
    if model.spec["capacity"] == "onDemand" or left >= drain["graceSeconds"]:
        return
    teardown = model.runtime["lifecycle"]["teardownSeconds"]
    request = left - teardown - stop
    message = (
        f"draining takes {drain['graceSeconds']} s (preStopSeconds {stop} + requestSeconds {drain['requestSeconds']} + "
        f"teardown {teardown}), and {model.values['cloud']} gives a pod {left} s when it takes a spot node back: "
        "requests still in flight are lost"
    )
    fix = f"lower it to {request}" if request > 0 else f"make preStopSeconds and it {max(left - teardown, 0)} together"
    fix += ", or have clients repeat what is lost"
    yield model.mistake("spot-notice", "drain.requestSeconds", message, fix)


def balloon(model: Model) -> Iterator[Mistake]:
    """A balloon has to give way to its model."""
    said = model.spec["balloon"]
    if not said["replicas"]:
        return
    if model.spec["accelerator"]["dra"]:
        # The scheduler's preemption leaves claims out: kubernetes/enhancements#5690.
        message = "a pod whose GPUs are claimed is not preempted, so a balloon would not make room"
        fix = "set it to 0, or accelerator.dra to false"
        yield model.mistake("balloon-claim", "balloon.replicas", message, fix)
    classes: dict[str, Any] = {"balloon": {"value": _BALLOON_PRIORITY}, **model.values["priorityClasses"]}
    name = said.get("priorityClassName", "balloon")
    own = classes.get(model.spec.get("priorityClassName", ""), {"value": 0})["value"]
    if name in classes and classes[name]["value"] >= own:
        message = f"its priority, {classes[name]['value']}, is not below the model's, {own}, so it would not make room"
        yield model.mistake("balloon-priority", "balloon", message, f"lower priorityClasses.{name}.value")
    yield from _sibling(model, "balloon")


def _sibling(model: Model, suffix: str) -> Iterator[Mistake]:
    """A second Deployment of a model needs a name."""
    other = f"{model.name}-{suffix}"
    if other in model.values["models"]:
        message = f"the {suffix} pods of {model.name} have a Deployment of this name"
        yield Mistake("name-taken", ("models", other), message, "rename one of the two")


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (mixed, notice, balloon)
