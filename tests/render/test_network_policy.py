"""NetworkPolicies: what is needed passes, all else is refused, judged by a small reading of the API's rules."""

from __future__ import annotations

from typing import Any

from support.expected import over
from support.matrix import RUNTIMES, minimal_model
from support.objects import Object, component, is_hook, model_of, of_kind, one
from support.render import load_yaml, render
from support.switches import BUILDERS

from gpu_inference.paths import CHART

HERE: dict[str, str] = {}
DNS = (("UDP", 53), ("TCP", 53))
MONITORING = {"kubernetes.io/metadata.name": "monitoring"}


def model(runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    changes = over({"networkPolicy": {"enabled": True}}, changes)
    return {"models": {"m": over(minimal_model(runtime, "nvidia-l4"), changes)}}


def policy(runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    return one(render(model(runtime, **changes)), "NetworkPolicy", "m")["spec"]


def selects(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    return selector is None or selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: dict[str, Any], pod: dict[str, str], namespace: dict[str, str] | None) -> bool:
    """Whether a pod with these labels is meant; namespace is None for the policy's own."""
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" not in peer:
        return namespace is None and selects(peer["podSelector"], pod)
    return selects(peer["namespaceSelector"], namespace or HERE) and selects(peer.get("podSelector"), pod)


def entered(spec: dict[str, Any], pod: dict[str, str], namespace: dict[str, str] | None = None) -> set[int]:
    """Ports of the server that a pod may use."""
    reached: set[int] = set()
    for rule in spec["ingress"]:
        assert rule["from"] and rule["ports"], "an empty list would let everybody in"
        if any(is_peer(peer, pod, namespace) for peer in rule["from"]):
            reached |= {p["port"] for p in rule["ports"]}
    return reached


def left(spec: dict[str, Any]) -> dict[tuple[str, int], list[Object] | None]:
    """(protocol, port) the server may reach -> the peers, None for all."""
    return {(p["protocol"], p["port"]): rule.get("to") for rule in spec["egress"] for p in rule["ports"]}


def test_it_selects_the_servers_pods_in_both_directions(case, models):
    for each in models:
        if each.spec["networkPolicy"]["enabled"]:
            # What downloads has one of its own: see test_storage.py.
            servers = [o for o in each.objects if component(o) == "server"]
            spec = one(servers, "NetworkPolicy", each.name)["spec"]
            if each.kind != "LeaderWorkerSet":  # whose pods are of two kinds, see below
                assert spec["podSelector"] == each.workload["spec"]["selector"]
            assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]


def test_the_pods_of_a_group_may_talk_to_each_other():
    group = {"workload": "LeaderWorkerSet", "parallelism": {"tensor": 1, "pipeline": 2}}
    objects = render(model(**group))
    spec = one(objects, "NetworkPolicy", "m")["spec"]
    template = one(objects, "LeaderWorkerSet", "m")["spec"]["leaderWorkerTemplate"]
    own = {"podSelector": spec["podSelector"]}
    assert {"from": [own]} in spec["ingress"]
    assert {"to": [own]} in spec["egress"]
    (either,) = spec["podSelector"]["matchExpressions"]
    assert either["key"] == "app.kubernetes.io/component"
    for member in ("leaderTemplate", "workerTemplate"):
        labels = template[member]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()
        assert labels[either["key"]] in either["values"]


def test_the_namespace_may_ask_and_others_may_not():
    for runtime in RUNTIMES:
        numbers = load_yaml(CHART / f"runtimes/{runtime}.yaml")["ports"]
        asked = {number for name, number in numbers.items() if name in ("http", "grpc")}
        spec = policy(runtime)
        assert entered(spec, {"app": "client"}) == asked
        assert entered(spec, {"app": "client"}, {"kubernetes.io/metadata.name": "other"}) == set()


def test_monitoring_reaches_the_metrics_only():
    for runtime in RUNTIMES:
        preset = load_yaml(CHART / f"runtimes/{runtime}.yaml")
        port = preset["ports"][preset["metrics"]["port"]]
        assert entered(policy(runtime), {"app": "prometheus"}, MONITORING) == {port}
        nobody = policy(runtime, networkPolicy={"monitoringFrom": []})
        assert entered(nobody, {"app": "prometheus"}, MONITORING) == set()


def test_other_ports_of_a_runtime_stay_closed():
    """Management ports of servers have let strangers load code."""
    preset = {"triton": {"ports": {"management": 8081}}}
    spec = one(render({"runtimes": preset, **model("triton")}), "NetworkPolicy", "m")["spec"]
    assert 8081 not in entered(spec, {"app": "client"}) | entered(spec, {}, MONITORING)


def test_named_peers_replace_the_namespace():
    edge = {"kubernetes.io/metadata.name": "ingress-nginx"}
    spec = policy(networkPolicy={"ingressFrom": [{"namespaceSelector": {"matchLabels": edge}}]})
    assert entered(spec, {"app": "nginx"}, edge) == {8000}
    assert entered(spec, {"app": "client"}) == set()


def test_the_releases_tests_may_ask_whoever_else_may():
    strangers = {"ingressFrom": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}
    objects = render(model(networkPolicy=strangers))
    (pod,) = [o for o in objects if o["kind"] == "Pod" and is_hook(o) and model_of(o) == "m"]
    spec = one(objects, "NetworkPolicy", "m")["spec"]
    assert entered(spec, pod["metadata"]["labels"]) == {8000}
    assert not selects(spec["podSelector"], pod["metadata"]["labels"]), "it would not get out"
    assert entered(policy(networkPolicy=strangers, test={"enabled": False}), pod["metadata"]["labels"]) == set()


def test_a_model_on_a_volume_reaches_nothing_but_dns():
    assert left(policy()) == {("UDP", 53): None, ("TCP", 53): None}


def test_a_model_of_a_hub_reaches_the_internet_and_no_private_network():
    reached = left(policy(model={"source": "hf://org/name"}))
    assert set(reached) == {("UDP", 53), ("TCP", 53), ("TCP", 443)}
    blocks = {peer["ipBlock"]["cidr"]: peer["ipBlock"]["except"] for peer in reached["TCP", 443]}
    assert set(blocks) == {"0.0.0.0/0", "::/0"}
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(blocks["0.0.0.0/0"])


def test_more_can_be_reached():
    proxy = {"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"port": 3128, "protocol": "TCP"}]}
    spec = policy(networkPolicy={"egressTo": [proxy]})
    assert proxy in spec["egress"]
    assert left(spec)["TCP", 3128] == proxy["to"]


def others(objects: list[Object]) -> dict[str, Object]:
    """component -> the policy of the release's pods that serve nothing."""
    return {component(o): o for o in of_kind(objects, "NetworkPolicy") if model_of(o) is None}


def test_pods_that_serve_nothing_are_closed_too():
    built = {
        **BUILDERS["triton"],
        "prePull": True,
        "engine": {"enabled": True, "source": "pvc://weights/a", "claim": {"size": "10Gi"}},
        "canary": {"enabled": True},
    }
    values = {"backup": {"enabled": True, "destination": "s3://bucket/a"}, **model("triton", **built)}
    values["models"]["open"] = minimal_model("triton", "nvidia-l4")
    objects = render(values)
    found = others(objects)
    assert {what: set(left(o["spec"])) - set(DNS) for what, o in found.items() if what != "pre-pull"} == {
        "test": {("TCP", 8000)},
        "engine": set(),
        "backup": {("TCP", 443)},
    }
    assert "egress" not in found["pre-pull"]["spec"]
    for policy in found.values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in policy["spec"], "nobody may ask it anything"
    templates = [
        *(one(objects, kind, "m")["spec"]["template"] for kind in ("Job", "DaemonSet")),
        one(objects, "CronJob", "m")["spec"]["jobTemplate"]["spec"]["template"],
        *(o for o in of_kind(objects, "Pod") if is_hook(o) and model_of(o) == "m"),
    ]
    for template in templates:
        labels = template["metadata"]["labels"]
        selector = found[labels["app.kubernetes.io/component"]]["spec"]["podSelector"]
        assert selector["matchLabels"].items() <= labels.items()
        for expression in selector.get("matchExpressions", []):
            assert expression["values"] == [labels[expression["key"]]] == ["m"]


def test_the_canary_reaches_the_server_and_the_server_lets_it_in():
    objects = render(model(networkPolicy={"ingressFrom": [{"podSelector": {"matchLabels": {"app": "edge"}}}]}))
    policy = others(objects)["test"]["spec"]
    (peer,) = left(policy)["TCP", 8000] or []
    template = one(objects, "Deployment", "m")["spec"]["template"]
    assert selects(peer["podSelector"], template["metadata"]["labels"])
    server = one(objects, "NetworkPolicy", "m")["spec"]
    assert entered(server, policy["podSelector"]["matchLabels"]) == {8000}


def test_without_a_policy_there_is_none():
    assert others(render(model(networkPolicy={"enabled": False}, prePull=True))) == {}
    assert set(others(render(model(test={"enabled": False})))) == set()


def test_an_engine_of_a_gated_model_may_ask_the_hub():
    built = {
        **BUILDERS["triton"],
        "engine": {"enabled": True, "source": "pvc://weights/a", "claim": {"size": "10Gi"}},
        "model": {"tokenSecret": {"name": "hf", "key": "token"}},
    }
    assert ("TCP", 443) in left(others(render(model("triton", **built)))["engine"]["spec"])
