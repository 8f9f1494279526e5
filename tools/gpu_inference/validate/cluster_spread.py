"""Pods that must keep apart, or be spread evenly, over the nodes of a cluster profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gpu_inference.cluster.profile import HOSTNAME, NodeGroup, Profile
from gpu_inference.report import count
from gpu_inference.validate.placement import Demand, below, maps, room, untolerated
from gpu_inference.validate.schema_errors import Mistake


def uneven(demand: Demand, profile: Profile, matching: Sequence[NodeGroup]) -> Iterator[Mistake]:
    """Pods that must be spread evenly over zones, or run on a node each, where there are too few of these."""
    model = demand.model
    rooms = {id(group): 0 if untolerated(demand, group.taints, profile) else room(demand, group) for group in matching}
    for label, mode in demand.spec["spread"].items():
        if mode != "DoNotSchedule" or (label != HOSTNAME and profile.omits(label)):
            continue
        domains: dict[str, int] = {}
        for number, group in enumerate(matching):
            if label == HOSTNAME:
                domains |= {f"{number} {node}": rooms[id(group)] for node in range(group.most)}
            elif label in group.labels:
                zone = group.labels[label]
                domains[zone] = domains.get(zone, 0) + group.most * rooms[id(group)]
        if not domains:
            message = f"no node that matches has the label {label}, and DoNotSchedule leaves out nodes without it"
            yield model.mistake("spread", f"spread.{label}", message, "set it to ScheduleAnyway, or label the nodes")
            continue
        least = min(domains.values())
        held = sum(min(number, least + 1) for number in domains.values())
        if demand.pods > held:
            where = f"on {count(len(domains), 'node')}" if label == HOSTNAME else _rooms(domains)
            message = f"of {count(demand.pods, 'pod')} that must be spread evenly only {held} can run: {where}"
            fix = "set it to ScheduleAnyway, or lower the replicas"
            yield replace(model.mistake("spread", "spread", message, fix), path=("models", model.name, "spread", label))
    yield from _apart(demand, sum(group.most for group in matching if rooms[id(group)]))


def _rooms(domains: Mapping[str, int]) -> str:
    return "there is room for " + ", ".join(f"{number} in {name}" for name, number in sorted(domains.items()))


def _apart(demand: Demand, held: int) -> Iterator[Mistake]:
    """Of pods that may not share a node there cannot be more than nodes."""
    model, own = demand.model, {"gpu-inference.io/model": demand.model.name, **demand.spec["podLabels"]}
    terms = below(demand.spec["pod"], "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    for term in maps(terms):
        labels = below(term, "labelSelector", "matchLabels")
        ours = isinstance(labels, Mapping) and any(own.get(key) == value for key, value in labels.items())
        if not ours or term.get("topologyKey") != HOSTNAME or demand.pods + demand.surge <= held:
            continue
        surge = f" and {demand.surge} more in a rollout" if demand.surge else ""
        nodes = "1 node matches" if held == 1 else f"{held} nodes match"
        message = f"{count(demand.pods, 'pod')}{surge}, each on a node of its own, and {nodes}"
        fix = "prefer it instead, with spread {kubernetes.io/hostname: ScheduleAnyway}, or add nodes"
        path = "pod.affinity.podAntiAffinity"
        yield model.mistake("anti-affinity", path, message, fix)
