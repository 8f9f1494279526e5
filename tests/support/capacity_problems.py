"""Values whose capacity or priorities cannot work, and what the chart must say: the path, and words of the fix."""

from __future__ import annotations

from typing import Any

from .expected import over
from .matrix import minimal_model

SCALING = {"enabled": True, "maxReplicas": 4}


def _m(cloud: str = "eks", **changes: Any) -> dict[str, Any]:
    return {"cloud": cloud, "models": {"m": over(minimal_model("vllm", "nvidia-l4"), changes)}}


def _beside(other: str, **changes: Any) -> dict[str, Any]:
    values = _m(**changes)
    values["models"][other] = minimal_model("vllm", "nvidia-l4")
    return values


CAPACITY_PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "mixed without spot nodes": (
        _m("generic", capacity="mixed", autoscaling=SCALING),
        "models.m.capacity: how generic marks spot nodes is not known",
        "set cloud to the one this is, or clouds.generic.spot",
    ),
    "mixed pods with names": (
        _m(capacity="mixed", autoscaling=SCALING, workload="StatefulSet", rollout={"spareGPU": False}),
        "models.m.workload: a StatefulSet has one kind of pods, and mixed needs two",
        "set it to Deployment, or capacity to onDemand or spot",
    ),
    "mixed without an autoscaler": (
        _m(capacity="mixed"),
        "models.m.autoscaling.enabled: is false, and the spot pods above the base are the autoscaler's",
        "set it to true, or capacity to onDemand or spot",
    ),
    "mixed without room for spot pods": (
        _m(capacity="mixed", replicas=4, autoscaling=SCALING),
        "models.m.autoscaling.maxReplicas: 4 leaves no spot pod above the on-demand base, replicas, 4",
        "raise it, or set capacity to onDemand",
    ),
    "mixed with KEDA": (
        _m(
            capacity="mixed",
            autoscaling={**SCALING, "provider": "keda", "keda": {"serverAddress": "http://prometheus.monitoring:9090"}},
        ),
        "models.m.autoscaling.provider: KEDA does not know of the on-demand base",
        "set it to hpa, or capacity to onDemand or spot",
    ),
    "mixed by the ratio of queues": (
        _m(runtime="triton", capacity="mixed", autoscaling={**SCALING, "target": {"queueComputeRatio": 0.8}}),
        "models.m.autoscaling.target.queueComputeRatio: does not tell what the on-demand base bears",
        "set it to false, or capacity to onDemand or spot",
    ),
    "mixed without a base": (
        _m(capacity="mixed", replicas=0, autoscaling=SCALING),
        "models.m.replicas: is 0, and is the on-demand base",
        "set it to 1 or more, or capacity to spot",
    ),
    "toleration of everything on spot nodes": (
        {
            "clouds": {"eks": {"spot": {"tolerations": {"all": {"operator": "Exists"}}}}},
            **_m(capacity="mixed", autoscaling=SCALING),
        },
        "models.m.tolerations.all: has no key",
        "name the taint's key",
    ),
    "toleration of everything from a preset": (
        {"accelerators": {"nvidia-l4": {"defaults": {"tolerations": {"all": {"operator": "Exists"}}}}}, **_m()},
        "models.m.tolerations.all: has no key",
        "name the taint's key",
    ),
    "model called like the spot pods": (
        _beside("m-spot", capacity="mixed", autoscaling=SCALING),
        "models.m-spot: the spot pods of m have a Deployment of this name",
        "rename one of the two",
    ),
    "model called like the balloons": (
        _beside("m-balloon", balloon={"replicas": 1}),
        "models.m-balloon: the balloon pods of m have a Deployment of this name",
        "rename one of the two",
    ),
    "balloon above its model": (
        {"priorityClasses": {"balloon": {"value": 0}}, **_m(balloon={"replicas": 1})},
        "models.m.balloon: its priority, 0, is not below the model's, 0, so it would not make room",
        "lower priorityClasses.balloon.value",
    ),
    "balloon of claimed GPUs": (
        _m("gke", accelerator={"dra": True}, balloon={"replicas": 1}),
        "models.m.balloon.replicas: a pod whose GPUs are claimed is not preempted (kubernetes/enhancements#5690)",
        "set it to 0, or accelerator.dra to false",
    ),
}
