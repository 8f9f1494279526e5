"""Which nodes of a cluster profile take a model's pods, and how many: what the scheduler decides from what the chart
renders. Whatever is not known counts as fitting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from gpu_inference import sharing
from gpu_inference.cluster import quantity
from gpu_inference.cluster.profile import KARPENTER, Amounts, Labels, NodeGroup, NodePool, Profile
from gpu_inference.resolve import fetcher, resolve_values

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

Taint = Mapping[str, str]
# What is wanted of a label that a node must not have.
ABSENT = "DoesNotExist"
_MIB = 2**20
# Logs, and files nobody foresaw: chart/templates/_lib/resources.tpl; with a NIMService's temporary files.
_LOGS_MIB = {"NIMService": 2048}


@dataclass(frozen=True)
class Demand:
    """Equal pods of a model. words: how many replicas, as the values call them; pods: at least, most: at most; a
    replica is `size` pods, and a rollout adds `surge` pods."""

    model: Model
    spec: Mapping[str, Any]
    words: str
    replicas: int
    most_replicas: int
    size: int
    surge: int

    @property
    def resource(self) -> str:
        """The extended resource; empty with a ResourceClaim."""
        return str(self.spec["accelerator"]["resource"])

    @property
    def gpus(self) -> int:
        return int(self.spec["accelerator"]["count"]) if self.resource else 0

    @property
    def pods(self) -> int:
        return self.replicas * self.size

    @property
    def most(self) -> int:
        return self.most_replicas * self.size

    @property
    def selector(self) -> Labels:
        own = below(self.spec["pod"], "nodeSelector")
        return {**self.spec["nodeSelector"], **(own if isinstance(own, Mapping) else {})}

    @property
    def terms(self) -> Sequence[Mapping[str, Any]]:
        """Node selector terms of which one must hold; none: any node does."""
        absent = [{"key": label, "operator": ABSENT} for label in self.spec["absentNodeLabels"]]
        wanted = below(self.spec["pod"], "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
        # Lists of `pod` replace the chart's.
        return maps(below(wanted, "nodeSelectorTerms")) or ([{"matchExpressions": absent}] if absent else [])

    @property
    def tolerations(self) -> Sequence[Mapping[str, Any]]:
        own = below(self.spec["pod"], "tolerations")
        return list(self.spec["tolerations"].values()) if own is None else maps(own)

    @property
    def requests(self) -> Amounts:
        """What a pod asks of a node; mirrors chart/templates/_lib/resources.tpl."""
        spec, gpus = self.spec, self.spec["accelerator"]["count"]
        resources, storage = spec["resources"], spec["storage"]
        memory = sharing.mib(resources["memory"]["requests"]) * gpus + sharing.mib(spec["shm"]["sizeLimit"])
        disk = 1024 + sum(sharing.mib(entry["sizeLimit"]) for entry in spec["writable"].values())
        kept = "cache" in spec["claims"] or "claim" in storage["download"]
        if fetcher(spec, spec["runtimePreset"]) and not kept:
            disk += sharing.mib(storage["cache"]["sizeLimit"]) * gpus
        asked = {
            "cpu": Fraction(repr(resources["cpu"]["requests"])) * gpus,
            "memory": Fraction(memory * _MIB),
            "ephemeral-storage": Fraction(_LOGS_MIB.get(spec["workload"], disk) * _MIB),
        }
        if self.resource:
            asked[self.resource] = Fraction(gpus)
        own = below(spec["container"], "resources", "requests")
        for resource, amount in own.items() if isinstance(own, Mapping) else ():
            with suppress(ValueError):  # the API server's to refuse
                asked[resource] = quantity.parse(amount)
        return asked


def below(value: Any, *keys: str) -> Any:
    """What lies below a value that may have any shape; None where nothing does."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def maps(value: Any) -> list[Mapping[str, Any]]:
    """The maps of what should be a list of them."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def demands(model: Model) -> Iterator[Demand]:
    """Those of a model's pods that serve; of capacity mixed, the on-demand base and the spot pods above it."""
    spec, scaling = model.spec, model.spec["autoscaling"]
    size = spec["parallelism"]["pipeline"] if spec["workload"] == "LeaderWorkerSet" else 1
    least = scaling["minReplicas"] if scaling["enabled"] else spec["replicas"]
    most = scaling["maxReplicas"] if scaling["enabled"] else spec["replicas"]
    spare = spec["rollout"]["spareGPU"]
    # KubeRay brings a second cluster beside the first: chart/templates/operators/rayservice.yaml.
    surge = (least if spec["workload"] == "RayService" else 1) * size if spare else 0
    if spec["capacity"] != "mixed":
        words = "minReplicas" if scaling["enabled"] else "replicas"
        yield Demand(model, spec, words, least, most, size, surge)
        return
    base = spec["replicas"]
    yield Demand(model, spec, "replicas", base, base, size, surge)
    own = {**model.values["models"][model.name], "capacity": "spot"}
    burst = resolve_values({**model.values, "models": {model.name: own}})["models"][model.name]
    yield Demand(model, burst, "spot replicas", max(1, least - base), most - base, size, surge)


