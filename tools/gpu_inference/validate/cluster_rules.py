"""Rules about the nodes of a cluster profile: pods that would wait for a node for ever.

Where something may add nodes, and the profile does not tell how many, a finding is a warning: it holds for the nodes
that are there now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpu_inference.cluster import quantity
from gpu_inference.cluster.profile import HOSTNAME, NodeGroup, NodePool, Profile
from gpu_inference.report import count
from gpu_inference.validate.placement import Demand, demands, pools, room, selected, static, unmet, untolerated
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
    for demand in demands(model):
        if demand.most:
            yield from _placed(demand, profile, profile.groups)


def _placed(demand: Demand, profile: Profile, groups: Sequence[NodeGroup]) -> Iterator[Mistake]:
    made = pools(demand, profile)
    matching = [group for group in groups if group.most and selected(demand, group, profile)]
    tolerated = [group for group in matching if not untolerated(demand, group.taints, profile)]
    fitting = [group for group in tolerated if room(demand, group)]
    if made:
        yield from _limited(demand, made, static(fitting, made))
    elif not matching:
        yield _severe(_no_node(demand, profile, groups), profile, groups)
    elif not tolerated:
        yield _severe(_tainted(demand, profile, matching), profile, matching)
    elif not fitting:
        yield _severe(_too_small(demand, tolerated), profile, tolerated)
    else:
        found = list(_scarce(demand, profile, fitting))
        yield from (_severe(mistake, profile, fitting) for mistake in found or _uneven(demand, profile, matching))
    yield from _shared(demand, fitting)


def _severe(mistake: Mistake, profile: Profile, groups: Sequence[NodeGroup]) -> Mistake:
    """A warning where more nodes may come than are known."""
    if profile.autoscaled and any(group.max_count is None for group in groups):
        message = f"{mistake.message}; an autoscaler may add nodes, how many is not known"
        return replace(mistake, message=message, severity="warning")
    return mistake


def _no_node(demand: Demand, profile: Profile, groups: Sequence[NodeGroup]) -> Mistake:
    wants = unmet(demand, {}, profile)
    nowhere = [want for want in wants if all(want in unmet(demand, group.labels, profile) for group in groups)]
    model = demand.model
    if not nowhere:
        text = ", ".join(f"{label}={value}" for label, value in wants)
        fix = "select nodes that are there, or add such a node"
        return model.mistake("no-node", "nodeSelector", f"no node of the profile has all of {text}", fix)
    label, value = nowhere[0]
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
    message = f"the {count(number, 'node')} that match have the taint {text}, which the pods do not tolerate"
    entry = f"key: {taint['key']}, {f'value: {value}' if value else 'operator: Exists'}, effect: {taint['effect']}"
    return demand.model.mistake("untolerated-taint", "tolerations", message, f"add {{pool: {{{entry}}}}}")


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


def _scarce(demand: Demand, profile: Profile, groups: Sequence[NodeGroup]) -> Iterator[Mistake]:
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
    elif demand.gpus:
        free = sum((g.most * g.allocatable[demand.resource] - g.others.get(demand.resource, 0)) for g in groups)
        if demand.pods * demand.gpus > free:
            taken = sum(group.others.get(demand.resource, 0) for group in groups)
            message = f"{_need(demand, demand.replicas)}, and {have}, of which other pods have {taken}"
            yield replace(
                model.mistake("pending-pods", "accelerator", message, "lower the replicas, or add nodes"),
                severity="warning",
            )


def _no_spare(demand: Demand, pods: int, at_peak: bool, have: str) -> Mistake:
    """Surge without a node to run on: the rollout waits for ever, as it takes no old pod away."""
    model, surge = demand.model, demand.surge
    doing = f"a rollout at {pods // demand.size} replicas" if at_peak else "a rollout"
    if model.spec["workload"] == "RayService":
        doing = "an upgrade brings a second cluster and"
    needed = f"{(pods + surge) * demand.gpus} {_unit(demand)}" if demand.gpus else f"room for {pods + surge} pods"
    message = f"{doing} needs {needed}, {surge * (demand.gpus or 1)} more than it runs on, and {have}: it never ends"
    fix = "set it to false: an old pod goes first"
    if model.spec["workload"] == "RayService":
        fix = "set it to false: the running cluster stays as it is"
    mistake = model.mistake("no-spare-gpu", "rollout.spareGPU", message, f"{fix}; or add nodes")
    return replace(mistake, severity="warning") if at_peak or model.spec["workload"] == "RayService" else mistake


def _limited(demand: Demand, made: Sequence[NodePool], groups: Sequence[NodeGroup]) -> Iterator[Mistake]:
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


def _uneven(demand: Demand, profile: Profile, matching: Sequence[NodeGroup]) -> Iterator[Mistake]:
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
            where = f"{len(domains)} nodes" if label == HOSTNAME else _rooms(domains)
            message = f"{_need(demand, demand.replicas)}; spread evenly, {held} of the pods find room on {where}"
            fix = "set it to ScheduleAnyway, or lower the replicas"
            yield replace(model.mistake("spread", "spread", message, fix), path=("models", model.name, "spread", label))
    yield from _apart(demand, sum(group.most for group in matching if rooms[id(group)]))


def _rooms(domains: Mapping[str, int]) -> str:
    return ", ".join(f"{name} (room for {number})" for name, number in sorted(domains.items()))


def _apart(demand: Demand, held: int) -> Iterator[Mistake]:
    """Of pods that may not share a node there cannot be more than nodes."""
    model, own = demand.model, {"gpu-inference.io/model": demand.model.name, **demand.spec["podLabels"]}
    terms = demand.spec["pod"].get("affinity", {}).get("podAntiAffinity", {})
    for term in terms.get("requiredDuringSchedulingIgnoredDuringExecution", []):
        labels = term.get("labelSelector", {}).get("matchLabels", {})
        ours = labels and any(own.get(key) == value for key, value in labels.items())
        if not ours or term["topologyKey"] != HOSTNAME or demand.pods + demand.surge <= held:
            continue
        surge = f" and {demand.surge} more in a rollout" if demand.surge else ""
        message = f"{count(demand.pods, 'pod')}{surge}, each on a node of its own, and {count(held, 'node')} match"
        fix = "prefer it instead, with spread {kubernetes.io/hostname: ScheduleAnyway}, or add nodes"
        path = "pod.affinity.podAntiAffinity"
        yield model.mistake("anti-affinity", path, message, fix)


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
        if demand.gpus and demand.pods and fits and not pools(demand, profile):
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
                mistake = these[-1].model.mistake("pending-pods", "", message, fix)
                yield _severe(mistake, profile, groups)


def _need(demand: Demand, replicas: int) -> str:
    """ "4 replicas x 8 GPUs = 32"."""
    text = (
        f"{replicas} {'spot ' if demand.words.startswith('spot') else ''}{'replica' if replicas == 1 else 'replicas'}"
    )
    if demand.size > 1:
        text += f" x {demand.size} pods"
    if not demand.gpus:
        return text
    return f"{text} x {demand.gpus} {_unit(demand)} = {replicas * demand.size * demand.gpus}"


def _unit(demand: Demand) -> str:
    if not demand.resource.endswith("/gpu"):
        return demand.resource
    return "GPU" if demand.gpus == 1 else "GPUs"


def _have(demand: Demand, groups: Sequence[NodeGroup], pods: int) -> str:
    """ "the nodes that match have 24 (3 x 8 nvidia.com/gpu)"; and how many pods, where something else is scarcer."""
    if not demand.gpus:
        return f"the nodes that match hold {pods}"
    each = [(group.most, int(group.allocatable[demand.resource])) for group in groups]
    sizes: Counter[int] = Counter()
    for number, gpus in each:
        sizes[gpus] += number
    parts = ", ".join(f"{number} x {gpus}" for gpus, number in sorted(sizes.items(), reverse=True))
    total = sum(number * gpus for number, gpus in each)
    text = f"the nodes that match have {total} ({parts} {demand.resource})"
    return text if pods >= sum(n * (g // demand.gpus) for n, g in each) else f"{text}, but hold {pods} such pods"


RULES: tuple[Any, ...] = (nodes,)
