"""What is done to nodes from outside: as kind makes them, they are containers of Docker or podman."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from support.cluster import items

from gpu_inference.cluster.provider import Provider
from gpu_inference.values.presets import load_presets

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


class Nodes:
    """The nodes of a cluster with a cloud's marks; `engine` runs `docker|podman words…` on the machine."""

    def __init__(self, cluster: Provider, cloud: str, engine: Callable[..., str]) -> None:
        self._engine = engine
        nodes = items(cluster, "nodes")
        self._addresses = {
            node["metadata"]["name"]: address["address"]
            for node in nodes
            for address in node["status"]["addresses"]
            if address["type"] == "InternalIP"
        }
        labels = {node["metadata"]["name"]: node["metadata"]["labels"] for node in nodes}
        self.control_plane = next(name for name, own in labels.items() if CONTROL_PLANE in own)
        self._cloud = load_presets("clouds")[cloud]["spot"]
        marks = self._cloud["nodeSelector"].items()
        self.spot = next(name for name, own in labels.items() if marks <= own.items())

    @property
    def address(self) -> str:
        """Of the control plane, whose kube-proxy stays whatever becomes of the workers."""
        return self._addresses[self.control_plane]

    @property
    def notice(self) -> tuple[int, int]:
        """s from the notice to the spot node's end, and of it those that pods get."""
        return self._cloud["noticeSeconds"], self._cloud["podGraceSeconds"]

    def run(self, node: str, *words: str) -> str:
        """Standard output of a command on a node."""
        return self._engine("exec", node, *words)

    def kill_container(self, pod: dict[str, Any]) -> None:
        """SIGKILL for the first process of a pod's container."""
        (status,) = pod["status"]["containerStatuses"]
        container = status["containerID"].removeprefix("containerd://")
        self.run(pod["spec"]["nodeName"], "ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", container)

    def kill_process(self, node: str, name: str) -> None:
        self.run(node, "pkill", "-KILL", "-x", name[:15])

    @contextlib.contextmanager
    def paused(self, node: str) -> Iterator[None]:
        """A node that neither answers nor works, without having said anything."""
        self._engine("pause", node)
        try:
            yield
        finally:
            self._engine("unpause", node)
