"""Watching the release: what the API server says, boiled down to one sample a second."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

from gpu_inference.demo.environment import MODEL_LABEL
from gpu_inference.load.process import Progress

STATES = ("pending", "loading", "ready", "terminating")
RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Sample:
    """State of the release at `time` (s since observation began); of one model: replicas, in flight, TTFT.

    gpus: held by pods, of which `gpus_leaving` by pods that terminate; gpu_hours: held since the first sample.
    """

    time: float
    nodes: int
    pods: dict[str, int]
    desired: int
    ready: int
    existing: int
    metric: float | None
    scaling_active: bool
    gpus: float
    gpus_leaving: float
    gpu_hours: float
    sent: int = 0
    done: int = 0
    failed: int = 0
    ttft_p50: float | None = None
    ttft_p95: float | None = None

    @property
    def in_flight(self) -> int:
        """Requests the load generator waits for."""
        return self.sent - self.done

    def row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self) | {"in_flight": self.in_flight}


def condition(item: dict[str, Any], kind: str) -> bool:
    """Whether a status condition is True."""
    conditions = item.get("status", {}).get("conditions") or []
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def state(pod: dict[str, Any]) -> str | None:
    """One of STATES; None for a pod that has ended."""
    if pod["status"].get("phase") in ("Succeeded", "Failed"):
        return None
    if pod["metadata"].get("deletionTimestamp"):
        return "terminating"
    if pod["status"].get("phase") != "Running":
        return "pending"
    return "ready" if condition(pod, "Ready") else "loading"


def balloon(item: dict[str, Any]) -> bool:
    """Whether a pod or Deployment only keeps room for others."""
    return item["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "balloon"


def held_gpus(pod: dict[str, Any], resources: set[str]) -> float:
    """GPUs that the pod keeps from others: its requests, from its binding to a node until its end."""
    if state(pod) is None or not pod["spec"].get("nodeName"):
        return 0.0
    requests = [c.get("resources", {}).get("requests") or {} for c in pod["spec"]["containers"]]
    return float(sum(float(r[name]) for r in requests for name in resources if name in r))


def metric_per_replica(hpa: dict[str, Any]) -> float | None:
    """The HPA's current value of its external metric, requests a replica."""
    current = (hpa.get("status", {}).get("currentMetrics") or [{}])[0].get("external", {}).get("current", {})
    text = current.get("averageValue")
    if text is None:
        return None
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


class Observer:
    """Keeps the newest Deployments, pods and HPAs of a namespace by watching, not by asking again and again."""

    def __init__(self, kubeconfig: Path, namespace: str, resources: set[str]) -> None:
        api = config.new_client_from_config(str(kubeconfig))
        self._items: dict[str, dict[str, dict[str, Any]]] = {"pod": {}, "deployment": {}, "hpa": {}}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._namespace, self._resources = namespace, resources
        self.nodes = len(client.CoreV1Api(api).list_node().items)
        self.version: str = client.VersionApi(api).get_code().git_version
        self.began = time.monotonic()
        self._last: float | None = None
        self.gpu_hours = 0.0
        lists = {
            "pod": client.CoreV1Api(api).list_namespaced_pod,
            "deployment": client.AppsV1Api(api).list_namespaced_deployment,
            "hpa": client.AutoscalingV2Api(api).list_namespaced_horizontal_pod_autoscaler,
        }
        for kind, listing in lists.items():
            threading.Thread(target=self._watch, args=(kind, listing), daemon=True).start()

    def _watch(self, kind: str, listing: Callable[..., Any]) -> None:
        while not self._stopped.is_set():
            try:
                for event in watch.Watch().stream(listing, self._namespace, timeout_seconds=600):
                    self._keep(kind, event["type"], event["raw_object"])
            except Exception:  # the connection broke or the version is too old: list again
                time.sleep(RETRY_SECONDS)

    def _keep(self, kind: str, event: str, item: dict[str, Any]) -> None:
        name = item["metadata"]["name"]
        with self._lock:
            if event == "DELETED":
                self._items[kind].pop(name, None)
            else:
                self._items[kind][name] = item

    def stop(self) -> None:
        """No new watch begins; those that wait end with the connection."""
        self._stopped.set()

    def items(self, kind: str) -> list[dict[str, Any]]:
        """The newest objects of a kind: pod, deployment or hpa."""
        with self._lock:
            return list(self._items[kind].values())

    def sample(self, model: str, progress: Progress) -> Sample:
        """The state now; `progress` is the load's. GPU-hours grow by what was held since the sample before."""
        now = time.monotonic()
        pods = self.items("pod")
        gpus = sum(held_gpus(pod, self._resources) for pod in pods)
        pods = [pod for pod in pods if not balloon(pod)]
        self.gpu_hours += gpus * (now - (self._last or now)) / 3600
        self._last = now
        # Of mixed capacity there are two: the on-demand base, and the spot pods above it.
        deployments, hpas = (self._of(kind, model) for kind in ("deployment", "hpa"))
        hpa = next(iter(hpas), {})
        counts = Counter(filter(None, map(state, pods)))
        return Sample(
            time=now - self.began,
            nodes=self.nodes,
            pods={name: counts[name] for name in STATES},
            desired=sum(d["spec"].get("replicas") or 0 for d in deployments),
            ready=sum(d.get("status", {}).get("readyReplicas") or 0 for d in deployments),
            existing=sum(p["metadata"]["labels"].get(MODEL_LABEL) == model and state(p) is not None for p in pods),
            metric=metric_per_replica(hpa),
            scaling_active=condition(hpa, "ScalingActive"),
            gpus=gpus,
            gpus_leaving=sum(held_gpus(p, self._resources) for p in pods if state(p) == "terminating"),
            gpu_hours=self.gpu_hours,
            sent=progress.sent,
            done=progress.done,
            failed=progress.failed,
            ttft_p50=progress.ttft_p50,
            ttft_p95=progress.ttft_p95,
        )

    def _of(self, kind: str, model: str) -> list[dict[str, Any]]:
        found = (o for o in self.items(kind) if o["metadata"].get("labels", {}).get(MODEL_LABEL) == model)
        return [o for o in found if not balloon(o)]

    def unavailable(self) -> list[str]:
        """Why the Deployments are not all available yet, a line each; empty when they are."""
        return [
            f"{d['metadata']['name']}: {d.get('status', {}).get('readyReplicas') or 0} of {d['spec']['replicas']} ready"
            for d in self.items("deployment")
            if not balloon(d)
            if d.get("status", {}).get("observedGeneration") != d["metadata"]["generation"]
            or (d.get("status", {}).get("readyReplicas") or 0) < d["spec"]["replicas"]
        ]

    def unschedulable(self) -> str | None:
        """The scheduler's words on a pod it has no node for."""
        for pod in self.items("pod"):
            for c in pod["status"].get("conditions") or []:
                if c["type"] == "PodScheduled" and c["status"] == "False":
                    return f"{pod['metadata']['name']}: {c.get('message', '')}"
        return None
