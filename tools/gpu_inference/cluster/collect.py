"""`gpu-inference cluster profile`: what a cluster's API server tells of it, as a cluster profile."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

import yaml

from gpu_inference.cluster import quantity
from gpu_inference.cluster.profile import HOSTNAME

# Path of the API -> the parsed answer; None for what is not served, LookupError for what may not be read.
Get = Callable[[str], Any]
Object = Mapping[str, Any]

# APIs beyond Kubernetes' own that the chart makes objects of, or its autoscalers read: {group/version: kinds}.
APIS: Mapping[str, Sequence[str]] = {
    "apps.nvidia.com/v1alpha1": ("NIMCache", "NIMService"),
    "custom.metrics.k8s.io/v1beta1": (),
    "custom.metrics.k8s.io/v1beta2": (),
    "external-secrets.io/v1": ("ExternalSecret",),
    "external.metrics.k8s.io/v1beta1": (),
    "gateway.networking.k8s.io/v1": ("GRPCRoute", "HTTPRoute"),
    "inference.networking.k8s.io/v1": ("InferencePool",),
    "keda.sh/v1alpha1": ("ScaledObject",),
    "leaderworkerset.x-k8s.io/v1": ("LeaderWorkerSet",),
    "metrics.k8s.io/v1beta1": (),
    "monitoring.coreos.com/v1": ("PodMonitor", "PrometheusRule", "ServiceMonitor"),
    "ray.io/v1": ("RayService",),
    "resource.k8s.io/v1": ("ResourceClaimTemplate",),
}
# Labels that tell one node from another or describe its hardware in more detail than anyone selects by.
_OMITTED = (
    HOSTNAME,
    "feature.node.kubernetes.io/*",
    "nvidia.com/gfd.timestamp",
    "*.feature.node.kubernetes.io/*",
)
# Kept even where every node has its own.
_TELLING = re.compile(
    r"topology\.kubernetes\.io/|node\.kubernetes\.io/instance-type|(nvidia|amd|intel)\.com/|karpenter"
)
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_CHART = "gpu-inference"
_SECONDS = {"h": 3600, "m": 60, "s": 1, "ms": 0}
_PAGE = 500
_TITLE = """\
# A cluster, for `gpu-inference validate --cluster-profile`; written by `gpu-inference cluster profile`.
# Where an autoscaler adds nodes, set autoscaled; or maxCount of each group, with pools that are empty now as count: 0.
"""


def collect(get: Get, note: Callable[[str], None]) -> dict[str, Any]:
    """A profile of what `get` answers, sorted; `note` is told what may not be read and so is left out."""
    parts: dict[str, Callable[[], Any]] = {
        "kubernetes": lambda: get("/version")["gitVersion"],
        "apis": lambda: _apis(get),
        "deviceClasses": lambda: _devices(_list(get, "/apis/resource.k8s.io/v1/deviceclasses")),
        "storageClasses": lambda: _storage(_list(get, "/apis/storage.k8s.io/v1/storageclasses")),
        "ingressClasses": lambda: [
            item["metadata"]["name"] for item in _sorted(_list(get, "/apis/networking.k8s.io/v1/ingressclasses"))
        ],
        "priorityClasses": lambda: {
            item["metadata"]["name"]: item["value"]
            for item in _sorted(_list(get, "/apis/scheduling.k8s.io/v1/priorityclasses"))
        },
        "prometheuses": lambda: _prometheuses(_list(get, "/apis/monitoring.coreos.com/v1/prometheuses")),
        "nodePools": lambda: [_pool(item) for item in _sorted(_list(get, "/apis/karpenter.sh/v1/nodepools"))],
        "autoscaled": lambda: _autoscaled(get),
    }
    profile: dict[str, Any] = {}
    for key, read in parts.items():
        try:
            profile[key] = read()
        except LookupError as error:
            note(f"{key} is left out: {error}")
    nodes, pods = list(_list(get, "/api/v1/nodes")), []
    try:
        pods = list(_list(get, "/api/v1/pods"))
    except LookupError as error:
        note(f"what pods request is left out: {error}")
    omitted = omitted_labels(nodes)
    profile["omittedLabels"] = omitted
    profile["nodeGroups"] = node_groups(nodes, pods, omitted)
    return profile


def text(profile: Mapping[str, Any]) -> str:
    """A profile as its file holds it."""
    return _TITLE + yaml.safe_dump(dict(profile), sort_keys=False, width=120, allow_unicode=True)


def omitted_labels(nodes: Sequence[Object]) -> list[str]:
    """Patterns of the labels to leave out: known ones, and those of which no two nodes have the same."""
    values: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        for label, value in node["metadata"].get("labels", {}).items():
            values[label].append(value)
    own = [
        label
        for label, found in values.items()
        if len(found) > 2 and len(set(found)) == len(found) and not (_TELLING.match(label) or _matches(label, _OMITTED))
    ]
    return [*_OMITTED, *sorted(own)]


def _matches(label: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(label, pattern) for pattern in patterns)


def node_groups(nodes: Sequence[Object], pods: Sequence[Object], omitted: Sequence[str]) -> list[dict[str, Any]]:
    """Nodes that new pods may go to, equal ones together, ordered by their labels; objects are the API server's."""
    requested = _requested(pods)
    groups: dict[str, dict[str, Any]] = {}
    taken: dict[str, tuple[Counter[str], Counter[str]]] = defaultdict(lambda: (Counter(), Counter()))
    for node in nodes:
        if node["spec"].get("unschedulable"):
            continue
        group = _group(node, omitted)
        key = json.dumps(group, sort_keys=True)
        groups.setdefault(key, {"count": 0, **group})["count"] += 1
        for total, part in zip(taken[key], requested[node["metadata"]["name"]], strict=True):
            total.update(part)
    for key, group in groups.items():
        for name, total in zip(("requested", "requestedByChart"), taken[key], strict=True):
            if total:
                group[name] = dict(sorted(total.items()))
    return [groups[key] for key in sorted(groups)]


