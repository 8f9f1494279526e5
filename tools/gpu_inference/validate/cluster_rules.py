"""Rules about the nodes of a cluster profile: pods that would wait for a node for ever.

Where something may add nodes, and the profile does not tell how many, nodes are not counted, and that none matches is a
warning: a pool may be empty now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpu_inference.cluster import quantity
from gpu_inference.cluster.profile import NodeGroup, Profile
from gpu_inference.report import count
from gpu_inference.validate.cluster_counts import limited, scarce
from gpu_inference.validate.cluster_spread import uneven
from gpu_inference.validate.placement import (
    ABSENT,
    Demand,
    demands,
    may_grow,
    pools,
    room,
    selected,
    static,
    unmet,
    untolerated,
)
from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.values.presets import load_presets
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

_PATHS = {"cpu": "resources.cpu.requests", "memory": "resources.memory.requests"}
_DISK = "storage.cache.sizeLimit"
_SHARED = ("nvidia.com/gpu.sharing-strategy", "cloud.google.com/gke-gpu-sharing-strategy")
_CLIENTS = ("nvidia.com/gpu.replicas", "cloud.google.com/gke-max-shared-clients-per-gpu")


def nodes(model: Model) -> Iterator[Mistake]:
    """Of a model's pods those that no node takes, or fewer nodes than it needs."""
    profile = model.context.cluster
    if profile is None or profile.groups is None:
        return
    groups = [group for group in profile.groups if group.most]
    for demand in demands(model):
        if demand.most:
            yield from _placed(demand, profile, groups)


def _placed(demand: Demand, profile: Profile, groups: Sequence[NodeGroup]) -> Iterator[Mistake]:
    made = pools(demand, profile)
    matching = [group for group in groups if selected(demand, group, profile)]
    tolerated = [group for group in matching if not untolerated(demand, group.taints, profile)]
    if demand.resource in profile.claimed:
        return  # DRA hands these out, and the nodes' status does not tell how many there are
    fitting = [group for group in tolerated if room(demand, group)]
    if made:
        yield from limited(demand, made, static(fitting, made))
    elif not matching:
        yield _severe(_no_node(demand, profile, groups), profile, groups)
    elif not tolerated:
        yield _severe(_tainted(demand, profile, matching), profile, matching)
    elif not fitting:
        yield _severe(_too_small(demand, tolerated), profile, tolerated)
    elif not may_grow(profile, fitting):
        yield from list(scarce(demand, fitting)) or uneven(demand, profile, matching)
    yield from _shared(demand, fitting)


def _severe(mistake: Mistake, profile: Profile, groups: Sequence[NodeGroup]) -> Mistake:
    if not (profile.autoscaled or may_grow(profile, groups)):
        return mistake
    return replace(mistake, message=f"{mistake.message}, unless an autoscaler adds others", severity="warning")


def _no_node(demand: Demand, profile: Profile, groups: Sequence[NodeGroup]) -> Mistake:
    model, lacks = demand.model, [unmet(demand, group.labels, profile) for group in groups]
    wants = list(dict.fromkeys([*unmet(demand, {}, profile), *(want for lack in lacks for want in lack)]))
    nowhere = [want for want in wants if all(want in lack for lack in lacks)]
    if not nowhere:
        text = ", ".join(f"{label} {value}" if value == ABSENT else f"{label}={value}" for label, value in wants)
        fix = "select nodes that are there, or add such a node"
        return model.mistake("no-node", "nodeSelector", f"no node of the profile has all of {text}", fix)
    label, value = nowhere[0]
    if value == ABSENT:
        fix = "set capacity to what these nodes are, or add others"
        return Mistake("no-node", _where(demand, label), f"every node of the profile has {label}", fix)
    there = Counter({group.labels.get(label, ""): 0 for group in groups})
    for group in groups:
        there[group.labels.get(label, "")] += group.most
    del there[""]
    found = ", ".join(f"{other} ({count(number, 'node')})" for other, number in sorted(there.items()))
    message = f"no node of the profile has {label}={value}: " + (f"there are {found}" if found else "none has it")
    return Mistake("no-node", _where(demand, label), message, _instead(model, label, value, groups))


def _where(demand: Demand, label: str) -> Path:
    """The value that made the pods want a label."""
    model = demand.model
    for path in (("models", model.name), ("modelDefaults",)):
        layer = model.values
        for key in path:
            layer = layer[key]
        if label in layer.get("nodeSelector", {}):
            return (*path, "nodeSelector", label)
    capacity = demand.spec["capacity"]
    side = model.cloud.get("onDemand" if capacity == "mixed" else capacity, {})
    if label in side.get("nodeSelector", {}) or label in side.get("absentNodeLabels", {}):
        return ("models", model.name, "capacity")
    return ("models", model.name, "accelerator", "type")


