"""What a fresh API server is given, and what of the cluster is not ready yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_inference.cluster import metrics
from gpu_inference.cluster.api import Api, ApiError
from gpu_inference.cluster.crds import definitions

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

Created = tuple[str, dict[str, Any]]  # path of the collection, object


def optional_apis() -> list[Created]:
    """The definitions of optional APIs (LeaderWorkerSet, PodMonitor, HTTPRoute …)."""
    return [(_DEFINITIONS, definition) for definition in definitions()]


class Bootstrap:
    """Creates `objects`. With `serves_metrics`, one of them makes the external metrics API, which must answer too."""

    def __init__(self, kubeconfig: Path, objects: Sequence[Created], serves_metrics: bool) -> None:
        self.api = Api(kubeconfig)
        self.objects = objects
        self.serves_metrics = serves_metrics

    def create(self) -> str:
        """Creates what is missing; "" when all is there, else why not (a fresh server makes its namespaces late)."""
        try:
            for path, content in self.objects:
                self.api.create(path, content)
        except (ApiError, OSError) as error:
            return str(error)
        return ""

    def pending(self) -> str:
        """What is still missing, "" when the cluster is ready for pods and metrics."""
        try:
            for node in self.api.get("/api/v1/nodes")["items"]:
                if not condition(node, "Ready") or _not_ready_taint(node):
                    return f"node {node['metadata']['name']} is not ready"
            self.api.get("/api/v1/namespaces/default/serviceaccounts/default")
            for definition in self.api.get(_DEFINITIONS)["items"]:
                if not condition(definition, "Established"):
                    return f"{definition['metadata']['name']} is not established"
            if self.serves_metrics:
                served = self.api.get(f"{metrics.API_SERVICES}/{metrics.API_SERVICE}")
                if not condition(served, "Available"):
                    return f"APIService {metrics.API_SERVICE} is not available"
        except (ApiError, OSError) as error:
            return str(error)
        return ""


def condition(item: dict[str, Any], kind: str) -> bool:
    """Whether the object's condition is "True"."""
    conditions = item.get("status", {}).get("conditions", [])
    return any(found["type"] == kind and found["status"] == "True" for found in conditions)


def _not_ready_taint(node: dict[str, Any]) -> bool:
    return any(taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints", []))