def _group(node: Object, omitted: Sequence[str]) -> dict[str, Any]:
    labels = {
        label: value
        for label, value in sorted(node["metadata"].get("labels", {}).items())
        if not _matches(label, omitted)
    }
    taints = [
        {key: taint[key] for key in ("key", "value", "effect") if taint.get(key)}
        for taint in node["spec"].get("taints") or ()
        # The node controller's, which come and go.
        if not taint["key"].startswith("node.kubernetes.io/")
    ]
    offered = {
        resource: _rounded(resource, amount)
        for resource, amount in sorted(node["status"].get("allocatable", {}).items())
        if not resource.startswith(("hugepages-", "attachable-volumes-")) and resource != "pods"
    }
    group: dict[str, Any] = {"labels": labels}
    if taints:
        group["taints"] = sorted(taints, key=lambda taint: (taint["key"], taint["effect"]))
    return {**group, "allocatable": offered}


def _rounded(resource: str, amount: str) -> str | int:
    """Equal machines differ by some MiB: memory and disk are rounded down to GiB, and CPU to tenths."""
    number = quantity.parse(amount)
    if resource in ("memory", "ephemeral-storage"):
        return f"{int(number / 2**30)}Gi"
    if resource == "cpu":
        tenths = int(number * 10)
        return tenths // 10 if tenths % 10 == 0 else f"{tenths * 100}m"
    return int(number)


def _requested(pods: Sequence[Object]) -> Mapping[str, tuple[Counter[str], Counter[str]]]:
    """Node -> extended resources that its pods request, and the part of them that pods of this chart do."""
    found: dict[str, tuple[Counter[str], Counter[str]]] = defaultdict(lambda: (Counter(), Counter()))
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if not node or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        asked: Counter[str] = Counter()
        for container in pod["spec"]["containers"]:
            for resource, amount in container.get("resources", {}).get("requests", {}).items():
                if "/" in resource:
                    asked[resource] += int(quantity.parse(amount))
        found[node][0].update(asked)
        if pod["metadata"].get("labels", {}).get("app.kubernetes.io/name") == _CHART:
            found[node][1].update(asked)
    return found


def _autoscaled(get: Get) -> bool:
    """Whether the Cluster Autoscaler is there; who may not look has to expect it."""
    try:
        return bool(get("/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"))
    except LookupError:
        return True


def _apis(get: Get) -> dict[str, list[str]]:
    served = {}
    for api, kinds in APIS.items():
        answer = get(f"/apis/{api}")
        if answer:
            there = {resource["kind"] for resource in answer.get("resources", ())}
            served[api] = [kind for kind in kinds if kind in there]
    return served


def _devices(items: Iterator[Object]) -> dict[str, dict[str, str]]:
    key = "extendedResourceName"
    return {
        item["metadata"]["name"]: {key: item["spec"][key]} if item["spec"].get(key) else {} for item in _sorted(items)
    }


def _storage(items: Iterator[Object]) -> dict[str, dict[str, bool]]:
    return {
        item["metadata"]["name"]: (
            {"default": True} if item["metadata"].get("annotations", {}).get(_DEFAULT_CLASS) == "true" else {}
        )
        for item in _sorted(items)
    }


def _prometheuses(items: Iterator[Object]) -> list[dict[str, Any]]:
    keys = ("podMonitorSelector", "serviceMonitorSelector", "ruleSelector")
    return [
        {
            "name": item["metadata"]["name"],
            **{key: item["spec"][key] for key in keys if item["spec"].get(key) is not None},
        }
        for item in _sorted(items)
    ]


def _pool(item: Object) -> dict[str, Any]:
    template = item["spec"]["template"]
    pool: dict[str, Any] = {"name": item["metadata"]["name"]}
    labels = template.get("metadata", {}).get("labels")
    taints = [
        {key: taint[key] for key in ("key", "value", "effect") if taint.get(key)}
        for taint in template["spec"].get("taints", ())
    ]
    wanted = {
        "labels": labels,
        "taints": taints,
        "requirements": template["spec"].get("requirements"),
        "limits": item["spec"].get("limits"),
    }
    pool |= {key: value for key, value in wanted.items() if value}
    period = template["spec"].get("terminationGracePeriod")
    if period:
        pool["terminationGracePeriodSeconds"] = seconds(period)
    return pool


def seconds(duration: str) -> int:
    """Of a duration such as 1h30m."""
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", duration)
    return int(sum(Fraction(number) * _SECONDS[unit] for number, unit in parts))


def _sorted(items: Iterator[Object]) -> list[Object]:
    return sorted(items, key=lambda item: str(item["metadata"]["name"]))


def _list(get: Get, path: str) -> Iterator[Object]:
    """All items of a list, page by page; none of what is not served."""
    more = ""
    while True:
        page = get(f"{path}?limit={_PAGE}{more}")
        if page is None:
            return
        yield from page["items"]
        token = page["metadata"].get("continue")
        if not token:
            return
        more = f"&continue={token}"
