"""Objects of optional APIs, judged by an API server that knows their kinds."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.cluster import get, restricted_namespace, wait_for
from support.gitops import manifests
from support.matrix import scenario
from support.objects import name, one

from gpu_inference.cluster.crds import definitions
from gpu_inference.cluster.provider import Provider
from gpu_inference.errors import UserError

pytestmark = pytest.mark.cluster

DEFINITIONS = {definition["spec"]["names"]["kind"]: definition for definition in definitions()}
# The least of each kind.
LEAST: dict[str, dict[str, Any]] = {
    "LeaderWorkerSet": {"leaderWorkerTemplate": {"workerTemplate": {"spec": {"containers": [{"name": "a"}]}}}},
    "PodMonitor": {"selector": {}, "podMetricsEndpoints": [{"port": "http", "interval": "15s"}]},
    "ServiceMonitor": {"selector": {}, "endpoints": [{"port": "http", "interval": "15s"}]},
    "PrometheusRule": {"groups": [{"name": "a", "rules": [{"alert": "A", "expr": "up == 0", "for": "5m"}]}]},
    "HTTPRoute": {"parentRefs": [{"name": "a"}], "rules": [{"backendRefs": [{"name": "a", "port": 80}]}]},
    "GRPCRoute": {"parentRefs": [{"name": "a"}], "rules": [{"backendRefs": [{"name": "a", "port": 80}]}]},
    "InferencePool": {
        "selector": {"matchLabels": {"a": "b"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "a", "port": {"number": 9002}},
    },
    "ExternalSecret": {"secretStoreRef": {"name": "a", "kind": "SecretStore"}, "data": []},
    "RayService": {
        "serveConfigV2": "",
        "rayClusterConfig": {"headGroupSpec": {"template": {"spec": {"containers": []}}}},
    },
    "NIMService": {"image": {"repository": "a", "tag": "b"}, "authSecret": "a"},
    "Application": {"project": "a", "destination": {}},
    "ApplicationSet": {"generators": [{}], "template": {"metadata": {}, "spec": {"project": "a", "destination": {}}}},
    "AppProject": {"sourceRepos": ["a"]},
    "HelmRelease": {"interval": "5m"},
    "GitRepository": {"interval": "5m", "url": "https://a"},
    "NIMCache": {"source": {"ngc": {"authSecret": "a", "modelPuller": "a:b"}}, "storage": {"pvc": {}}},
    "ScaledObject": {"scaleTargetRef": {"name": "a"}, "triggers": [{"type": "prometheus", "metadata": {"query": "1"}}]},
}


@pytest.fixture(scope="module")
def namespace(provider: Provider, cluster_type: str) -> Iterator[str]:
    if cluster_type != "embedded":
        pytest.skip("which optional APIs another cluster has is its own affair")
    with restricted_namespace(provider, "optional") as name:
        yield name


def dry_run(provider: Provider, obj: dict[str, Any]) -> str:
    flags = ["--server-side", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-"]
    return provider.kubectl("apply", *flags, input=json.dumps(obj)).strip()


def least(kind: str, namespace: str, **more: Any) -> dict[str, Any]:
    spec = DEFINITIONS[kind]["spec"]
    return {
        "apiVersion": f"{spec['group']}/{spec['versions'][0]['name']}",
        "kind": kind,
        "metadata": {"name": "least", "namespace": namespace},
        "spec": {**LEAST[kind], **more},
    }


def test_every_kind_has_a_least_object() -> None:
    assert LEAST.keys() == DEFINITIONS.keys()


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_schemas_are_structural(provider: Provider, namespace: str, kind: str) -> None:
    name = DEFINITIONS[kind]["metadata"]["name"]
    conditions = {c["type"]: c["status"] for c in get(provider, "crd", name)["status"]["conditions"]}
    assert conditions.pop("NamesAccepted") == conditions.pop("Established") == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_the_least_object_is_accepted_and_an_empty_one_is_not(provider: Provider, namespace: str, kind: str) -> None:
    assert dry_run(provider, least(kind, namespace)).endswith("/least")
    without = least(kind, namespace)
    del without["spec"]
    with pytest.raises(UserError, match="spec"):
        dry_run(provider, without)


@pytest.mark.parametrize("manifest", manifests(), ids=name)
def test_manifests_of_argo_cd_and_flux_are_accepted(
    provider: Provider, namespace: str, manifest: dict[str, Any]
) -> None:
    here = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    assert dry_run(provider, here)
    here["spec"] = {**here["spec"], "syncPolcy": {}}
    with pytest.raises(UserError, match="syncPolcy"):
        dry_run(provider, here)


def test_a_wrong_field_of_a_group_is_refused(provider: Provider, namespace: str) -> None:
    group = copy.deepcopy(one(scenario("multi-node").objects, "LeaderWorkerSet"))
    group["metadata"]["namespace"] = namespace
    assert dry_run(provider, group)
    group["spec"]["leaderWorkerTemplate"]["groupSize"] = 2
    with pytest.raises(UserError, match="groupSize"):
        dry_run(provider, group)


def test_groups_can_be_scaled(provider: Provider, namespace: str) -> None:
    """The HPA controller reaches the groups through the scale subresource, and says so."""
    objects = scenario("multi-node").objects
    made = [copy.deepcopy(one(objects, kind)) for kind in ("LeaderWorkerSet", "HorizontalPodAutoscaler")]
    for obj in made:
        obj["metadata"]["namespace"] = namespace
    provider.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))
    name = made[0]["metadata"]["name"]
    provider.kubectl("scale", f"leaderworkerset/{name}", "--replicas=2", "-n", namespace)
    assert get(provider, "leaderworkerset", name, "-n", namespace)["spec"]["replicas"] == 2

    def able() -> bool:
        status = get(provider, "hpa", name, "-n", namespace).get("status", {})
        return any(c["type"] == "AbleToScale" and c["status"] == "True" for c in status.get("conditions", []))

    wait_for(able, 30, "the autoscaler to read the scale of the groups")
    provider.kubectl("delete", "-n", namespace, f"hpa/{name}", f"leaderworkerset/{name}")
