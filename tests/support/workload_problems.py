"""Values whose workload, rollout or claims cannot work, and what the chart must say: the path, and words of the fix."""

from __future__ import annotations

from typing import Any

from .expected import over
from .matrix import minimal_model

ONCE = {"mountPath": "/data", "size": "100Gi", "accessModes": ["ReadWriteOnce"]}


def _m(**changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(minimal_model("vllm", "nvidia-l4"), changes)}}


WORKLOAD_PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "claim of many pods": (
        _m(replicas=3, claims={"data": ONCE}),
        "models.m.claims.data: one node can mount it at a time, and 3 pods share it",
        "set workload to StatefulSet",
    ),
    "claim of an autoscaler's pods": (
        _m(autoscaling={"enabled": True, "maxReplicas": 5}, rollout={"spareGPU": False}, claims={"data": ONCE}),
        "models.m.claims.data: one node can mount it at a time, and 5 pods share it",
        "or accessModes to [ReadWriteMany]",
    ),
    "claim of the pod and its surge": (
        _m(claims={"data": ONCE}),
        "models.m.claims.data: one node can mount it at a time, and a rollout brings",
        "set rollout to {spareGPU: false, strategy: Recreate}",
    ),
    "claim that one pod writes and many download to": (
        _m(
            model={"source": "hf://o/n"},
            replicas=3,
            claims={"cache": {**ONCE, "mountPath": "/cache", "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}},
        ),
        "models.m.claims.cache: one node can mount it at a time, and 3 pods share it",
        "or accessModes to [ReadWriteMany]",
    ),
    "claim that nothing can write to": (
        _m(
            model={"source": "hf://o/n"},
            claims={"cache": {**ONCE, "mountPath": "/cache", "accessModes": ["ReadOnlyMany"]}},
        ),
        "models.m.claims.cache.accessModes: the chart makes the claim empty, and nothing could write to it",
        "add ReadWriteMany, or mount a claim that is filled as volumes.cache",
    ),
    "claims of each pod that nothing can write to": (
        _m(
            workload="StatefulSet",
            rollout={"spareGPU": False},
            claims={"data": {**ONCE, "accessModes": ["ReadOnlyMany"]}},
        ),
        "models.m.claims.data.accessModes: the chart makes the claim empty",
        "add ReadWriteMany",
    ),
    "claim at a taken path": (
        _m(claims={"data": {**ONCE, "mountPath": "/dev/shm", "accessModes": ["ReadWriteMany"]}}),
        "models.m.claims.data: /dev/shm is where shm is mounted",
        "use another path",
    ),
    "Recreate with a surge": (
        _m(rollout={"strategy": "Recreate"}),
        "models.m.rollout.spareGPU: Recreate ends every old pod",
        "set it to false",
    ),
    "Recreate of a StatefulSet": (
        _m(workload="StatefulSet", rollout={"strategy": "Recreate", "spareGPU": False}),
        "models.m.rollout.strategy: a StatefulSet has no Recreate",
        "set it to RollingUpdate, or workload to Deployment",
    ),
    "group of one": (
        _m(workload="LeaderWorkerSet"),
        "models.m.parallelism.pipeline: a single pod needs no LeaderWorkerSet",
        "set it to the number of pods a replica",
    ),
    "group whose pods are not filled": (
        _m(workload="LeaderWorkerSet", accelerator={"count": 2}, parallelism={"pipeline": 2}),
        "models.m.parallelism.tensor: is 1, but accelerator.count, the GPUs of a pod of the group, is 2",
        "make them equal",
    ),
    "group of a runtime of one node": (
        _m(workload="LeaderWorkerSet", runtime="triton", parallelism={"pipeline": 2}),
        "models.m.workload: triton cannot be spread over the pods of a group",
        "or define runtimes.triton.multiNode",
    ),
    "model called like a group": (
        {
            "models": {
                **_m(workload="LeaderWorkerSet", parallelism={"pipeline": 2})["models"],
                "m-0": minimal_model("vllm", "nvidia-l4"),
            }
        },
        "models.m-0: the LeaderWorkerSet of m has a Service of this name",
        "rename one of the two",
    ),
    "Recreate of a group": (
        _m(
            workload="LeaderWorkerSet",
            parallelism={"pipeline": 2},
            rollout={"strategy": "Recreate", "spareGPU": False},
        ),
        "models.m.rollout.strategy: a LeaderWorkerSet has no Recreate",
        "set it to RollingUpdate",
    ),
    "StatefulSet with a surge": (
        _m(workload="StatefulSet"),
        "models.m.rollout.spareGPU: a StatefulSet brings a new pod under the old one's name",
        "set it to false",
    ),
}