def selected(demand: Demand, group: NodeGroup, profile: Profile) -> bool:
    """Whether a group's labels are what the pods want."""
    return not unmet(demand, group.labels, profile)


def unmet(demand: Demand, labels: Labels, profile: Profile) -> list[tuple[str, str]]:
    """(label, wanted) of what labels do not satisfy."""
    missing = [
        (label, str(value))
        for label, value in demand.selector.items()
        if not profile.omits(label) and labels.get(label) != value
    ]
    if demand.terms and not any(_term(term, labels, profile) for term in demand.terms):
        wanted = [e for term in demand.terms for e in maps(term.get("matchExpressions")) if not _holds(e, labels)]
        missing += [(str(e.get("key")), " ".join((str(e.get("operator")), *_values(e)))) for e in wanted]
    return missing


def _term(term: Mapping[str, Any], labels: Labels, profile: Profile) -> bool:
    """A term without expressions matches nothing, but one with fields matches nodes by name, which are not known."""
    expressions = maps(term.get("matchExpressions"))
    if not expressions:
        return bool(term.get("matchFields"))
    return all(profile.omits(str(e.get("key"))) or _holds(e, labels) for e in expressions)


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    """An operator that there is not is the API server's to refuse."""
    value, values = labels.get(str(expression.get("key"))), _values(expression)
    more = less = False
    if value is not None and value.isdigit() and len(values) == 1 and values[0].isdigit():
        more, less = int(value) > int(values[0]), int(value) < int(values[0])
    holds = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
        "Gt": more,
        "Lt": less,
    }
    return holds.get(str(expression.get("operator")), True)


def _values(expression: Mapping[str, Any]) -> list[str]:
    found = expression.get("values")
    return [str(value) for value in found] if isinstance(found, list) else []


def untolerated(demand: Demand, taints: Iterable[Taint], profile: Profile) -> list[Taint]:
    """Taints that keep the pods away."""
    # GKE's ExtendedResourceToleration: who requests a resource tolerates the taint of its name.
    # https://docs.cloud.google.com/kubernetes-engine/docs/how-to/gpus
    given = demand.resource if "-gke." in (profile.version or "") else ""
    return [
        taint
        for taint in taints
        if taint["effect"] != "PreferNoSchedule" and taint["key"] != given and not _tolerated(taint, demand.tolerations)
    ]


def _tolerated(taint: Taint, entries: Iterable[Mapping[str, Any]]) -> bool:
    return any(
        entry.get("key") in (taint["key"], None, "")
        and entry.get("effect") in (taint["effect"], None, "")
        and (entry.get("operator", "Equal") == "Exists" or entry.get("value", "") == taint.get("value", ""))
        for entry in entries
    )


def room(demand: Demand, group: NodeGroup) -> int:
    """Pods that an empty node of the group holds."""
    fits = []
    for resource, asked in demand.requests.items():
        known = resource in group.allocatable or "/" in resource
        if asked and known:
            fits.append(int(group.allocatable.get(resource, Fraction(0)) // asked))
    return min(fits, default=1)


def pools(demand: Demand, profile: Profile) -> list[NodePool]:
    """NodePools that may make a node for the pods."""
    return [
        pool for pool in profile.pools if _pool_fits(pool, demand) and not untolerated(demand, pool.taints, profile)
    ]


def _pool_fits(pool: NodePool, demand: Demand) -> bool:
    """Labels that a pool says nothing about may be the machine's."""
    requirements: dict[str, list[Mapping[str, Any]]] = {}
    for requirement in pool.requirements:
        requirements.setdefault(requirement["key"], []).append(requirement)
    return all(
        pool.labels.get(label, value) == value
        and all(_holds(requirement, {label: value}) for requirement in requirements.get(label, []))
        for label, value in demand.selector.items()
    )


def static(groups: Iterable[NodeGroup], found: Sequence[NodePool]) -> list[NodeGroup]:
    """The groups that no NodePool of `found` makes."""
    names = {pool.name for pool in found}
    return [group for group in groups if group.labels.get(KARPENTER) not in names]


def may_grow(profile: Profile, groups: Sequence[NodeGroup]) -> bool:
    """Whether more nodes may come than are known."""
    return any(group.max_count is None and (profile.autoscaled or KARPENTER in group.labels) for group in groups)
