"""What a fresh API server is given: the nodes of a cloud's inventory, optional APIs, and the external metrics API."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from gpu_inference.cluster import inventory
from gpu_inference.cluster.api import Api, ApiError
from gpu_inference.cluster.crds import definitions
from gpu_inference.cluster.embedded.components import ADAPTER_NAMESPACE, ADAPTER_SERVICE, Options
from gpu_inference.cluster.embedded.pki import Pki
from gpu_inference.cluster.embedded.ports import Ports

_API_SERVICE = "v1beta1.external.metrics.k8s.io"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_API_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


class Bootstrap:
    """Creates the objects, and says what of the cluster is not ready yet."""

    def __init__(self, kubeconfig: Path, options: Options, ports: Ports, pki: Pki) -> None:
        self.api = Api(kubeconfig)
        self.options = options
        self.adapter_port = ports["adapter"]
        self.ca = pki.crt("ca").read_bytes()

    def create(self) -> str:
        """Creates what is missing; "" when all is there, else why not (a fresh server makes its namespaces late)."""
        try:
            for node in inventory.nodes(self.options.cloud):
                self.api.create("/api/v1/nodes", node)
            for definition in definitions() if self.options.crds else ():
                self.api.create(_DEFINITIONS, definition)
            if self.options.rules:
                self.api.create(f"/api/v1/namespaces/{ADAPTER_NAMESPACE}/services", self._service())
                self.api.create(_API_SERVICES, self._api_service())
        except (ApiError, OSError) as error:
            return str(error)
        return ""

    def pending(self) -> str:
        """What is still missing, "" when the cluster is ready for pods and metrics."""
        try:
            for node in self.api.get("/api/v1/nodes")["items"]:
                if not _condition(node, "Ready") or _not_ready_taint(node):
                    return f"node {node['metadata']['name']} is not ready"
            self.api.get("/api/v1/namespaces/default/serviceaccounts/default")
            for definition in self.api.get(_DEFINITIONS)["items"]:
                if not _condition(definition, "Established"):
                    return f"{definition['metadata']['name']} is not established"
            if self.options.rules and not _condition(self.api.get(f"{_API_SERVICES}/{_API_SERVICE}"), "Available"):
                return f"APIService {_API_SERVICE} is not available"
        except (ApiError, OSError) as error:
            return str(error)
        return ""

    def _service(self) -> dict[str, Any]:
        """An aggregated API on the host: endpoints may not be loopback addresses, an external name may be."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": ADAPTER_SERVICE, "namespace": ADAPTER_NAMESPACE},
            "spec": {
                "type": "ExternalName",
                "externalName": "localhost",
                "ports": [{"name": "https", "port": self.adapter_port}],
            },
        }

    def _api_service(self) -> dict[str, Any]:
        return {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": _API_SERVICE},
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": ADAPTER_SERVICE, "namespace": ADAPTER_NAMESPACE, "port": self.adapter_port},
                "caBundle": base64.b64encode(self.ca).decode(),
            },
        }


def _condition(item: dict[str, Any], kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def _not_ready_taint(node: dict[str, Any]) -> bool:
    return any(taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints", []))
