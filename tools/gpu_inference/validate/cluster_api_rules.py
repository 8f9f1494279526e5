"""Rules about what else a cluster profile tells: APIs, classes, NodePools, what Prometheus selects, drivers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpu_inference.validate.placement import demands, pools, room, selected
from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.validate.context import Context
    from gpu_inference.validate.rules import Model

_OPERATORS = {"LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1", "RayService": "ray.io/v1"}
_NIM, _PROMETHEUS, _GATEWAY = "apps.nvidia.com/v1alpha1", "monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1"
_SECRETS = "external-secrets.io/v1"
# Who serves an API, for people.
_BY = {
    "leaderworkerset.x-k8s.io": "LeaderWorkerSet",
    "ray.io": "KubeRay",
    "apps.nvidia.com": "the NIM operator",
    "monitoring.coreos.com": "the Prometheus operator",
    "gateway.networking.k8s.io": "the Gateway API",
    "inference.networking.k8s.io": "the Gateway API Inference Extension",
    "keda.sh": "KEDA",
    "external-secrets.io": "the External Secrets operator",
    "resource.k8s.io": "Kubernetes 1.34",
    "metrics.k8s.io": "metrics-server",
    "custom.metrics.k8s.io": "prometheus-adapter",
    "external.metrics.k8s.io": "prometheus-adapter",
}
# Type of a metric of a HorizontalPodAutoscaler -> the API it is read from.
_METRICS = {
    "Resource": "metrics.k8s.io",
    "ContainerResource": "metrics.k8s.io",
    "Pods": "custom.metrics.k8s.io",
    "Object": "custom.metrics.k8s.io",
    "External": "external.metrics.k8s.io",
}
_TARGETS = {
    "cpuUtilization": "Resource",
    "memoryUtilization": "Resource",
    "gpuUtilization": "Pods",
    "queueComputeRatio": "Object",
}
# Every cluster has these.
_PRIORITIES = ("system-cluster-critical", "system-node-critical")
# monitoring.<key> -> the selector of a Prometheus that must match the object's labels.
_SELECTORS = {
    "podMonitor": "podMonitorSelector",
    "serviceMonitor": "serviceMonitorSelector",
    "rules": "ruleSelector",
}
# What GPU feature discovery calls the newest CUDA that the driver runs.
_DRIVER = "nvidia.com/cuda.runtime-version.major"
_CUDA = re.compile(r"cu(?:da)?-?(1[0-9])[.0-9]*(?![0-9a-z])")


def apis(model: Model) -> Iterator[Mistake]:
    """Kinds that the values switch on, and the metrics that an autoscaler reads."""
    served = model.context.cluster.apis if model.context.cluster else None
    if served is None:
        return
    for path, api, kind in _kinds(model):
        if kind not in served.get(api, ()):
            yield _missing(("models", model.name, *path.split(".")), api, kind)
    scaling = model.spec["autoscaling"]
    if not scaling["enabled"] or scaling["provider"] != "hpa" or model.spec["workload"] == "RayService":
        return
    groups = {api.partition("/")[0] for api in served}
    wanted = {
        f"autoscaling.target.{target}": _TARGETS.get(target, "External")
        for target, value in scaling["target"].items()
        if value is not False
    }
    wanted |= {f"autoscaling.metrics.{index}": metric["type"] for index, metric in enumerate(scaling["metrics"])}
    for path, kind in wanted.items():
        group = _METRICS[kind]
        if group not in groups:
            message = f"is read from {group}, which the cluster does not serve: nothing would ever scale"
            yield model.mistake("missing-api", path, message, f"install {_BY[group]} first")


def _kinds(model: Model) -> Iterator[tuple[str, str, str]]:
    """(path of the value, API, kind) of every optional object of a model."""
    spec, workload = model.spec, model.spec["workload"]
    if workload in _OPERATORS:
        yield "workload", _OPERATORS[workload], workload
    if workload == "NIMService":
        yield "workload", _NIM, workload
        yield "nimService.cache", _NIM, "NIMCache"
    if spec["autoscaling"]["enabled"] and spec["autoscaling"]["provider"] == "keda":
        yield "autoscaling.provider", "keda.sh/v1alpha1", "ScaledObject"
    if spec["accelerator"]["dra"]:
        yield "accelerator.dra", "resource.k8s.io/v1", "ResourceClaimTemplate"
    monitoring, gateway = spec["monitoring"], spec["gateway"]
    if monitoring["podMonitor"]["enabled"]:
        kind = "ServiceMonitor" if workload == "NIMService" else "PodMonitor"
        yield "monitoring.podMonitor.enabled", _PROMETHEUS, kind
    if monitoring["serviceMonitor"]["enabled"]:
        yield "monitoring.serviceMonitor.enabled", _PROMETHEUS, "ServiceMonitor"
    if monitoring["rules"]["enabled"]:
        yield "monitoring.rules.enabled", _PROMETHEUS, "PrometheusRule"
    if gateway["enabled"]:
        yield "gateway.enabled", _GATEWAY, "HTTPRoute"
        if gateway["grpcHostnames"]:
            yield "gateway.grpcHostnames", _GATEWAY, "GRPCRoute"
        if "endpointPicker" in gateway:
            yield "gateway.endpointPicker", "inference.networking.k8s.io/v1", "InferencePool"


def _missing(path: Path, api: str, kind: str) -> Mistake:
    message = f"needs {kind} of {api}, which the cluster does not serve"
    return Mistake("missing-api", path, message, f"install {_BY[api.partition('/')[0]]} first, or turn it off")


def release(values: Mapping[str, Any], context: Context) -> Iterator[Mistake]:
    """The same of what belongs to no model."""
    served = context.cluster.apis if context.cluster else None
    if values["externalSecrets"] and served is not None and "ExternalSecret" not in served.get(_SECRETS, ()):
        yield _missing(("externalSecrets",), _SECRETS, "ExternalSecret")


def classes(model: Model) -> Iterator[Mistake]:
    """Classes of storage, priority, proxies and devices that are not there."""
    profile = model.context.cluster
    if profile is None:
        return
    if profile.storage_classes is not None:
        yield from _storage(model, profile.storage_classes)
    if profile.priority_classes is not None:
        known = {*profile.priority_classes, *model.values["priorityClasses"], *_PRIORITIES}
        for path in ("priorityClassName", "balloon.priorityClassName", "engine.priorityClassName"):
            name = model.at(path)
            if name and name not in known:
                message = f"there is no PriorityClass {name}, and no pod that names it is admitted"
                there = _list(known - {*_PRIORITIES})
                fix = f"{f'use {there}, or ' if there else ''}define it under priorityClasses"
                yield model.mistake("priority-class", path, message, fix)
    ingress, known_classes = model.spec["ingress"], profile.ingress_classes
    if ingress["enabled"] and known_classes is not None and ingress["className"] not in known_classes:
        message = f"there is no IngressClass {ingress['className']}, so that no proxy looks at the Ingress"
        fix = f"use {_list(known_classes)}" if known_classes else "install an ingress controller, or use gateway"
        yield _warning(model.mistake("ingress-class", "ingress.className", message, fix))
    gpu = model.spec["accelerator"]
    key = "migDeviceClass" if gpu["sharing"] == "mig" else "deviceClass"
    wanted = model.spec["acceleratorPreset"].get("dra", {}).get(key)
    if gpu["dra"] and wanted and profile.device_classes is not None and wanted not in profile.device_classes:
        message = (
            f"claims a device of the class {wanted}, and the cluster has {_list(profile.device_classes) or 'none'}"
        )
        fix = "install the vendor's DRA driver, or set it to false"
        yield model.mistake("device-class", "accelerator.dra", message, fix)


def _storage(model: Model, known: Mapping[str, Mapping[str, bool]]) -> Iterator[Mistake]:
    spec, usual = model.spec, any(entry.get("default") for entry in known.values())
    claims = {f"claims.{name}": claim for name, claim in spec["claims"].items()}
    if spec["workload"] == "NIMService":
        claims["nimService.cache"] = spec["nimService"].get("cache", {})
    if spec["engine"]["enabled"] and "name" not in spec["engine"]["claim"]:
        claims["engine.claim"] = spec["engine"]["claim"]
    for path, claim in claims.items():
        name = claim.get("storageClassName")
        if name and name not in known:
            message = f"there is no StorageClass {name}: the claim, and every pod with it, stays pending"
            yield model.mistake("storage-class", f"{path}.storageClassName", message, f"use {_list(known)}")
        elif not (name or usual):
            message = "names no storage class, and the cluster has no default one: the claim stays pending"
            fix = f"set its storageClassName to {_list(known)}" if known else "install a storage driver"
            yield model.mistake("storage-class", path, message, fix)


def grace(model: Model) -> Iterator[Mistake]:
    """Karpenter ends what still drains when a node's own time is over."""
    profile = model.context.cluster
    if profile is None or not profile.pools:
        return
    for demand in demands(model):
        for pool in pools(demand, profile):
            needed = demand.spec["drain"]["graceSeconds"]
            if pool.grace_seconds is not None and pool.grace_seconds < needed:
                message = (
                    f"draining takes {needed} s, and the NodePool {pool.name} ends its nodes after "
                    f"{pool.grace_seconds} s, whatever pods still do: requests in flight are lost"
                )
                fix = f"raise terminationGracePeriod of the NodePool to {needed}s or more, or lower it"
                yield _warning(model.mistake("nodepool-grace", "drain.requestSeconds", message, fix))


