"""Rules about kinds of workload, as chart/templates/_lib/check-workload.tpl has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gpu_inference.resolve import fetcher
from gpu_inference.validate import runtime_rules
from gpu_inference.validate.schema_errors import Mistake

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Characters an object's name may have: of 63 of a label, a StatefulSet's pods take 11 for the hash of their version,
# and a group's number goes before it.
LONGEST_NAME = {"Deployment": 56, "StatefulSet": 52, "LeaderWorkerSet": 48, "RayService": 40, "NIMService": 48}


def arguments(model: Model) -> list[Mapping[str, Any]]:
    """Entries of the preset that the server's arguments are made from."""
    spread = model.runtime.get("multiNode") if model.spec["workload"] == "LeaderWorkerSet" else None
    return [*model.runtime["args"], *(spread["args"] + spread["workerArgs"] if spread else ())]


def most_pods(model: Model) -> int:
    """Pods that serve a model there may be at once, without those a rollout adds."""
    scaling = model.spec["autoscaling"]
    return int(scaling["maxReplicas"] if scaling["enabled"] else model.spec["replicas"])


def group(model: Model) -> Iterator[Mistake]:
    """A LeaderWorkerSet's pods hold a stage of the pipeline each, and the runtime must know how."""
    if model.spec["workload"] != "LeaderWorkerSet":
        return
    since, own = model.runtime.get("multiNode", {}).get("since"), model.spec.get("runtimeVersion")
    if since and own and runtime_rules.numbers(own) < runtime_rules.numbers(since):
        message = f"{model.spec['runtime']} {own} cannot be spread over the pods of a group yet"
        yield model.mistake("group", "runtimeVersion", message, f"use {since} or newer, with its image")
    runtime, split, count = model.spec["runtime"], model.spec["parallelism"], model.spec["accelerator"]["count"]
    if "multiNode" not in model.runtime:
        fix = f"set it to Deployment or StatefulSet, or define runtimes.{runtime}.multiNode"
        yield model.mistake("group", "workload", f"{runtime} cannot be spread over the pods of a group", fix)
    if split["pipeline"] < 2:
        fix = "set it to the number of pods a replica, or workload to Deployment"
        yield model.mistake("group", "parallelism.pipeline", "a single pod needs no LeaderWorkerSet", fix)
    if split["tensor"] != count:
        message = f"is {split['tensor']}, but accelerator.count, the GPUs of a pod of the group, is {count}"
        yield model.mistake("group", "parallelism.tensor", message, "make them equal")


def neighbours(model: Model) -> Iterator[Mistake]:
    """Services that give pods their names: a StatefulSet's is <name>-pods, those of a group's pods <name>-<number>."""
    kind = model.spec["workload"]
    suffixes = {"StatefulSet": "pods", "LeaderWorkerSet": "[0-9]+"}
    for other in model.values["models"] if kind in suffixes else ():
        if re.fullmatch(f"{model.name}-({suffixes[kind]})", other):
            message = f"the {kind} of {model.name} has a Service of this name"
            yield Mistake("name-taken", ("models", other), message, "rename one of the two")


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
    """A claim of a Deployment is one for all its pods: where a single node can mount it, or write to it, the others
    wait for ever.
    """
    for name, claim in model.spec["claims"].items():
        if set(claim["accessModes"]) == {"ReadOnlyMany"}:
            message = "the chart makes the claim empty, and nothing could write to it"
            fix = f"add ReadWriteMany, or mount a claim that is filled as volumes.{name}"
            yield model.mistake("claim-unwritten", f"claims.{name}.accessModes", message, fix)
    if model.spec["workload"] not in ("Deployment", "LeaderWorkerSet"):
        return
    pods = most_pods(model)
    if model.spec["workload"] == "LeaderWorkerSet":
        pods *= model.spec["parallelism"]["pipeline"]
    for name, claim in model.spec["claims"].items():
        if "ReadWriteMany" in claim["accessModes"] or set(claim["accessModes"]) == {"ReadOnlyMany"}:
            continue
        if pods > 1:
            message = f"one node can mount it at a time, and {pods} pods share it"
            fix = "set workload to StatefulSet, where each has its own, or accessModes to [ReadWriteMany]"
            yield model.mistake("claim-shared", f"claims.{name}", message, fix)
        elif model.spec["rollout"]["spareGPU"]:
            message = "one node can mount it at a time, and a rollout brings the new pod beside the old one"
            fix = "set rollout to {spareGPU: false, strategy: Recreate}, or accessModes to [ReadWriteMany]"
            yield model.mistake("claim-shared", f"claims.{name}", message, fix)


def restarts(model: Model) -> Iterator[Mistake]:
    """A group starts anew as a whole when any container of it does, and what its pods have downloaded is lost."""
    spec = model.spec
    kept = "cache" in spec["claims"] or "claim" in spec["storage"]["download"]
    if spec["workload"] == "LeaderWorkerSet" and fetcher(spec, model.runtime) == "pod" and not kept:
        message = "a download that is cut off restarts the whole group, and all its pods download from the beginning"
        fix = "set it to job, or claims.cache, at /cache with accessModes [ReadWriteMany]"
        yield model.mistake("group-download", "storage.download.by", message, fix)
