"""How requests come in from outside the cluster: Services, Ingresses and the Gateway API's routes."""

from __future__ import annotations

from typing import Any

import pytest
from support.expected import over
from support.matrix import Case, minimal_model, scenario
from support.objects import Object, maybe, model_of, name, of_kind, one, server
from support.render import load_yaml, render
from support.views import Model, models

from gpu_inference.paths import CHART

NGINX = "nginx.ingress.kubernetes.io/"
PARENT = {"name": "public", "namespace": "gateways", "sectionName": "https"}


def model(runtime: str = "triton", **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(minimal_model(runtime, "nvidia-l4"), changes)}}


def ports(runtime: str) -> dict[str, int]:
    return load_yaml(CHART / f"runtimes/{runtime}.yaml")["ports"]


def test_what_is_off_is_not_there(case, models):
    """Each kind exists for the models that ask for it, and for no other."""
    wanted = {
        "Ingress": lambda spec: spec["ingress"]["enabled"],
        "NetworkPolicy": lambda spec: spec["networkPolicy"]["enabled"],
        "HTTPRoute": lambda spec: spec["gateway"]["enabled"],
        "GRPCRoute": lambda spec: spec["gateway"]["enabled"] and spec["gateway"]["grpcHostnames"],
        "InferencePool": lambda spec: spec["gateway"]["enabled"] and "endpointPicker" in spec["gateway"],
    }
    for kind, asks in wanted.items():
        # Policies of builds, canaries and the like are the release's.
        named = {model_of(o) for o in of_kind(case.objects, kind)} - {None}
        assert named == {m.name for m in models if asks(m.spec)}, kind


# Service.


def test_service_options_are_kubernetes_own():
    options = {
        "loadBalancerSourceRanges": ["203.0.113.0/24"],
        "externalTrafficPolicy": "Local",
        "sessionAffinity": "ClientIP",
    }
    service = one(render(model(service={"type": "LoadBalancer", **options})), "Service", "m")
    assert options.items() <= service["spec"].items()


def test_node_ports():
    service = one(render(model(service={"type": "NodePort", "nodePorts": {"grpc": 30081}})), "Service", "m")
    assert {p["name"]: p.get("nodePort") for p in service["spec"]["ports"]} == {
        "http": None,
        "grpc": 30081,
    }


def test_only_grpc_names_its_protocol(models):
    """Proxies take it as HTTP/2 without TLS. `http` would make some load balancers probe a page that nobody serves."""
    for each in models:
        said = {p["name"]: p["appProtocol"] for p in each.service["spec"]["ports"] if "appProtocol" in p}
        assert said == {name: "kubernetes.io/h2c" for name in each.runtime["ports"] if name == "grpc"}


# Ingress.


def ingresses(case: Case) -> list[tuple[Model, Object]]:
    return [(m, o) for m in models(case) for o in of_kind(m.objects, "Ingress") if model_of(o) == m.name]


def backend(ingress: Object) -> dict[str, Any]:
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["pathType"] == "Prefix"
    return {"host": rule["host"], "path": path["path"], **path["backend"]["service"]}


def test_ingresses_lead_to_ports_of_the_models_service():
    found = ingresses(scenario("traffic"))
    assert len(found) == 3
    for each, ingress in found:
        to = backend(ingress)
        assert to["name"] == each.service["metadata"]["name"], name(ingress)
        assert to["port"]["name"] in {p["name"] for p in each.service["spec"]["ports"]}
        assert ingress["spec"]["ingressClassName"] == each.spec["ingress"]["className"]
        (tls,) = ingress["spec"]["tls"]
        assert tls == {"hosts": [to["host"]], "secretName": each.spec["ingress"]["tlsSecret"]}


def test_http_and_grpc_have_their_own_ingress():
    """nginx speaks one protocol to all backends of an Ingress."""
    objects = render(
        model(ingress={"enabled": True, "host": "a.b", "grpcHost": "c.b", "path": "/v2", "tlsSecret": "s"})
    )
    by_port = {backend(o)["port"]["name"]: o for o in of_kind(objects, "Ingress")}
    assert set(by_port) == {"http", "grpc"}
    assert by_port["http"]["metadata"]["name"] != by_port["grpc"]["metadata"]["name"]
    assert by_port["grpc"]["metadata"]["annotations"][f"{NGINX}backend-protocol"] == "GRPC"
    assert f"{NGINX}backend-protocol" not in by_port["http"]["metadata"]["annotations"]
    assert (backend(by_port["http"])["host"], backend(by_port["http"])["path"]) == ("a.b", "/v2")
    assert (backend(by_port["grpc"])["host"], backend(by_port["grpc"])["path"]) == ("c.b", "/")


