"""What tests on a cluster share: a namespace of their own, the claims a model reads, waiting, and looking."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gpu_inference.cluster.provider import Provider

from .render import as_layer

# Kubernetes makes and keeps these in any namespace, or lets them expire.
BYSTANDERS = {"events", "events.events.k8s.io", "leases.coordination.k8s.io"}
RESTRICTED = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")
}  # fmt: skip


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of a condition; fails the test after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return value


def get(cluster: Provider, *words: str) -> Any:
    """What `kubectl get … -o json` answers; None for something that is not there."""
    text = cluster.kubectl("get", *words, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def items(cluster: Provider, *words: str) -> list[dict[str, Any]]:
    """The objects of a list."""
    return (get(cluster, *words) or {"items": []})["items"]


def apply(cluster: Provider, *objects: dict[str, Any]) -> None:
    """Creates or changes objects."""
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


@contextlib.contextmanager
def restricted_namespace(cluster: Provider, prefix: str) -> Iterator[str]:
    """A namespace that admits restricted pods only; at the end it goes with all that is in it."""
    name = f"{prefix}-{uuid.uuid4().hex[:6]}"
    apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    wait_for(lambda: get(cluster, "serviceaccount", "default", "-n", name), 20, "the default ServiceAccount")
    wait_for(lambda: get(cluster, "configmap", "kube-root-ca.crt", "-n", name), 20, "the root CA's ConfigMap")
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@contextlib.contextmanager
def bound_claims(cluster: Provider, namespace: str, sources: Iterable[str]) -> Iterator[None]:
    """The claims of pvc:// sources, bound to volumes made for them: without one a pod is not scheduled."""
    claims = sorted({s.removeprefix("pvc://").split("/")[0] for s in sources if s.startswith("pvc://")})
    shape = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    for claim in claims:
        volume = f"{namespace}-{claim}"
        apply(
            cluster,
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": {**shape, "capacity": {"storage": "1Ti"}, "csi": {"driver": "test", "volumeHandle": volume}},
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": namespace},
                "spec": {**shape, "volumeName": volume, "resources": {"requests": {"storage": "1Ti"}}},
            },
        )
    try:
        yield
    finally:
        for claim in claims:
            cluster.kubectl("delete", "-n", namespace, f"pvc/{claim}", "--wait=false")
            cluster.kubectl("delete", f"pv/{namespace}-{claim}", "--wait=false")


@contextlib.contextmanager
def disks(cluster: Provider, namespace: str, models: Mapping[str, Any]) -> Iterator[None]:
    """Volumes for the claims a release makes, one for each pod of a StatefulSet; the claims stay, and go at the end."""
    made = []
    for model, spec in models.items():
        count = spec["replicas"] if spec["workload"] == "StatefulSet" else 1
        for claim, wanted in spec["claims"].items():
            for number in range(count):
                volume = f"{namespace}-{model}-{claim}-{number}"
                made.append(volume)
                shape = {
                    "accessModes": wanted["accessModes"],
                    "storageClassName": wanted.get("storageClassName", ""),
                    "capacity": {"storage": wanted["size"]},
                    "csi": {"driver": "test", "volumeHandle": volume},
                }
                apply(
                    cluster,
                    {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": shape},
                )
    try:
        yield
    finally:
        for volume in made:
            cluster.kubectl("delete", f"pv/{volume}", "--wait=false")


def _device(name: str, **attributes: str) -> dict[str, Any]:
    known = {key: {"string": value} for key, value in {"productName": "NVIDIA H100 80GB HBM3", **attributes}.items()}
    return {"name": name, "attributes": known}


@contextlib.contextmanager
def devices(cluster: Provider, node: str) -> Iterator[None]:
    """What NVIDIA's DRA driver publishes of a node: four H100s, and two slices of a fifth."""
    driver, mine = "gpu.nvidia.com", 'device.driver == "gpu.nvidia.com" && device.attributes["gpu.nvidia.com"].type =='
    gpus = [_device(f"gpu-{n}", type="gpu") for n in range(4)]
    slices = [_device(f"gpu-4-mig-{n}", type="mig", profile="1g.10gb") for n in range(2)]
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    classes = {driver: "gpu", "mig.nvidia.com": "mig"}
    api = "resource.k8s.io/v1"
    published = {"driver": driver, "nodeName": node, "pool": pool, "devices": gpus + slices}
    apply(
        cluster,
        {"apiVersion": api, "kind": "ResourceSlice", "metadata": {"name": f"{node}-gpus"}, "spec": published},
        *(
            {
                "apiVersion": api,
                "kind": "DeviceClass",
                "metadata": {"name": name},
                "spec": {"selectors": [{"cel": {"expression": f'{mine} "{kind}"'}}]},
            }
            for name, kind in classes.items()
        ),
    )
    try:
        yield
    finally:
        made = [f"resourceslice/{node}-gpus", *(f"deviceclass/{name}" for name in classes)]
        cluster.kubectl("delete", *made, "--wait=false")


def quick_loads(models: Iterable[str], seconds: int = 1) -> Path:
    """An overlay that shortens every model's load time: KWOK pods take as long as their annotation says."""
    return as_layer({"models": {name: {"startup": {"loadSeconds": seconds}} for name in models}})


def inventory(cluster: Provider, namespace: str) -> set[str]:
    """resource/name of every object in a namespace, of every kind the API server can list."""
    kinds = cluster.kubectl("api-resources", "--verbs=list,delete", "--namespaced", "-o", "name").split()
    wanted = ",".join(sorted(set(kinds) - BYSTANDERS))
    return set(cluster.kubectl("get", wanted, "-n", namespace, "-o", "name", "--ignore-not-found").split())


def ready_replicas(cluster: Provider, namespace: str, deployment: str) -> int:
    """Ready pods of a Deployment."""
    return get(cluster, "deployment", deployment, "-n", namespace)["status"].get("readyReplicas", 0)
