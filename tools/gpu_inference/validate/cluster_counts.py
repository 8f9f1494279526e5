"""How many pods the nodes of a cluster profile hold, and how many there will be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpu_inference.cluster import quantity
from gpu_inference.cluster.profile import NodeGroup, NodePool
from gpu_inference.report import count
from gpu_inference.validate.placement import Demand, demands, may_grow, pools, room, selected, untolerated
from gpu_inference.validate.schema_errors import Mistake

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model


def scarce(demand: Demand, groups: Sequence[NodeGroup]) -> Iterator[Mistake]:
    """Pods that nodes take, but not so many of them."""
    model = demand.model
    held = sum(group.most * room(demand, group) for group in groups)
    have = _have(demand, groups, held)
    fewer = f"lower it to {held // demand.size}, or add nodes" if held >= demand.size else "add nodes"
    if demand.pods > held:
        path = "replicas" if demand.words == "replicas" else "autoscaling.minReplicas"
        yield model.mistake("pending-pods", path, f"{_need(demand, demand.replicas)}, and {have}", fewer)
    elif demand.most > held:
        message = f"{_need(demand, demand.most_replicas)}, and {have}: the autoscaler's last pods stay pending"
        yield model.mistake("pending-pods", "autoscaling.maxReplicas", message, fewer)
    elif demand.pods + demand.surge > held or demand.most + demand.surge > held:
        at_peak = demand.pods + demand.surge <= held
        yield _no_spare(demand, demand.most if at_peak else demand.pods, at_peak, have)
    elif _waits(demand) and demand.pods + 1 > held:
        message = (
            f"the engine is built by a pod like the model's {count(demand.pods, 'pod')}, which wait for it, and {have}"
        )
        fix = "name a PriorityClass above the model's, so that the build displaces a pod that waits, or add a node"
        yield model.mistake("engine-room", "engine.priorityClassName", message, fix)
    elif demand.gpus:
        free = sum((g.most * g.allocatable[demand.resource] - g.others.get(demand.resource, 0)) for g in groups)
        if demand.pods * demand.gpus > free:
            taken = sum(group.others.get(demand.resource, 0) for group in groups)
            message = f"{_need(demand, demand.replicas)}, and {have}, of which other pods have {taken}"
            yield replace(
                model.mistake("pending-pods", "accelerator", message, "lower the replicas, or add nodes"),
                severity="warning",
            )


def _waits(demand: Demand) -> bool:
    """Whether pods hold GPUs that the build of their engine needs, and cannot take from them."""
    return bool(demand.spec["engine"]["enabled"] and not demand.spec["engine"].get("priorityClassName"))


def _no_spare(demand: Demand, pods: int, at_peak: bool, have: str) -> Mistake:
    """Surge without a node to run on: the rollout waits for ever, as it takes no old pod away."""
    model, surge = demand.model, demand.surge
    doing = f"a rollout at {pods // demand.size} replicas" if at_peak else "a rollout"
    if model.spec["workload"] == "RayService":
        doing = "an upgrade brings a second cluster and"
    gpus = (pods + surge) * demand.gpus
    needed = f"{gpus} {_unit(demand, gpus)}" if gpus else f"room for {pods + surge} pods"
    message = f"{doing} needs {needed}, {surge * (demand.gpus or 1)} more than it runs on, and {have}: it never ends"
    fix = "set it to false: an old pod goes first"
    if model.spec["workload"] == "RayService":
        fix = "set it to false: the running cluster stays as it is"
    mistake = model.mistake("no-spare-gpu", "rollout.spareGPU", message, f"{fix}; or add nodes")
    return replace(mistake, severity="warning") if at_peak or model.spec["workload"] == "RayService" else mistake


def limited(demand: Demand, made: Sequence[NodePool], groups: Sequence[NodeGroup]) -> Iterator[Mistake]:
    """NodePools make nodes up to their limits."""
    if not demand.gpus or any(demand.resource not in pool.limits for pool in made):
        return
    bounds = [(pool.name, int(pool.limits[demand.resource])) for pool in made]
    held = sum(group.most * room(demand, group) for group in groups)
    held += sum(bound // demand.gpus for _, bound in bounds)
    if demand.most > held:
        text = ", ".join(f"{name} {bound}" for name, bound in bounds)
        which = "autoscaling.maxReplicas" if demand.most > demand.pods else "replicas"
        message = (
            f"{_need(demand, demand.most_replicas)}, and the NodePools that match make {demand.resource} up to {text}"
        )
        yield demand.model.mistake(
            "pending-pods", which, message, f"lower it to {held // demand.size}, or raise limits"
        )


def release(models: Sequence[Model]) -> Iterator[Mistake]:
    """Models that fit, each of them, and not together: what those need that have no other nodes."""
    profile = models[0].context.cluster if models else None
    if profile is None or profile.groups is None:
        return
    wanted: list[tuple[Demand, frozenset[int]]] = []
    for demand in (demand for model in models for demand in demands(model)):
        fits = [
            number
            for number, group in enumerate(profile.groups)
            if selected(demand, group, profile)
            and not untolerated(demand, group.taints, profile)
            and room(demand, group)
        ]
        countable = demand.gpus and demand.pods and demand.resource not in profile.claimed
        if countable and fits and not (pools(demand, profile) or may_grow(profile, [profile.groups[n] for n in fits])):
            wanted.append((demand, frozenset(fits)))
    for numbers in dict.fromkeys(fits for _, fits in wanted):
        groups = [profile.groups[number] for number in sorted(numbers)]
        for resource in dict.fromkeys(demand.resource for demand, _ in wanted):
            these = [d for d, fits in wanted if d.resource == resource and fits <= numbers]
            have = sum(group.most * group.allocatable.get(resource, 0) for group in groups)
            needs = [demand.pods * demand.gpus for demand in these]
            if len(these) > 1 and max(needs) <= have < sum(needs):
                text = " + ".join(f"{d.model.name} {need}" for d, need in zip(these, needs, strict=True))
                message = f"{text} = {sum(needs)}, and {_have(these[-1], groups, sum(needs))}"
                fix = "lower the replicas of one, move one to other nodes, or add nodes"
                yield these[-1].model.mistake("pending-pods", "", message, fix)


def _need(demand: Demand, replicas: int) -> str:
    """ "4 replicas x 8 GPUs = 32"."""
    text = (
        f"{replicas} {'spot ' if demand.words.startswith('spot') else ''}{'replica' if replicas == 1 else 'replicas'}"
    )
    if demand.size > 1:
        text += f" x {demand.size} pods"
    if not demand.gpus:
        return text
    return f"{text} x {demand.gpus} {_unit(demand, demand.gpus)} = {replicas * demand.size * demand.gpus}"


def _unit(demand: Demand, number: int) -> str:
    if not demand.resource.endswith("/gpu"):
        return demand.resource
    return "GPU" if number == 1 else "GPUs"


def _have(demand: Demand, groups: Sequence[NodeGroup], pods: int) -> str:
    """ "the nodes that match have 24 (3 x 8 nvidia.com/gpu)"; and how many pods, where the GPUs do not tell."""
    if not demand.gpus:
        return f"the nodes that match have room for {pods}"
    sizes: Counter[int] = Counter()
    for group in groups:
        sizes[int(group.allocatable[demand.resource])] += group.most
    parts = ", ".join(f"{number} x {gpus}" for gpus, number in sorted(sizes.items(), reverse=True))
    total = sum(number * gpus for gpus, number in sizes.items())
    text = f"the nodes that match have {total} ({parts} {demand.resource})"
    if pods >= total // demand.gpus:
        return text
    asked, most = demand.requests, max(groups, key=lambda group: group.most)
    known = [resource for resource, amount in asked.items() if amount and resource in most.allocatable]
    least = min(known, key=lambda resource: most.allocatable[resource] / asked[resource])
    have, wanted = quantity.show(most.allocatable[least], least), quantity.show(asked[least], least)
    return f"{text}, with room for {pods} of these pods, as a node has {have} and a pod asks for {wanted}"
