"""Rules about workloads whose pods an operator makes, as chart/templates/_lib/check-operators.tpl has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.validate.workload_rules import most_pods

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Values that an operator's objects have nothing for.
_NONE = (
    "ingress.enabled",
    "gateway.enabled",
    "networkPolicy.enabled",
    "claims",
    "service.nodePorts",
    "service.externalTrafficPolicy",
    "service.loadBalancerSourceRanges",
    "service.sessionAffinity",
    "warmup.enabled",
    "progress.readiness",
    "progress.liveness",
    "canary.enabled",
    "monitoring.rules.enabled",
    "monitoring.serviceMonitor.enabled",
    "monitoring.dashboard",
)
_WITHOUT: Mapping[str, tuple[str, ...]] = {
    "RayService": (
        *_NONE,
        "autoscaling.metrics",
        "service.annotations",
        "monitoring.podMonitor.enabled",
        "extraArgs",
    ),
    "NIMService": (
        *_NONE,
        "volumes",
        "pod",
        "container",
        "priorityClassName",
        "absentNodeLabels",
        "image.digest",
        "accelerator.dra",
        "serviceAccount.annotations",
        "serviceAccount.name",
    ),
}


def operated(model: Model) -> Iterator[Mistake]:
    """What the operator cannot do."""
    kind, runtime = model.spec["workload"], model.spec["runtime"]
    if kind not in _WITHOUT:
        return
    section = "nimService" if kind == "NIMService" else "rayService"
    if section not in model.runtime:
        fix = f"set it to Deployment, or define runtimes.{runtime}.{section}"
        yield model.mistake("operator", "workload", f"{runtime} is no server for a {kind}", fix)
    for path in _WITHOUT[kind]:
        if model.at(path):
            message = f"a {kind} has nothing like it"
            yield model.mistake("operator", path, message, "remove it, or set workload to Deployment")
    scaling = model.spec["autoscaling"]
    if scaling["enabled"] and scaling["provider"] != "hpa":
        message = f"a {kind} brings an autoscaler of its own"
        yield model.mistake("operator", "autoscaling.provider", message, "set it to hpa")
    yield from _nim(model) if kind == "NIMService" else _ray(model)


def _nim(model: Model) -> Iterator[Mistake]:
    own = model.spec["nimService"]
    if "authSecret" not in own:
        yield model.mistake("operator", "nimService.authSecret", "is not set", "name the Secret with NGC_API_KEY")
    if "cache" not in own:
        message = "is not set, and every pod would download the model"
        yield model.mistake("operator", "nimService.cache", message, "set its size and accessMode")
    elif own["cache"]["accessMode"] == "ReadWriteOnce" and most_pods(model) > 1:
        message = "one node can mount it at a time, and several pods share it"
        yield model.mistake("claim-shared", "nimService.cache.accessMode", message, "set it to ReadWriteMany")
    if not model.spec["model"]["source"].startswith("image://"):
        message = "the operator downloads what belongs to the image"
        yield model.mistake("model-source", "model.source", message, "set it to image://")
    if not model.spec["autoscaling"]["enabled"] and model.spec["replicas"] == 0:
        yield model.mistake("operator", "replicas", "a NIMService has one pod at least", "raise it")
    if model.spec["rollout"]["spareGPU"]:
        message = "the operator takes an old pod away before it brings a new one"
        yield model.mistake("rollout", "rollout.spareGPU", message, "set it to false")


def _ray(model: Model) -> Iterator[Mistake]:
    for key in ("importPath", "deployment"):
        if key not in model.spec["rayService"]:
            yield model.mistake("operator", f"rayService.{key}", "is not set", "set it, as it is in the image")
    scaling = model.spec["autoscaling"]
    for target, value in scaling["target"].items() if scaling["enabled"] else ():
        if target != "requestsInFlight" and value is not False:
            path = f"autoscaling.target.{target}"
            fix = "remove it, and set requestsInFlight"
            yield model.mistake("operator", path, "Ray scales by requests in flight only", fix)


RULES = (operated,)
