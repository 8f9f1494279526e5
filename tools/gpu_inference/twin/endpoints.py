"""Services and their ready endpoints, as kube-proxy knows them."""

from __future__ import annotations

import random
from typing import Any

from gpu_inference.twin.kube import KubeClient

Key = tuple[str, str]
Endpoint = tuple[str, dict[str, int]]  # pod name, port name -> container port
SERVICE = "kubernetes.io/service-name"


def _key(item: dict[str, Any]) -> Key:
    return item["metadata"]["namespace"], item["metadata"]["name"]


class Endpoints:
    """Follows Services and EndpointSlices; picks endpoints at random."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._services: dict[Key, dict[str, str]] = {}  # port name or number -> port name
        self._slices: dict[Key, tuple[Key, list[Endpoint]]] = {}
        self._ready: dict[Key, list[Endpoint]] = {}

    async def follow_services(self) -> None:
        """Keep up with Services, for ever."""
        async for kind, payload in self._client.follow("/api/v1/services"):
            if kind == "SYNC":
                self._services = {_key(item): self._ports(item) for item in payload}
            elif kind == "DELETED":
                self._services.pop(_key(payload), None)
            else:
                self._services[_key(payload)] = self._ports(payload)

    async def follow_slices(self) -> None:
        """Keep up with EndpointSlices, for ever."""
        async for kind, payload in self._client.follow("/apis/discovery.k8s.io/v1/endpointslices"):
            if kind == "SYNC":
                self._slices = {_key(item): self._slice(item) for item in payload}
            elif kind == "DELETED":
                self._slices.pop(_key(payload), None)
            else:
                self._slices[_key(payload)] = self._slice(payload)
            self._ready = {}
            for service, endpoints in self._slices.values():
                self._ready.setdefault(service, []).extend(endpoints)

    def pick(self, namespace: str, service: str, port: str) -> tuple[str, int] | str:
        """(pod, container port) of a random ready endpoint, or why there is none. port: name, number, or "" if it has
        one."""
        ports = self._services.get((namespace, service))
        if ports is None:
            return f'services "{service}" not found in namespace {namespace}'
        name = ports.get(port)
        if name is None:
            return f'service "{service}" has no port "{port}"'
        able = [(pod, numbers[name]) for pod, numbers in self._ready.get((namespace, service), ()) if name in numbers]
        return random.choice(able) if able else f'no endpoints available for service "{service}"'

    @staticmethod
    def _ports(service: dict[str, Any]) -> dict[str, str]:
        ports = service["spec"].get("ports") or []
        known = {key: port.get("name", "") for port in ports for key in (str(port["port"]), port.get("name", ""))}
        return known | ({"": ports[0].get("name", "")} if len(ports) == 1 else {})

    @staticmethod
    def _slice(item: dict[str, Any]) -> tuple[Key, list[Endpoint]]:
        meta = item["metadata"]
        numbers = {port.get("name") or "": port["port"] for port in item.get("ports") or [] if port.get("port")}
        ready = [
            (endpoint["targetRef"]["name"], numbers)
            for endpoint in item.get("endpoints") or []
            # An endpoint without the condition counts as ready (EndpointConditions in discovery.k8s.io/v1).
            if (endpoint.get("conditions") or {}).get("ready") is not False and "targetRef" in endpoint
        ]
        return (meta["namespace"], (meta.get("labels") or {}).get(SERVICE, "")), ready
