"""Rules about how requests come in: Service, NetworkPolicy, Ingress and the Gateway API's routes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from gpu_inference.validate.schema_errors import Mistake

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Keys of a Service that Kubernetes refuses in others than these types.
_TYPES = {
    "externalTrafficPolicy": ("LoadBalancer", "NodePort"),
    "loadBalancerSourceRanges": ("LoadBalancer",),
    "nodePorts": ("LoadBalancer", "NodePort"),
}


def _service(model: Model) -> Iterator[Mistake]:
    service, metrics = model.spec["service"], model.runtime["metrics"]["port"]
    inside = service["type"] == "ClusterIP" or metrics == "http"
    # Metrics are published to the cluster only.
    ports = [name for name in model.runtime["ports"] if inside or name != metrics]
    for key, types in _TYPES.items():
        if service.get(key) and service["type"] not in types:
            message = f"a {service['type']} Service takes none"
            fix = f"set type to {' or '.join(types)}, or remove it"
            yield model.mistake("service-type", f"service.{key}", message, fix)
    for name in service["nodePorts"]:
        if name not in ports:
            message = f"{model.spec['runtime']} publishes no port of this name"
            yield model.mistake("node-port", f"service.nodePorts.{name}", message, f"use {', '.join(sorted(ports))}")


def _open_service(model: Model) -> Iterator[Mistake]:
    service = model.spec["service"]
    if (
        service["type"] == "ClusterIP"
        or service.get("loadBalancerSourceRanges")
        or model.spec["networkPolicy"]["enabled"]
    ):
        return
    ranges = "set loadBalancerSourceRanges, or " if service["type"] == "LoadBalancer" else ""
    message = f"a {service['type']} Service lets everybody in"
    yield model.mistake("open-service", "service.type", message, f"{ranges}enable networkPolicy")


def _network_policy(model: Model) -> Iterator[Mistake]:
    policy = model.spec["networkPolicy"]
    if not policy["enabled"]:
        return
    monitors = (model.spec["monitoring"][kind]["enabled"] for kind in ("podMonitor", "serviceMonitor"))
    scraped = model.spec["autoscaling"]["enabled"] or any(monitors)
    if scraped and not policy["monitoringFrom"]:
        message = "is empty, so that nothing can scrape the pods"
        fix = "name Prometheus, or turn autoscaling and the monitors off"
        yield model.mistake("network-policy", "networkPolicy.monitoringFrom", message, fix)
    exposed = model.spec["ingress"]["enabled"] or model.spec["gateway"]["enabled"]
    if exposed and all(peer.keys() == {"podSelector"} for peer in policy["ingressFrom"]):
        message = "lets in this namespace only, where a proxy for the whole cluster seldom is"
        fix = "add the proxy's, {namespaceSelector: …}"
        yield model.mistake("proxy-shut-out", "networkPolicy.ingressFrom", message, fix)
    kind = model.spec["service"]["type"]
    if kind != "ClusterIP" and not any("ipBlock" in peer for peer in policy["ingressFrom"]):
        message = f"lets in pods only, and what comes through a {kind} has a node's or a client's address"
        fix = "add the addresses, {ipBlock: {cidr: …}}: the nodes', or with externalTrafficPolicy Local the clients'"
        yield model.mistake("clients-shut-out", "networkPolicy.ingressFrom", message, fix)


def _ingress(model: Model) -> Iterator[Mistake]:
    ingress = model.spec["ingress"]
    if not ingress["enabled"]:
        return
    if not ingress.get("host"):
        yield model.mistake("ingress-host", "ingress.host", "is not set", "set it to the name that clients use")
    if ingress.get("grpcHost"):
        yield from _grpc(model, "ingress.grpcHost")
    if not ingress.get("tlsSecret"):
        fix = "name the Secret with the certificate"
        if ingress.get("grpcHost"):
            message = "is not set, and gRPC needs HTTP/2, which nginx speaks over TLS only"
            yield model.mistake("grpc-tls", "ingress.tlsSecret", message, fix)
        else:
            message = "is not set, so that requests and keys can be read on the way"
            yield model.mistake("no-tls", "ingress.tlsSecret", message, fix)
    yield from _timeout(model, "ingress")


def _gateway(model: Model) -> Iterator[Mistake]:
    gateway = model.spec["gateway"]
    if not gateway["enabled"]:
        return
    if not gateway["parentRefs"]:
        fix = "name the Gateway that is to pass requests on, {name: …}"
        yield model.mistake("gateway-parent", "gateway.parentRefs", "is empty", fix)
    if gateway["grpcHostnames"]:
        yield from _grpc(model, "gateway.grpcHostnames")
    yield from _timeout(model, "gateway")


def _grpc(model: Model, path: str) -> Iterator[Mistake]:
    if "grpc" not in model.runtime["ports"]:
        runtime = model.spec["runtime"]
        fix = f"remove it, or set runtimes.{runtime}.ports.grpc"
        yield model.mistake("grpc-port", path, f"{runtime} has no port called grpc", fix)


def _timeout(model: Model, via: str) -> Iterator[Mistake]:
    seconds, longest = model.spec[via].get("timeoutSeconds"), model.spec["drain"]["requestSeconds"]
    if seconds is not None and seconds <= longest:
        message = f"{seconds} would cut off the longest requests, which take drain.requestSeconds, {longest}"
        yield model.mistake("route-timeout", f"{via}.timeoutSeconds", message, "raise it, or remove it")


def routes(models: Iterable[Model]) -> Iterator[Mistake]:
    """Two routes of one host and path."""
    taken: dict[tuple[str, str], str] = {}
    for model in models:
        for path, via, host, below in _routes(model):
            key = (via, f"{host}{below}")
            if key in taken:
                message = f"{host}{below} leads to {taken[key]} already"
                yield model.mistake("route-taken", path, message, "use another host or path")
            taken.setdefault(key, model.name)


def _routes(model: Model) -> Iterator[tuple[str, str, str, str]]:
    """(path of the value, proxy, host, path) of each route."""
    ingress, gateway = model.spec["ingress"], model.spec["gateway"]
    if ingress["enabled"]:
        for key, below in (("host", ingress["path"]), ("grpcHost", "/")):
            if ingress.get(key):
                yield f"ingress.{key}", ingress["className"], ingress[key], below
    if gateway["enabled"]:
        via = json.dumps(gateway["parentRefs"], sort_keys=True)
        for host in gateway["hostnames"] or ["*"]:
            yield "gateway.hostnames", via, host, gateway["path"]
        # One host name cannot lead to an HTTPRoute and to a GRPCRoute.
        for host in gateway["grpcHostnames"]:
            yield "gateway.grpcHostnames", via, host, gateway["path"]


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (_service, _open_service, _network_policy, _ingress, _gateway)
