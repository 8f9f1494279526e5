"""The nodes of a kind cluster in the API: labels, taints and GPUs of a cloud's inventory, for machines without GPUs."""

from __future__ import annotations

from typing import Any

from gpu_inference.cluster import inventory
from gpu_inference.cluster.api import Api

_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# What the kubelet itself says of its machine.
_OWN_LABELS = ("kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch")


class Workers:
    """The workers, each with the part of a node of `cloud`: on-demand and spot in turn."""

    def __init__(self, api: Api, cloud: str) -> None:
        self.api = api
        self.cloud = cloud

    def list(self) -> list[dict[str, Any]]:
        nodes = self.api.get("/api/v1/nodes")["items"]
        workers = [node for node in nodes if _CONTROL_PLANE not in node["metadata"]["labels"]]
        return sorted(workers, key=lambda node: (len(node["metadata"]["name"]), node["metadata"]["name"]))

    def dress(self) -> None:
        """Gives the workers their labels, taints and GPUs. ApiError or OSError where that did not work yet."""
        workers = self.list()
        for node, example in zip(workers, inventory.gpu_workers(self.cloud, len(workers)), strict=True):
            self.api.patch(_path(node), clothes(node, example))
        self.advertise()

    def advertise(self) -> None:
        """Writes the GPUs that are missing in a worker's status: a kubelet that starts again may reset them to 0.

        An extended resource that no device plugin serves is written to the status by whoever knows of it
        (kubernetes.io/docs/tasks/administer-cluster/extended-resource-node); the kubelet then keeps it.
        """
        workers = self.list()
        for node, example in zip(workers, inventory.gpu_workers(self.cloud, len(workers)), strict=True):
            wanted = devices(example)
            capacity = node["status"].get("capacity", {})
            if any(capacity.get(name) != count for name, count in wanted.items()):
                self.api.patch(f"{_path(node)}/status", {"status": {"capacity": wanted, "allocatable": wanted}})


def clothes(node: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """The patch that gives `node` the labels and taints of `example`, beside those it has."""
    labels = {key: value for key, value in example["metadata"]["labels"].items() if key not in _OWN_LABELS}
    taints = {(taint["key"], taint["effect"]): taint for taint in node["spec"].get("taints", [])}
    taints |= {(taint["key"], taint["effect"]): taint for taint in example["spec"]["taints"]}
    version = node["metadata"]["resourceVersion"]  # taints are replaced as a whole: nobody else's may get lost
    return {"metadata": {"labels": labels, "resourceVersion": version}, "spec": {"taints": list(taints.values())}}


def devices(example: dict[str, Any]) -> dict[str, str]:
    """The extended resources of a node."""
    return {name: count for name, count in example["status"]["capacity"].items() if "/" in name}


def _path(node: dict[str, Any]) -> str:
    return f"/api/v1/nodes/{node['metadata']['name']}"