@pytest.mark.parametrize(
    ("drain", "own", "seconds"), [(60, {}, None), (600, {}, None), (0, {}, None), (60, {"timeoutSeconds": 61}, 61)]
)
def test_proxies_wait_longer_than_the_longest_request(drain, own, seconds):
    """nginx gives up after 60 s by itself, Envoy after 15 s."""
    values = model(
        drain={"requestSeconds": drain},
        ingress={"enabled": True, "host": "a.b", "grpcHost": "c.b", "tlsSecret": "s", **own},
        gateway={"enabled": True, "parentRefs": [PARENT], **own},
    )
    objects = render(values)
    for ingress in of_kind(objects, "Ingress"):
        said = {ingress["metadata"]["annotations"][f"{NGINX}proxy-{way}-timeout"] for way in ("read", "send")}
        (waits,) = said
        assert int(waits) == seconds if seconds else int(waits) > drain
    (rule,) = one(objects, "HTTPRoute", "m")["spec"]["rules"]
    waits = int(rule["timeouts"]["request"].removesuffix("s"))
    assert waits == seconds if seconds else waits > drain


def test_annotations_of_the_user_win_and_are_texts():
    own = {f"{NGINX}proxy-body-size": "1g", "cert-manager.io/cluster-issuer": "letsencrypt"}
    values = model(ingress={"enabled": True, "host": "a.b", "hashBy": "$remote_addr", "annotations": own})
    annotations = one(render(values), "Ingress", "m")["metadata"]["annotations"]
    assert own.items() <= annotations.items()
    assert annotations[f"{NGINX}upstream-hash-by"] == "$remote_addr"
    assert {type(value) for value in annotations.values()} == {str}


def test_without_affinity_nothing_is_hashed():
    annotations = one(render(model(ingress={"enabled": True, "host": "a.b"})), "Ingress", "m")["metadata"][
        "annotations"
    ]
    assert f"{NGINX}upstream-hash-by" not in annotations
    assert annotations[f"{NGINX}proxy-body-size"] == "16m", "nginx takes 1 MiB by itself"


# Gateway API. Structure as in the CRDs of gateway-api v1.6.0 and gateway-api-inference-extension v1.5.0.


def test_http_route():
    gateway = {"enabled": True, "parentRefs": [PARENT], "hostnames": ["a.b", "*.c.b"], "path": "/v2"}
    objects = render(model(service={"port": 8080}, gateway=gateway))
    route = one(objects, "HTTPRoute", "m")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert set(route["spec"]) == {"parentRefs", "hostnames", "rules"}
    assert route["spec"]["parentRefs"] == [PARENT]
    assert route["spec"]["hostnames"] == ["a.b", "*.c.b"]
    (rule,) = route["spec"]["rules"]
    assert set(rule) == {"matches", "timeouts", "backendRefs"}
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/v2"}}]
    assert rule["backendRefs"] == [{"name": one(objects, "Service", "m")["metadata"]["name"], "port": 8080}]
    assert maybe(objects, "GRPCRoute", "m") is None and maybe(objects, "InferencePool", "m") is None


def test_without_host_names_the_listeners_count():
    route = one(render(model(gateway={"enabled": True, "parentRefs": [PARENT]})), "HTTPRoute", "m")
    assert "hostnames" not in route["spec"], "an empty list is not the same to every controller"


def test_grpc_route():
    gateway = {"enabled": True, "parentRefs": [PARENT], "hostnames": ["a.b"], "grpcHostnames": ["c.b"]}
    objects = render(model(gateway=gateway))
    route = one(objects, "GRPCRoute", "m")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    service = one(objects, "Service", "m")
    assert route["spec"] == {
        "parentRefs": [PARENT],
        "hostnames": ["c.b"],
        "rules": [{"backendRefs": [{"name": service["metadata"]["name"], "port": ports("triton")["grpc"]}]}],
    }


@pytest.mark.parametrize("mode", [{}, {"failureMode": "FailOpen"}])
def test_inference_pool(mode):
    picker = {"name": "llm-epp", "port": 9002, **mode}
    objects = render(model("vllm", gateway={"enabled": True, "parentRefs": [PARENT], "endpointPicker": picker}))
    pool, deployment = one(objects, "InferencePool", "m"), one(objects, "Deployment", "m")
    assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
    assert set(pool["spec"]) == {"selector", "targetPorts", "endpointPickerRef"}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert pool["spec"]["selector"] == {"matchLabels": deployment["spec"]["selector"]["matchLabels"]}
    assert pool["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert pool["spec"]["targetPorts"] == [
        {"number": p["containerPort"]} for p in server(deployment)["ports"] if p["name"] == "http"
    ]
    assert pool["spec"]["endpointPickerRef"] == {"name": "llm-epp", "port": {"number": 9002}, **mode}
    (rule,) = one(objects, "HTTPRoute", "m")["spec"]["rules"]
    assert rule["backendRefs"] == [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": pool["metadata"]["name"]}
    ]