def _instead(model: Model, label: str, value: str, groups: Sequence[NodeGroup]) -> str:
    """What to write for the nodes that are there."""
    for group in groups:
        other = group.labels.get(label, "")
        if other == f"{value}-SHARED":
            way = "mps" if "mps" in (group.labels.get(key) for key in _SHARED) else "timeSlicing"
            replicas = group.labels.get(_CLIENTS[0], "…")
            return f"these share their GPUs: set accelerator to {{sharing: {way}, shared: {{replicas: {replicas}}}}}"
        if other.startswith(f"{value}-MIG-"):
            mig = f"{{strategy: single, profile: {other.removeprefix(f'{value}-MIG-')}}}"
            return f"these are cut into slices: set accelerator to {{sharing: mig, mig: {mig}}}"
    resource, products = model.spec["acceleratorPreset"]["resource"], model.spec["acceleratorPreset"]["nodeLabels"]
    clouds = [
        name
        for name, cloud in sorted(load_presets("clouds", model.values).items())
        if any(group.labels.get(cloud["productLabels"].get(resource), "") in products.values() for group in groups)
    ]
    if label in products and clouds and not any(label in group.labels for group in groups):
        return f"these nodes are labelled as on {' or '.join(clouds)}: set cloud to what this is"
    there = {group.labels[label] for group in groups if label in group.labels}
    presets = load_presets("accelerators", model.values)
    known = sorted(name for name, preset in presets.items() if preset["nodeLabels"].get(label) in there)
    instead = f"use {' or '.join(known)}" if known else "select nodes that are there"
    return f"{instead}, or add such a node"


def _tainted(demand: Demand, profile: Profile, groups: Sequence[NodeGroup]) -> Mistake:
    taint = untolerated(demand, groups[0].taints, profile)[0]
    value = taint.get("value", "")
    text = f"{taint['key']}{f'={value}' if value else ''}:{taint['effect']}"
    number = sum(group.most for group in groups)
    those = "the node that matches has" if number == 1 else f"the {number} nodes that match have"
    message = f"{those} the taint {text}, which the pods do not tolerate"
    entry = f"key: {taint['key']}, {f'value: {value}' if value else 'operator: Exists'}, effect: {taint['effect']}"
    fix = f"{_elsewhere(demand, taint)}add {{pool: {{{entry}}}}}"
    return demand.model.mistake("untolerated-taint", "tolerations", message, fix)


def _elsewhere(demand: Demand, taint: Mapping[str, str]) -> str:
    """What tolerates a taint without a toleration in the values: nodes of spot capacity, another cloud."""
    model = demand.model
    spot = model.cloud.get("spot", {}).get("tolerations", {})
    if any(entry.get("key") == taint["key"] for entry in spot.values()):
        return "set capacity to spot, or "
    clouds = load_presets("clouds", model.values)
    named = [name for name, cloud in sorted(clouds.items()) if taint["key"] in _keys(cloud)]
    return f"set cloud to {' or '.join(named)} where this is one, or " if named else ""


def _keys(cloud: Mapping[str, Any]) -> set[str]:
    return {entry.get("key", "") for entry in cloud["tolerations"].values()}


def _too_small(demand: Demand, groups: Sequence[NodeGroup]) -> Mistake:
    asked = demand.requests
    model = demand.model
    for resource, amount in sorted(asked.items(), key=lambda item: item[0] != demand.resource):
        most = max(group.allocatable.get(resource, amount * ("/" not in resource)) for group in groups)
        if most < amount:
            path = _PATHS.get(resource, _DISK if resource == "ephemeral-storage" else "accelerator.count")
            have = f"{quantity.show(most, resource)} at most" if most else f"no {resource}{_others(resource, groups)}"
            message = f"a pod asks for {quantity.show(amount, resource)}, and the nodes that match have {have}"
            fix = "lower it, or add larger nodes" if most else "set accelerator.sharing to what these nodes offer"
            if not (most or _others(resource, groups)):
                fix = "install the vendor's device plugin there, or select other nodes"
            if path == "accelerator.count" and most:
                fix = "lower it, spread the model over the pods of a LeaderWorkerSet, or add larger nodes"
            return model.mistake("node-too-small", path, message, fix)
    text = ", ".join(quantity.show(amount, resource) for resource, amount in asked.items())
    message = f"a pod asks for {text}, and no single node that matches has it all"
    return model.mistake("node-too-small", "resources", message, "lower resources, or add larger nodes")


def _others(resource: str, groups: Sequence[NodeGroup]) -> str:
    """ ", but nvidia.com/gpu.shared": what the vendor calls its devices there."""
    vendor = resource.partition("/")[0]
    there = {name for group in groups for name, amount in group.allocatable.items() if amount and "/" in name}
    named = sorted(name for name in there if name.startswith(f"{vendor}/"))
    return f", but {', '.join(named)}" if named else ""


def _shared(demand: Demand, groups: Sequence[NodeGroup]) -> Iterator[Mistake]:
    """Whole GPUs asked of nodes whose GPUs are shared."""
    gpu, clients = demand.spec["accelerator"], set()
    if gpu["sharing"] != "none" or gpu["dra"]:
        return
    for group in groups:
        if not any(group.labels.get(label, "none") != "none" for label in _SHARED):
            return
        clients |= {group.labels[label] for label in _CLIENTS if label in group.labels}
    if clients:
        message = (
            f"is none, and the nodes that match give each GPU to {'/'.join(sorted(clients))} pods: "
            f"{gpu['count']} {demand.resource} is no whole GPU, and memory is not kept apart"
        )
        fix = "set it to timeSlicing or mps with shared.replicas, or select other nodes"
        yield replace(demand.model.mistake("shared-node", "accelerator.sharing", message, fix), severity="warning")


RULES: tuple[Any, ...] = (nodes,)
