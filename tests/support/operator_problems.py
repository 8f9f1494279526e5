"""Values that an operator's objects cannot have, and what the chart must say: the path, and words of the fix."""

from __future__ import annotations

from typing import Any

from .expected import over
from .matrix import minimal_model

NIM: dict[str, Any] = {
    "runtime": "nim",
    "image": {"repository": "nvcr.io/nim/meta/a", "tag": "2.0.12"},
    "model": {"source": "image://", "servedName": "a"},
    "accelerator": {"type": "nvidia-l40s"},
    "workload": "NIMService",
    "nimService": {"authSecret": "ngc-api", "cache": {"size": "50Gi", "accessMode": "ReadWriteMany"}},
    "rollout": {"spareGPU": False},
}
RAY: dict[str, Any] = {
    **minimal_model("ray-serve", "nvidia-l4"),
    "workload": "RayService",
    "rayService": {"importPath": "server:app", "deployment": "Model"},
}


def _with(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(base, changes)}}


def _without(model: dict[str, Any], section: str, key: str) -> dict[str, Any]:
    return {"models": {"m": {**model, section: {k: v for k, v in model[section].items() if k != key}}}}


OPERATOR_PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "runtime of no operator": (
        _with({**RAY, **minimal_model("triton", "nvidia-l4"), "workload": "RayService"}),
        "models.m.workload: triton is no server for a RayService",
        "or define runtimes.triton.rayService",
    ),
    "ingress of a NIMService": (
        _with(NIM, ingress={"enabled": True, "host": "a.b"}),
        "models.m.ingress.enabled: a NIMService has nothing like it",
        "set workload to Deployment",
    ),
    "volumes of a NIMService": (
        _with(NIM, volumes={"x": {"mount": {"mountPath": "/x"}, "source": {"emptyDir": {}}}}),
        "models.m.volumes: a NIMService has nothing like it",
        "remove it",
    ),
    "priority of a NIMService": (
        _with(NIM, priorityClassName="serving"),
        "models.m.priorityClassName: a NIMService has nothing like it",
        "remove it",
    ),
    "arguments of a RayService": (
        _with(RAY, extraArgs=["server:app"]),
        "models.m.extraArgs: a RayService has nothing like it",
        "remove it",
    ),
    "KEDA for a NIMService": (
        _with(NIM, autoscaling={"enabled": True, "provider": "keda", "target": {"requestsInFlight": False}}
              | {"keda": {"triggers": [{"type": "cron", "metadata": {}}]}}),
        "models.m.autoscaling.provider: a NIMService brings an autoscaler of its own",
        "set it to hpa",
    ),
    "NIMService without a key": (
        _without(NIM, "nimService", "authSecret"),
        "models.m.nimService.authSecret: is not set",
        "NGC_API_KEY",
    ),
    "NIMService without a cache": (
        _without(NIM, "nimService", "cache"),
        "models.m.nimService.cache: is not set, and every pod would download the model",
        "set its size",
    ),
    "cache of one node for several pods": (
        _with(NIM, replicas=2, nimService={"cache": {"accessMode": "ReadWriteOnce"}}),
        "models.m.nimService.cache.accessMode: one node can mount it at a time",
        "set it to ReadWriteMany",
    ),
    "claim as the source of a NIMService": (
        _with(NIM, model={"source": "pvc://models/a"}),
        "models.m.model.source: the operator downloads",
        "set it to image://",
    ),
    "NIMService of no pods": (_with(NIM, replicas=0), "models.m.replicas: a NIMService has one pod", "raise it"),
    "NIMService with a surge": (
        _with(NIM, rollout={"spareGPU": True}),
        "models.m.rollout.spareGPU: the operator takes an old pod away",
        "set it to false",
    ),
    "RayService without an application": (
        _without(RAY, "rayService", "importPath"),
        "models.m.rayService.importPath: is not set",
        "as it is in the image",
    ),
    "RayService that scales by CPU": (
        _with(RAY, autoscaling={"enabled": True, "target": {"cpuUtilization": 70}}),
        "models.m.autoscaling.target.cpuUtilization: Ray scales by requests in flight only",
        "set requestsInFlight",
    ),
}  # fmt: skip
