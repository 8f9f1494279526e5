"""Nodes of every cloud, and the small parts an embedded cluster stands on."""

from __future__ import annotations

import socket

import pytest
import yaml

from gpu_inference.cluster import inventory
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.ports import Ports
from gpu_inference.errors import UserError
from gpu_inference.paths import CHART


def selected(nodes: list[dict], selector: dict[str, str]) -> list[dict]:
    return [node for node in nodes if selector.items() <= node["metadata"]["labels"].items()]


def tolerated(taint: dict[str, str], tolerations: list[dict[str, str]]) -> bool:
    return any(
        tol.get("key") == taint["key"]
        and tol.get("effect", taint["effect"]) == taint["effect"]
        and (tol.get("operator", "Equal") == "Exists" or tol.get("value", "") == taint.get("value", ""))
        for tol in tolerations
    )


def test_every_cloud_of_the_chart_has_nodes() -> None:
    assert inventory.known() == sorted(path.stem for path in (CHART / "clouds").glob("*.yaml"))


@pytest.mark.parametrize("cloud", inventory.known())
def test_nodes_are_whole(cloud: str) -> None:
    nodes = inventory.nodes(cloud)
    names = [node["metadata"]["name"] for node in nodes]
    assert len(set(names)) == len(names)
    gpus = [node for node in nodes if "nvidia.com/gpu" in node["status"]["capacity"]]
    assert gpus and len(gpus) < len(nodes), "GPU nodes and one without"
    for node in nodes:
        labels, status = node["metadata"]["labels"], node["status"]
        assert {
            "node.kubernetes.io/instance-type",
            "topology.kubernetes.io/zone",
            "kubernetes.io/arch",
        } <= labels.keys()
        assert all(isinstance(value, str) for value in labels.values())
        assert status["capacity"].keys() == status["allocatable"].keys()


def presets() -> list[tuple[str, str]]:
    """(cloud, capacity) for every kind of capacity that a cloud preset of the chart knows."""
    return [
        (path.stem, capacity)
        for path in sorted((CHART / "clouds").glob("*.yaml"))
        for capacity in ("onDemand", "spot")
        if capacity in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("cloud", "capacity"), presets())
def test_chart_preset_reaches_gpu_nodes(cloud: str, capacity: str) -> None:
    """What the chart's cloud preset selects and tolerates must find nodes in that cloud's inventory."""
    preset = yaml.safe_load((CHART / "clouds" / f"{cloud}.yaml").read_text(encoding="utf-8"))
    kind = preset[capacity]
    gpus = [node for node in inventory.nodes(cloud) if "nvidia.com/gpu" in node["status"]["capacity"]]
    found = selected(gpus, {**preset["nodeSelector"], **kind["nodeSelector"]})
    tolerations = [*preset["tolerations"].values(), *kind["tolerations"].values()]
    if "ExtendedResourceToleration" in inventory.admission_plugins(cloud):
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    reachable = [node for node in found if all(tolerated(taint, tolerations) for taint in node["spec"]["taints"])]
    assert reachable
    label = preset["productLabels"]["nvidia.com/gpu"]
    assert all(label in node["metadata"]["labels"] for node in reachable)


@pytest.mark.parametrize(
    ("cpu", "memory", "allocatable"),
    # 16 GiB: less 1 + 0.8 + 0.8 GiB and 100 MiB; 4 cores: less 60 + 10 + 10 thousandths
    [(4, "16Gi", {"cpu": "3920m", "memory": "13621Mi"}), (1, "4Gi", {"cpu": "940m", "memory": "2972Mi"})],
)
def test_allocatable(cpu: int, memory: str, allocatable: dict[str, str]) -> None:
    assert inventory._allocatable({"cpu": cpu, "memory": memory}) == allocatable


def test_unknown_cloud_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown cloud 'azure'") as caught:
        inventory.nodes("azure")
    assert "aks" in caught.value.fix


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "..", "-a", "x" * 41])
def test_impossible_cluster_names(name: str) -> None:
    with pytest.raises(UserError, match="no cluster name"):
        EmbeddedCluster(name)


@pytest.mark.parametrize("setting", [{"sync_period": 0}, {"scrape_interval": -1}, {"cloud": "moon"}])
def test_impossible_settings_start_nothing(setting: dict) -> None:
    with pytest.raises(UserError):
        EmbeddedCluster("x", **setting)


def test_held_port_is_ours_alone_to_listen_on() -> None:
    ports = Ports(["one", "two"])
    assert ports["one"] != ports["two"]
    with socket.socket() as stranger, pytest.raises(OSError):
        stranger.bind(("127.0.0.1", ports["one"]))
    taken = {Ports(["other"])["other"] for _ in range(50)}
    assert ports["one"] not in taken
    with socket.socket() as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind(("127.0.0.1", ports["one"]))
        ours.listen()
    ports.close()
