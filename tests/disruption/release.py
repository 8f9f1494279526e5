"""A release under test: its values, installed in a namespace of its own, and looks at its pods."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.cluster import apply, get, items, restricted_namespace, wait_for
from support.render import as_layer, helm

from gpu_inference.cluster.provider import Provider
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART
from gpu_inference.twin.container.arguments import takes
from gpu_inference.values.presets import load_presets, overlay

NAME = "llm"
MODEL = "chat"
CLOUD = "aks"  # whose marks the nodes have
READY_WITHIN = 180.0  # s


def values(image: str, cloud: str = CLOUD, **model: Any) -> dict[str, Any]:
    """Values of one model, with the twin's image in the place of the runtime's; all else a small node needs."""
    repository, _, tag = image.rpartition(":")
    runtime = model.get("runtime", "vllm")
    preset = load_presets("runtimes")[runtime]
    directories = {"tmp", *preset["defaults"].get("writable", {})}
    weights = {"source": "pvc://weights/chat", "servedName": MODEL, "parametersBillion": 8.03, "weightsDtype": "fp8"}
    if takes(preset, "model.contextLength"):
        weights["contextLength"] = 4096
    small = {
        "runtime": runtime,
        "image": {"repository": repository, "tag": tag},
        "model": weights,
        "accelerator": {"type": "nvidia-h100", "count": 1},  # what the nodes are marked with; the twin is slower
        "replicas": 2,
        "startup": {"loadSeconds": 15, "provisionSeconds": 30},
        "drain": {"preStopSeconds": 5, "requestSeconds": 12},  # with the teardown 27 s of the 30 a spot node has
        "probes": {"startup": {"periodSeconds": 1}, "readiness": {"periodSeconds": 2}},
        "resources": {"cpu": {"requests": 0.05, "limits": 1}, "memory": {"requests": "96Mi", "limits": "384Mi"}},
        "shm": {"sizeLimit": "16Mi"},
        "writable": {name: {"sizeLimit": "64Mi"} for name in directories},
        "service": {"type": "NodePort"},
        "env": {"TWIN_LOAD_SECONDS": "1", "TWIN_PARAMETERS_BILLION": "8.03", "TWIN_SERVED_NAME": MODEL},
    }
    return {"cloud": cloud, "models": {MODEL: overlay(small, model)}}


class Release:
    """A release of one model in a namespace; `values` are those it was last given."""

    def __init__(self, cluster: Provider, namespace: str, node_address: str, chart: Path = CHART) -> None:
        self.cluster, self.namespace, self.chart = cluster, namespace, chart
        self.helm = Helm(helm().binary, kubeconfig=cluster.kubeconfig)
        self.values: dict[str, Any] = {}
        self._address = node_address

    def install(self, values: dict[str, Any], wait: bool = True) -> None:
        self.values = values
        self._deploy("install", wait, f"{READY_WITHIN:.0f}s")

    def upgrade(self, change: dict[str, Any] | None = None, timeout: str = "180s", atomic: bool = False) -> None:
        """The same values with a change of the model's; waits until it is rolled out. UserError when it is not."""
        self.values = overlay(self.values, {"models": {MODEL: change or {}}})
        self._deploy("upgrade", True, timeout, atomic)

    def test(self) -> str:
        """`helm test`: the model is asked through its Service."""
        return self.helm.test(NAME, namespace=self.namespace, timeout="90s")

    def _deploy(self, verb: str, wait: bool, timeout: str, atomic: bool = False) -> None:
        how = {"layers": [as_layer(self.values)], "namespace": self.namespace, "wait": wait, "timeout": timeout}
        getattr(self.helm, verb)(NAME, self.chart, **how, atomic=atomic)

    def kubectl(self, *words: str, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, check=check)

    @property
    def url(self) -> str:
        """Of the Service, at a port of a node."""
        service = get(self.cluster, "service", self.workload, "-n", self.namespace)
        port = next(port["nodePort"] for port in service["spec"]["ports"] if port["name"] == "http")
        return f"http://{self._address}:{port}"

    @property
    def workload(self) -> str:
        return f"{NAME}-{MODEL}"

    def pods(self) -> list[dict[str, Any]]:
        """The model's pods, those that are going too."""
        return items(self.cluster, "pods", "-n", self.namespace, "-l", f"gpu-inference.io/model={MODEL}")

    def ready(self) -> list[dict[str, Any]]:
        """Pods that are Ready and stay."""
        return [pod for pod in self.pods() if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def names(self) -> set[str]:
        """Of the pods that are Ready and stay."""
        return {name_of(pod) for pod in self.ready()}

    def now(self, pod: dict[str, Any]) -> dict[str, Any]:
        """The pod as it is now."""
        return get(self.cluster, "pod", name_of(pod), "-n", self.namespace) or {"status": {}}

    def restarts(self, pod: dict[str, Any]) -> int:
        """Of the pod's containers, up to now."""
        return sum(status["restartCount"] for status in self.now(pod)["status"].get("containerStatuses", []))

    def on(self, node: str) -> list[dict[str, Any]]:
        """The pods on a node, those that are going too."""
        return [pod for pod in self.pods() if pod["spec"].get("nodeName") == node]

    def ready_on(self, node: str) -> set[str]:
        """Names of the pods on a node that are Ready and stay."""
        return self.names() & {name_of(pod) for pod in self.on(node)}

    def claims(self) -> dict[str, str]:
        """Name -> volume of every claim in the namespace."""
        found = items(self.cluster, "pvc", "-n", self.namespace)
        return {claim["metadata"]["name"]: claim["spec"].get("volumeName", "") for claim in found}

    def await_ready(self, count: int, seconds: float = READY_WITHIN) -> None:
        """Exactly so many pods are there, and all are ready."""

        def settled() -> bool:
            pods = [pod for pod in self.pods() if pod["status"].get("phase") in ("Pending", "Running")]
            return len(pods) == count and len([p for p in pods if is_ready(p)]) == count

        try:
            wait_for(settled, seconds, f"{count} ready pods")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.kubectl('get', 'pods,events', '-o', 'wide')[-3000:]}") from None

    def fault(self, pod: dict[str, Any], words: str) -> None:
        """Switches a fault of a pod's twin."""
        at = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}:8000/proxy/twin/faults/{words}"
        self.cluster.kubectl("create", "--raw", at, "-f", "/dev/null", check=False)


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def name_of(pod: dict[str, Any]) -> str:
    name: str = pod["metadata"]["name"]
    return name


@contextlib.contextmanager
def weights(cluster: Provider, namespace: str) -> Iterator[None]:
    """The claim `weights`, bound to an empty folder of whatever node a pod is on."""
    shape = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = f"{namespace}-weights"
    disk = {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/var/lib/weights", "type": "DirectoryOrCreate"}}
    claim = {**shape, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}}
    v1, metadata = {"apiVersion": "v1"}, {"name": "weights", "namespace": namespace}
    apply(
        cluster,
        {**v1, "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {**shape, **disk}},
        {**v1, "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim},
    )
    try:
        yield
    finally:
        cluster.kubectl("delete", f"pv/{volume}", "--wait=false", check=False)


@contextlib.contextmanager
def released(cluster: Provider, node_address: str, prefix: str, chart: Path = CHART) -> Iterator[Release]:
    """A namespace with the claim, for a release that goes with it."""
    with restricted_namespace(cluster, prefix) as namespace, weights(cluster, namespace):
        try:
            yield Release(cluster, namespace, node_address, chart)
        finally:  # at once: what was to be seen has been seen
            cluster.kubectl("delete", "pods", "--all", "-n", namespace, "--grace-period=0", "--force", check=False)
