"""Rules about kinds of workload, their rollouts and their claims, as chart/templates/_lib/check-workload.tpl has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpu_inference.validate.schema_errors import Mistake

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Characters an object's name may have: of 63 of a label, a StatefulSet's pods take 11 for the hash of their version.
LONGEST_NAME = {"Deployment": 56, "StatefulSet": 52}


def rollout(model: Model) -> Iterator[Mistake]:
    """A rollout must be one that the kind of workload can do."""
    strategy, spare, kind = model.spec["rollout"]["strategy"], model.spec["rollout"]["spareGPU"], model.spec["workload"]
    if strategy != "RollingUpdate" and kind != "Deployment":
        fix = "set it to RollingUpdate, or workload to Deployment"
        yield model.mistake("rollout", "rollout.strategy", f"a {kind} has no {strategy}", fix)
    elif strategy != "RollingUpdate" and spare:
        message = f"{strategy} ends every old pod before a new one starts, so none comes up beside them"
        yield model.mistake("rollout", "rollout.spareGPU", message, "set it to false")
    elif kind == "StatefulSet" and spare:
        message = "a StatefulSet brings a new pod under the old one's name, so the old one has to go first"
        yield model.mistake("rollout", "rollout.spareGPU", message, "set it to false")


def claims(model: Model) -> Iterator[Mistake]:
    """A claim of a Deployment is one for all its pods: where a single node can mount it, the others wait for ever."""
    if model.spec["workload"] == "StatefulSet":
        return
    scaling = model.spec["autoscaling"]
    pods = scaling["maxReplicas"] if scaling["enabled"] else model.spec["replicas"]
    for name, claim in model.spec["claims"].items():
        if {"ReadWriteMany", "ReadOnlyMany"} & set(claim["accessModes"]):
            continue
        if pods > 1:
            message = f"one node can mount it at a time, and {pods} pods share it"
            fix = "set workload to StatefulSet, where each has its own, or accessModes to [ReadWriteMany]"
            yield model.mistake("claim-shared", f"claims.{name}", message, fix)
        elif model.spec["rollout"]["spareGPU"]:
            message = "one node can mount it at a time, and a rollout brings the new pod beside the old one"
            fix = "set rollout to {spareGPU: false, strategy: Recreate}, or accessModes to [ReadWriteMany]"
            yield model.mistake("claim-shared", f"claims.{name}", message, fix)
