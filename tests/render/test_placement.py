"""What the tools think that pods ask of nodes is what the chart renders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from support.matrix import SCENARIOS, Case, scenario
from support.render import RELEASE

from gpu_inference.cluster.collect import APIS
from gpu_inference.cluster.profile import amounts
from gpu_inference.paths import CHART
from gpu_inference.resolve import merged, resolve_values
from gpu_inference.validate.placement import Demand, demands
from gpu_inference.validate.rules import Model
from gpu_inference.values.loader import load


def models(case: Case) -> list[Model]:
    values = merged([load(layer).tree for layer in case.layers]).plain()
    release = resolve_values(values)
    return [Model(name, spec, release["cloudPreset"], values) for name, spec in release["models"].items()]


def pods(case: Case, demand: Demand) -> list[dict[str, Any]]:
    """The specs of the pods that a demand is about."""
    kind, named = demand.spec["workload"], demand.model.values["fullnameOverride"] or RELEASE
    name = f"{named}-{demand.model.name}{'-spot' if demand.words == 'spot replicas' else ''}"
    spec = next(o for o in case.objects if o["kind"] == kind and o["metadata"]["name"] == name)["spec"]
    if kind == "LeaderWorkerSet":
        return [spec["leaderWorkerTemplate"][f"{role}Template"]["spec"] for role in ("leader", "worker")]
    if kind == "RayService":
        return [spec["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]]
    return [spec["template"]["spec"] if "template" in spec else {**spec, "containers": [spec]}]


def by_key(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(entries, key=lambda entry: str(entry["key"]))


@pytest.mark.parametrize("name", SCENARIOS)
def test_demands_are_what_the_pods_ask_for(name):
    case = scenario(name)
    for demand in (demand for model in models(case) for demand in demands(model)):
        for pod in pods(case, demand):
            server = pod["containers"][0]
            assert amounts(server["resources"]["requests"]) == demand.requests
            assert pod.get("nodeSelector", {}) == demand.selector
            assert by_key(pod.get("tolerations", [])) == by_key(demand.tolerations)
            wanted = pod.get("affinity", {}).get("nodeAffinity", {})
            required = wanted.get("requiredDuringSchedulingIgnoredDuringExecution", {})
            assert required.get("nodeSelectorTerms", []) == list(demand.terms)


def test_a_profile_tells_of_every_api_that_the_chart_can_use():
    """Those with a dot in the group's last part are not Kubernetes' own, and of those one is newer than the chart."""
    text = "\n".join(p.read_text() for p in (CHART / "templates").rglob("*") if p.is_file())
    found = {api for api in re.findall(r'apiVersion"?:? "?([a-z0-9.-]+/v[a-z0-9]+)', text) if "." in api}
    own = {api for api in found if api.partition("/")[0].endswith(".k8s.io") and api not in APIS}
    assert own == {"networking.k8s.io/v1", "scheduling.k8s.io/v1", "rbac.authorization.k8s.io/v1"} & own
    assert found - own <= APIS.keys()
    assert {api for api in APIS if "metrics.k8s.io" not in api} <= found
