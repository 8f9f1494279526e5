"""Every rendered object against Kubernetes' own schemas of each supported minor version, strictly."""

from __future__ import annotations

import copy

import pytest
from support.api_schemas import VERSIONS, known, problems, shape
from support.matrix import scenario
from support.objects import SERVING, name, pod_templates
from support.render import load_yaml

from gpu_inference.paths import CHART

# Checked against their CRDs on the cluster, routes in test_traffic.py too; the pods of these against the schema here.
CUSTOM = {
    "PodMonitor": "monitoring.coreos.com/v1",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "GRPCRoute": "gateway.networking.k8s.io/v1",
    "InferencePool": "inference.networking.k8s.io/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "RayService": "ray.io/v1",
    "NIMService": "apps.nvidia.com/v1alpha1",
    "NIMCache": "apps.nvidia.com/v1alpha1",
}


# Kinds that only newer versions serve, as the chart's check says.
SINCE = {"ResourceClaimTemplate": "1.34"}


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid(case, version):
    seen, found = set(), {}
    for obj in case.objects:
        if CUSTOM.get(obj["kind"]) == obj["apiVersion"]:
            continue
        if obj["kind"] in SINCE and not _at_least(version, SINCE[obj["kind"]]):
            continue
        # Keys of maps that users fill (labels, env) are data, not structure.
        key = (obj["kind"], shape(obj))
        if key not in seen:
            seen.add(key)
            found[name(obj)] = problems(obj, version)
    assert {what: p for what, p in found.items() if p} == {}


def _at_least(version: str, bound: str) -> bool:
    return [int(n) for n in version.split(".")[:2]] >= [int(n) for n in bound.split(".")]


@pytest.mark.parametrize("version", VERSIONS)
def test_pods_of_custom_resources_are_valid(version):
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": "pod"}}
        for values in ("multi-node", "operators")
        for where, template in pod_templates(scenario(values).objects)
        if where.split("/")[0] in CUSTOM
    ]
    assert [problems(pod, version) for pod in pods] == [[]] * 4


def test_supported_versions_are_the_charts():
    """The oldest version tested is the oldest one the chart lets itself be installed on."""
    oldest = min(VERSIONS, key=lambda v: int(v.split(".")[1]))
    assert load_yaml(CHART / "Chart.yaml")["kubeVersion"] == f">={oldest}.0-0"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_can_fail(case, version):
    kinds = [o["kind"] for o in case.objects if o["kind"] in SERVING and o["kind"] not in CUSTOM]
    if not kinds:
        pytest.skip("nothing but custom resources")
    deployment = copy.deepcopy(next(o for o in case.objects if o["kind"] == kinds[0]))
    assert known(deployment, version)
    deployment["spec"]["replicaCount"] = 1
    deployment["spec"]["template"]["spec"]["containers"][0]["ports"] = "http"
    assert len(problems(deployment, version)) == 2
