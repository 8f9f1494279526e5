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
        self._cluster, self._engine = cluster, engine
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

    def restarts(self, component: str) -> int:
        """Of a part of the control plane, as far as the API server can tell."""
        pod, path = f"pod/{component}-{self.control_plane}", "{.status.containerStatuses[0].restartCount}"
        return int(self._cluster.kubectl("get", pod, "-n", "kube-system", "-o", f"jsonpath={path}", check=False) or 0)

    def kill_process(self, node: str, name: str) -> None:
        self.run(node, "pkill", "-KILL", "-x", name[:15])

    @contextlib.contextmanager
    def cut_off(self, node: str) -> Iterator[None]:
        """A node from which nothing comes and to which nothing gets: to all others it is gone, without a word."""
        try:
            self._drop(node, "-I")
            yield
        finally:
            self._drop(node, "-D")

    def _drop(self, node: str, how: str) -> None:
        for command in ("iptables", "ip6tables"):  # a kubelet may reach the API server by either
            self.run(node, command, "-t", "raw", how, "PREROUTING", "-i", "eth0", "-j", "DROP")
            self.run(node, command, "-t", "mangle", how, "POSTROUTING", "-o", "eth0", "-j", "DROP")
