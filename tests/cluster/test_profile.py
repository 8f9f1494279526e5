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

from gpu_inference.cluster.profile import Profile, load_profile
from gpu_inference.cluster.provider import Provider
from gpu_inference.resolve import merged, resolve_values
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
    name = case.replace(" ", "-")
    requests = {
        key: f"{int(value * 1000)}m" if key == "cpu" else str(int(value)) for key, value in demand.requests.items()
    }
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "a",
        "image": "a",
        "resources": {"requests": requests, "limits": requests},
        "securityContext": secure,
    }
    spec = {
        "nodeSelector": dict(demand.selector),
        "tolerations": list(demand.tolerations),
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    labels = {"case": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {"replicas": held + 1, "selector": {"matchLabels": labels}, "template": template}
    apply(
        provider,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": deployment,
        },
    )

    def decided() -> list[bool]:
        """Of every pod, whether it has a node; empty until the scheduler has judged all of them."""
        pods = items(provider, "pods", "-n", namespace, "-l", f"case={name}")
        states = [
            condition["status"] == "True"
            for pod in pods
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "PodScheduled"
        ]
        return states if len(states) == held + 1 and sum(states) >= held else []

    states = wait_for(decided, 60, f"{held} of {held + 1} pods with a node")
    assert sum(states) == held
    assert case == "nowhere" or held > 0
