"""Nodes of a named cloud, as objects for an API server; the data is inventories/<cloud>.yaml and gpus.yaml there."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.errors import UserError

_FOLDER = Path(__file__).parent / "inventories"
_GPUS = "gpus"
_UNITS = {"Mi": 1 / 1024, "Gi": 1.0, "Ti": 1024.0}


def known() -> list[str]:
    """The clouds there is an inventory of."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml") if path.stem != _GPUS)


def nodes(cloud: str) -> list[dict[str, Any]]:
    """Node objects (v1) with labels, taints, capacity and allocatable. UserError for a cloud that is not known."""
    if cloud not in known():
        raise UserError(f"unknown cloud {cloud!r}", fix=f"use one of {', '.join(known())}")
    inventory = _load(cloud)
    made = []
    for pool in inventory["pools"]:
        for number in range(pool["count"]):
            zone = inventory["zones"][number % len(inventory["zones"])]
            made.append(_node(f"{pool['name']}-{number}", pool, {"region": inventory["region"], "zone": zone}))
    return made


def gpu_workers(cloud: str, count: int) -> list[dict[str, Any]]:
    """As `nodes`: `count` of the cloud's first kind of GPU machine, on-demand and spot in turn, each in the next zone.

    Where the inventory has no spot pool of that machine, all are on-demand.
    """
    found = {node["metadata"]["name"]: node for node in nodes(cloud)}
    first = next(pool["name"] for pool in _load(cloud)["pools"] if "gpu" in pool["machine"])
    kinds = [found[name] for name in (f"{first}-0", f"{first}-spot-0") if name in found]
    zones = _load(cloud)["zones"]
    workers = [copy.deepcopy(kinds[number % len(kinds)]) for number in range(count)]
    for number, worker in enumerate(workers):
        worker["metadata"]["labels"]["topology.kubernetes.io/zone"] = zones[number % len(zones)]
    return workers


def admission_plugins(cloud: str) -> list[str]:
    """Admission plugins that the cloud's API server runs beside Kubernetes' default ones."""
    return list(_load(cloud).get("admissionPlugins", []))


@cache
def _load(name: str) -> dict[str, Any]:
    content = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def _node(name: str, pool: dict[str, Any], topology: dict[str, str]) -> dict[str, Any]:
    machine = pool["machine"]
    gpu, count = machine.get("gpu"), machine.get("gpuCount", 0)
    capacity = {"cpu": str(machine["cpu"]), "memory": machine["memory"], "ephemeral-storage": "500Gi", "pods": "110"}
    if gpu:
        capacity |= _devices(gpu, count, pool)
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": machine["type"],
        **{f"topology.kubernetes.io/{kind}": value for kind, value in topology.items()},
        **(_gpu_labels(gpu, count, pool) if pool.get("featureDiscovery", gpu) else {}),
        **pool.get("labels", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": pool.get("taints", [])},
        "status": {"capacity": capacity, "allocatable": {**capacity, **_allocatable(machine)}},
    }


def _devices(gpu: str, count: int, pool: dict[str, Any]) -> dict[str, str]:
    """resource -> number that the vendor's device plugin advertises."""
    if "labels" in _load(_GPUS)[gpu]:
        return {"amd.com/gpu": str(count)}
    mig, sharing = pool.get("mig"), pool.get("sharing", {"replicas": 1})
    if mig and mig["strategy"] == "mixed":
        slices = {f"nvidia.com/mig-{profile}": str(number * count) for profile, number in mig["slices"].items()}
        return {"nvidia.com/gpu": "0", **slices}
    replicas = sum(mig["slices"].values()) if mig else sharing["replicas"]
    return {"nvidia.com/gpu.shared" if sharing.get("renamed") else "nvidia.com/gpu": str(count * replicas)}


def _gpu_labels(gpu: str, count: int, pool: dict[str, Any]) -> dict[str, str]:
    """What AMD's node labeller or NVIDIA's GPU feature discovery writes (labels of k8s-device-plugin v0.20.0)."""
    facts = _load(_GPUS)[gpu]
    if "labels" in facts:
        return dict(facts["labels"])
    labels = _whole_gpu_labels(facts, count, pool["machine"]["type"])
    if mig := pool.get("mig"):
        labels["nvidia.com/mig.strategy"] = mig["strategy"]
        for profile, number in mig["slices"].items():
            kind = f"nvidia.com/{f'mig-{profile}' if mig['strategy'] == 'mixed' else 'gpu'}"
            labels[f"{kind}.product"] = f"{facts['product']}-MIG-{profile}"
            labels[f"{kind}.memory"] = str(facts["slices"][profile])
            labels[f"{kind}.count"] = str(number * count)
    if sharing := pool.get("sharing"):
        labels["nvidia.com/gpu.sharing-strategy"] = sharing["strategy"]
        labels["nvidia.com/gpu.replicas"] = str(sharing["replicas"])
        labels["nvidia.com/gpu.product"] += "" if sharing.get("renamed") else "-SHARED"
    return labels


def _whole_gpu_labels(facts: dict[str, Any], count: int, machine: str) -> dict[str, str]:
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": facts["product"],
        "nvidia.com/gpu.memory": str(facts["memoryMiB"]),
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.family": facts["family"],
        "nvidia.com/gpu.compute.major": facts["compute"].split(".")[0],
        "nvidia.com/gpu.compute.minor": facts["compute"].split(".")[1],
        "nvidia.com/gpu.machine": machine,
        "nvidia.com/mig.capable": str(facts["mig"]).lower(),
        "nvidia.com/mig.strategy": "single",
    }


def _allocatable(machine: dict[str, Any]) -> dict[str, str]:
    """CPU and memory that pods may request: capacity less the reservations GKE publishes, used for every cloud here.

    Source: docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes. CPU: 6 % of the first core, 1 % of
    the second, 0.5 % of the next two, 0.25 % of the rest. Memory: 25 % of the first 4 GiB, 20 % of the next 4, 10 % of
    the next 8, 6 % of the next 112, 2 % of the rest, and 100 MiB for eviction.
    """
    cores, gib = float(machine["cpu"]), _gib(machine["memory"])
    cpu = cores - _tiers(cores, ((1, 0.06), (1, 0.01), (2, 0.005), (float("inf"), 0.0025)))
    memory = gib - _tiers(gib, ((4, 0.25), (4, 0.20), (8, 0.10), (112, 0.06), (float("inf"), 0.02))) - 100 / 1024
    return {"cpu": f"{int(cpu * 1000)}m", "memory": f"{int(memory * 1024)}Mi"}


def _tiers(amount: float, tiers: tuple[tuple[float, float], ...]) -> float:
    reserved = 0.0
    for width, share in tiers:
        reserved += min(max(amount, 0.0), width) * share
        amount -= width
    return reserved


def _gib(quantity: str) -> float:
    match = re.fullmatch(r"(\d+)(Mi|Gi|Ti)", quantity)
    if not match:
        raise UserError(f"{quantity!r} is no memory size", fix="use a whole number and Mi, Gi or Ti in the inventory")
    return int(match[1]) * _UNITS[match[2]]
