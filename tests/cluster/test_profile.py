"""A profile of a cluster, and what is read from it, against the real scheduler."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cluster import apply, items, restricted_namespace, wait_for

from gpu_inference.cluster import collect, quantity
from gpu_inference.cluster.profile import Profile, load_profile
from gpu_inference.cluster.provider import Provider
from gpu_inference.resolve import merged, resolve_values
from gpu_inference.validate.cluster_spread import uneven
from gpu_inference.validate.placement import Demand, demands, room, selected, untolerated
from gpu_inference.validate.rules import Model
from gpu_inference.values.loader import parse

pytestmark = pytest.mark.cluster

_SLICE = {"strategy": "single", "profile": "3g.40gb"}
# Each is of GPUs that no other is of: what runs of one is not in the way of the next.
CASES = {
    "whole nodes": {"accelerator": {"type": "nvidia-h100", "count": 8}, "parallelism": {"tensor": 8}},
    "more than half a node": {"accelerator": {"type": "nvidia-l4", "count": 3}, "parallelism": {"tensor": 3}},
    "slices": {"accelerator": {"type": "nvidia-a100-80gb", "sharing": "mig", "mig": _SLICE}},
    "nowhere": {"accelerator": {"type": "nvidia-b200"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def written(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the command writes."""
    path = tmp_path_factory.mktemp("profile") / "cluster.yaml"
    command = [sys.executable, "-m", "gpu_inference.cli", "cluster", "profile", "--kubeconfig"]
    done = subprocess.run(
        [*command, str(provider.kubeconfig), "-o", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(f"{path}: ")
    return path


@pytest.fixture(scope="module")
def profile(written: Path) -> Profile:
    return load_profile(written)


@pytest.fixture(scope="module")
def namespace(provider: Provider, cluster_type: str) -> Iterator[str]:
    if cluster_type != "embedded":
        pytest.skip("fills the nodes, which another cluster may need")
    with restricted_namespace(provider, "placement") as name:
        yield name


def test_it_counts_every_node(provider: Provider, profile: Profile):
    nodes = [node for node in items(provider, "nodes") if not node["spec"].get("unschedulable")]
    groups = profile.groups or []
    assert sum(group.count for group in groups) == len(nodes)
    for resource in ("nvidia.com/gpu", "nvidia.com/gpu.shared"):
        there = sum(int(node["status"]["allocatable"].get(resource, 0)) for node in nodes)
        assert sum(group.count * group.allocatable.get(resource, 0) for group in groups) == there


def test_it_knows_version_and_apis(provider: Provider, profile: Profile, cluster_type: str):
    answer = json.loads(provider.kubectl("version", "-o", "json"))
    assert profile.version == answer["serverVersion"]["gitVersion"]
    served = provider.kubectl("api-versions").split()
    assert set(profile.apis or ()) <= set(served)
    if cluster_type == "embedded":  # it has the kinds of optional APIs, and external metrics
        assert (profile.apis or {})["leaderworkerset.x-k8s.io/v1"] == ["LeaderWorkerSet"]
        assert "external.metrics.k8s.io/v1beta1" in (profile.apis or {})
        assert not profile.autoscaled


def demand_of(case: dict[str, Any]) -> Demand:
    own = {
        "runtime": "vllm",
        "model": {"source": "pvc://weights/m"},
        "storage": {"cache": {"sizeLimit": "1Gi"}},
        **case,
    }
    tree = parse(json.dumps({"models": {"a": own}}).encode(), "values").tree
    values = merged([tree]).plain()
    release = resolve_values(values)
    (demand,) = demands(Model("a", release["models"]["a"], release["cloudPreset"], values))
    return demand


@pytest.mark.parametrize("case", CASES)
def test_the_scheduler_takes_as_many_pods_as_the_profile_says(
    provider: Provider, namespace: str, profile: Profile, case: str
):
    demand = demand_of(CASES[case])
    fits = [
        group
        for group in profile.groups or []
        if selected(demand, group, profile) and not untolerated(demand, group.taints, profile)
    ]
    held = sum(group.count * room(demand, group) for group in fits)
    scheduled = run(provider, namespace, case.replace(" ", "-"), demand, held + 1, held)
    assert scheduled == held
    assert case == "nowhere" or held > 0


def run(provider: Provider, namespace: str, name: str, demand: Demand, pods: int, expected: int, **more: Any) -> int:
    """How many of so many pods of a demand the scheduler finds a node for; `expected` are waited for."""
    requests = {key: quantity.text(value) for key, value in demand.requests.items()}
    container = {
        "name": "a",
        "image": "a",
        "resources": {"requests": requests, "limits": requests},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "nodeSelector": dict(demand.selector),
        "tolerations": list(demand.tolerations),
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        **more,
    }
    labels = {"case": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {"replicas": pods, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "namespace": namespace}
    apply(provider, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment})

    def decided() -> list[bool]:
        """Of every pod, whether it has a node; empty until the scheduler has judged all of them."""
        states = [
            condition["status"] == "True"
            for pod in items(provider, "pods", "-n", namespace, "-l", f"case={name}")
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "PodScheduled"
        ]
        return states if len(states) == pods and sum(states) >= expected else []

    return sum(wait_for(decided, 60, f"{expected} of {pods} pods with a node"))


@pytest.fixture
def racks(provider: Provider, namespace: str) -> Iterator[list[dict[str, Any]]]:
    """Two nodes in one rack, and one in another that is reserved; nothing else goes there."""
    keep = {"key": "example.com/test", "effect": "NoSchedule"}
    made = []
    for number, (rack, taints) in enumerate(
        [("a", [keep]), ("a", [keep]), ("b", [keep, {"key": "reserved", "effect": "NoSchedule"}])]
    ):
        labels = {"example.com/rack": rack, "nvidia.com/gpu.product": "NVIDIA-B200"}
        offered = {
            "cpu": "200",
            "memory": "2000Gi",
            "ephemeral-storage": "2000Gi",
            "pods": "110",
            "nvidia.com/gpu": "4",
        }
        made.append(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"rack-{number}", "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
                "spec": {"taints": taints},
                "status": {"capacity": offered, "allocatable": offered},
            }
        )
    apply(provider, *made)
    yield made
    provider.kubectl("delete", *(f"node/{node['metadata']['name']}" for node in made), "--wait=false")


def test_a_zone_that_no_pod_may_go_to_counts_as_empty(
    provider: Provider, namespace: str, racks: list[dict[str, Any]], tmp_path: Path
):
    label, pods = "example.com/rack", 4
    path = tmp_path / "racks.yaml"
    path.write_text(collect.text({"nodeGroups": collect.node_groups(racks, [], [])}), encoding="utf-8")
    profile = load_profile(path)
    keep = {"test": {"key": "example.com/test", "operator": "Exists"}}
    case = {"accelerator": {"type": "nvidia-b200"}, "tolerations": keep, "spread": {label: "DoNotSchedule"}}
    demand = demand_of({**case, "replicas": pods})
    (mistake,) = uneven(demand, profile, profile.groups or [])
    assert "only 1 can run" in mistake.message
    constraint = {
        "maxSkew": 1,
        "topologyKey": label,
        "whenUnsatisfiable": "DoNotSchedule",
        "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": {"matchLabels": {"case": "racks"}},
    }
    assert run(provider, namespace, "racks", demand, pods, 1, topologySpreadConstraints=[constraint]) == 1
