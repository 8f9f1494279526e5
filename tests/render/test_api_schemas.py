"""Every rendered object against Kubernetes' own schemas of each supported minor version, strictly."""

from __future__ import annotations

import copy

import pytest
from support.api_schemas import VERSIONS, known, problems, shape
from support.objects import name, one
from support.render import load_yaml

from gpu_inference.paths import CHART

# Checked against its CRD on the cluster, and in test_gateway.py.
CUSTOM = {
    "PodMonitor": "monitoring.coreos.com/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "GRPCRoute": "gateway.networking.k8s.io/v1",
    "InferencePool": "inference.networking.k8s.io/v1",
}


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid(case, version):
    seen, found = set(), {}
    for obj in case.objects:
        if CUSTOM.get(obj["kind"]) == obj["apiVersion"]:
            continue
        # Keys of maps that users fill (labels, env) are data, not structure.
        key = (obj["kind"], shape(obj))
        if key not in seen:
            seen.add(key)
            found[name(obj)] = problems(obj, version)
    assert {what: p for what, p in found.items() if p} == {}


def test_supported_versions_are_the_charts():
    """The oldest version tested is the oldest one the chart lets itself be installed on."""
    oldest = min(VERSIONS, key=lambda v: int(v.split(".")[1]))
    assert load_yaml(CHART / "Chart.yaml")["kubeVersion"] == f">={oldest}.0-0"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_can_fail(case, version):
    deployment = copy.deepcopy(one([o for o in case.objects if o["kind"] == "Deployment"][:1], "Deployment"))
    assert known(deployment, version)
    deployment["spec"]["replicaCount"] = 1
    deployment["spec"]["template"]["spec"]["containers"][0]["ports"] = "http"
    assert len(problems(deployment, version)) == 2
