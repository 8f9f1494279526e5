"""An on-demand base with spot pods above it, under the real autoscaler and the real scheduler."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.cluster import bound_claims, get, items, ready_replicas, restricted_namespace, wait_for
from support.expected import over
from support.exporter import FakeExporter
from support.matrix import minimal_model
from support.render import as_layer, helm

from gpu_inference.cluster.command import RULES
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART

pytestmark = pytest.mark.cluster

RELEASE, MODEL, TARGET, BASE = "mixed", "m", 4, 2
ON_DEMAND, SPOT = f"{RELEASE}-{MODEL}", f"{RELEASE}-{MODEL}-spot"
SPOT_NODES = "eks.amazonaws.com/capacityType=SPOT"
QUICK = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 400, "periodSeconds": 1}],
}
# The cluster has 16 L4 on demand and 8 on spot nodes.
MIXED: dict[str, Any] = {
    "capacity": "mixed",
    "replicas": BASE,
    "autoscaling": {
        "enabled": True,
        "minReplicas": 3,
        "maxReplicas": 9,
        "target": {"requestsInFlight": TARGET},
        "behavior": {"scaleUp": QUICK, "scaleDown": {**QUICK, "policies": [{**QUICK["policies"][0], "value": 100}]}},
    },
    "startup": {"loadSeconds": 1},
    "drain": {"preStopSeconds": 0, "requestSeconds": 1},
}


def layer(**changes: Any) -> Any:
    return as_layer({"cloud": "eks", "models": {MODEL: over(over(minimal_model("vllm", "nvidia-l4"), MIXED), changes)}})


@pytest.fixture(scope="module")
def cluster(cluster_type: str, request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    if cluster_type != "embedded":
        pytest.skip("needs spot nodes, which only an embedded cluster has")
    request.getfixturevalue("cluster_binaries")
    started = EmbeddedCluster(f"capacity-{os.getpid()}", "eks", sync_period=2, rules=RULES, scrape_interval=1)
    started.up()
    yield started
    started.down()


@pytest.fixture
def namespace(cluster: EmbeddedCluster) -> Iterator[str]:
    with (
        restricted_namespace(cluster, "mixed") as name,
        bound_claims(cluster, name, [minimal_model("vllm", "")["model"]["source"]]),
        FakeExporter(cluster.twin_port, "vllm", "served") as exporter,
    ):
        cluster.exporter = exporter  # type: ignore[attr-defined]
        yield name


def load(cluster: EmbeddedCluster, in_flight: int) -> None:
    cluster.exporter.in_flight = in_flight  # type: ignore[attr-defined]


def sizes(cluster: EmbeddedCluster, namespace: str) -> tuple[int, int]:
    """Ready pods: (on demand, spot)."""
    return ready_replicas(cluster, namespace, ON_DEMAND), ready_replicas(cluster, namespace, SPOT)


def nodes(cluster: EmbeddedCluster, namespace: str) -> list[tuple[bool, bool]]:
    """(a spot pod, on a spot node) of each pod of the model that has a node."""
    spot = {node["metadata"]["name"] for node in items(cluster, "nodes", "-l", SPOT_NODES)}
    pods = items(cluster, "pods", "-n", namespace, "-l", "app.kubernetes.io/component=server")
    return [
        ("gpu-inference.io/capacity" in pod["metadata"]["labels"], pod["spec"]["nodeName"] in spot)
        for pod in pods
        if "nodeName" in pod["spec"]
    ]


def test_the_base_stays_and_spot_pods_come_and_go(cluster: EmbeddedCluster, namespace: str) -> None:
    release = Helm(helm(4).binary, kubeconfig=cluster.kubeconfig)
    release.install(RELEASE, CHART, layers=[layer()], namespace=namespace, wait=True, timeout="120s")
    wait_for(lambda: sizes(cluster, namespace) == (BASE, 1), 120, "the base and the autoscaler's minimum")
    # All pods count, in one step: 7 bear 28, whoever has them in flight (one pod, here).
    for in_flight, wanted in [(7 * TARGET, 7), (1000, 9), (5 * TARGET - 1, 5), (0, 3)]:
        load(cluster, in_flight)
        wait_for(lambda n=wanted: sizes(cluster, namespace) == (BASE, n - BASE), 120, f"{wanted} pods for {in_flight}")  # type: ignore[misc]
        placed = nodes(cluster, namespace)
        assert all(burst == spot for burst, spot in placed), placed
    scaled = get(cluster, "hpa", ON_DEMAND, "-n", namespace)
    conditions = {c["type"]: f"{c['status']} {c['reason']}" for c in scaled["status"]["conditions"]}
    assert conditions["ScalingActive"] == "True ValidMetricFound"
    budget = get(cluster, "pdb", ON_DEMAND, "-n", namespace)["status"]
    assert (budget["expectedPods"], budget["disruptionsAllowed"]) == (3, 1), "one budget for both"


def test_lost_spot_nodes_take_neither_the_base_nor_the_wish_for_spot_pods(
    cluster: EmbeddedCluster, namespace: str
) -> None:
    release = Helm(helm(4).binary, kubeconfig=cluster.kubeconfig)
    release.install(RELEASE, CHART, layers=[layer()], namespace=namespace, wait=True, timeout="120s")
    load(cluster, 7 * TARGET)
    wait_for(lambda: sizes(cluster, namespace) == (BASE, 5), 120, "seven pods")
    cluster.kubectl("cordon", "-l", SPOT_NODES)
    try:
        cluster.kubectl("delete", "pods", "-n", namespace, "-l", "gpu-inference.io/capacity=spot", "--wait=false")
        wait_for(lambda: sizes(cluster, namespace) == (BASE, 0), 60, "no spot pod")
        # The load is what it was, and so is the number of pods wanted: they wait for nodes.
        for _ in range(3):
            before = get(cluster, "hpa", ON_DEMAND, "-n", namespace)["status"]
            wait_for(lambda: len(items(cluster, "pods", "-n", namespace)) >= BASE + 5, 60, "pods that wait")
            assert before["desiredReplicas"] == 5
        assert sizes(cluster, namespace) == (BASE, 0)
        # Rather on-demand nodes than none.
        fallback = layer(spot={"fallback": True})
        release.upgrade(RELEASE, CHART, layers=[fallback], namespace=namespace)
        wait_for(lambda: sizes(cluster, namespace) == (BASE, 5), 120, "spot pods on on-demand nodes")
        assert not any(spot for _, spot in nodes(cluster, namespace))
    finally:
        cluster.kubectl("uncordon", "-l", SPOT_NODES)


def test_an_on_demand_model_becomes_mixed_and_its_pods_stay(cluster: EmbeddedCluster, namespace: str) -> None:
    release = Helm(helm(4).binary, kubeconfig=cluster.kubeconfig)
    before = layer(capacity="onDemand", autoscaling={"enabled": False})
    release.install(RELEASE, CHART, layers=[before], namespace=namespace, wait=True, timeout="120s")
    wait_for(lambda: ready_replicas(cluster, namespace, ON_DEMAND) == BASE, 60, "two pods")
    old = {pod["metadata"]["uid"] for pod in items(cluster, "pods", "-n", namespace)}
    release.upgrade(RELEASE, CHART, layers=[layer()], namespace=namespace, wait=True, timeout="120s")
    wait_for(lambda: sizes(cluster, namespace) == (BASE, 1), 120, "a spot pod beside them")
    assert old < {pod["metadata"]["uid"] for pod in items(cluster, "pods", "-n", namespace)}
    # And back. The two Deployments' selectors overlap: the spot pods go with theirs, and only they.
    release.upgrade(RELEASE, CHART, layers=[before], namespace=namespace, wait=True, timeout="120s")
    wait_for(lambda: {p["metadata"]["uid"] for p in items(cluster, "pods", "-n", namespace)} == old, 60, "as before")


def test_a_balloon_gives_way_to_a_pod_at_once(cluster: EmbeddedCluster, namespace: str) -> None:
    """The nodes are full of balloons; the first pod that comes evicts one, and the others stay."""
    release = Helm(helm(4).binary, kubeconfig=cluster.kubeconfig)
    values = {
        "cloud": "eks",
        "models": {
            MODEL: {
                **minimal_model("vllm", "nvidia-l4"),
                "capacity": "spot",
                "replicas": 0,
                "startup": {"loadSeconds": 1},
                "balloon": {"replicas": 8},
            }
        },
    }
    release.install(RELEASE, CHART, layers=[as_layer(values)], namespace=namespace)
    balloons = f"{RELEASE}-{MODEL}-balloon"
    wait_for(lambda: ready_replicas(cluster, namespace, balloons) == 8, 60, "every spot GPU taken")
    cluster.kubectl("scale", "-n", namespace, f"deployment/{ON_DEMAND}", "--replicas=1")
    wait_for(lambda: ready_replicas(cluster, namespace, ON_DEMAND) == 1, 30, "the pod in a balloon's place")
    wait_for(lambda: ready_replicas(cluster, namespace, balloons) == 7, 30, "one balloon less")
    release.uninstall(RELEASE, namespace=namespace)
    wait_for(
        lambda: not items(cluster, "priorityclasses", "-l", f"app.kubernetes.io/instance={RELEASE}"), 30, "no class"
    )