def scraped(model: Model) -> Iterator[Mistake]:
    """Labels by which no Prometheus finds what the chart makes for it."""
    known = model.context.cluster.prometheuses if model.context.cluster else None
    for key, selector in _SELECTORS.items() if known else ():
        own = model.spec["monitoring"][key]
        if not own["enabled"] or any(_selects(prometheus.get(selector), own["labels"]) for prometheus in known or ()):
            continue
        wanted = [prometheus.get(selector, {}).get("matchLabels") for prometheus in known or ()]
        labels = next((labels for labels in wanted if labels), None)
        text = ", ".join(f"{name}: {value}" for name, value in labels.items()) if labels else ""
        message = f"no Prometheus of the cluster selects these{f', it wants {{{text}}}' if text else ''}"
        fix = f"set them to {{{text}}}" if text else f"give the Prometheus a {selector} that selects them"
        yield _warning(model.mistake("unselected-monitor", f"monitoring.{key}.labels", message, fix))


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Every object has more labels than these, so what is not known counts as selected."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels", {}).items()
    return bool(selector.get("matchExpressions")) or all(
        labels.get(name) == value or name.startswith(("app.kubernetes.io/", "helm.sh/", "gpu-inference.io/"))
        for name, value in wanted
    )


def driver(model: Model) -> Iterator[Mistake]:
    """An image whose tag names its CUDA needs a driver for this major version."""
    profile, tag = model.context.cluster, str(model.spec["image"].get("tag", ""))
    needed = _CUDA.search(tag)
    if profile is None or not profile.groups or not needed:
        return
    for demand in demands(model):
        matching = [group for group in profile.groups if selected(demand, group, profile) and room(demand, group)]
        found = [group.labels.get(_DRIVER, "") for group in matching]
        if found and all(version.isdigit() and int(version) < int(needed[1]) for version in found):
            newest = max(found, key=int)
            message = f"{tag} is of CUDA {needed[1]}, and the drivers of the nodes that match run {newest} at most"
            yield _warning(model.mistake("driver", "image.tag", message, "use an older image, or newer drivers"))
            return


def _warning(mistake: Mistake) -> Mistake:
    return replace(mistake, severity="warning")


def _list(names: Sequence[str] | Mapping[str, Any] | set[str]) -> str:
    return ", ".join(sorted(names))


RULES = (apis, classes, grace, scraped, driver)
