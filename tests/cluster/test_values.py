"""Every values file on the cloud it is for: accepted by the API server, Available, on the right nodes, gone again."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.api_schemas import shape
from support.cluster import (
    bound_claims,
    devices,
    disks,
    get,
    inventory,
    items,
    quick_loads,
    restricted_namespace,
    wait_for,
)
from support.expected import specs
from support.matrix import CLOUDS, SCENARIOS, Case, cases, scenario
from support.objects import CAPACITY_LABEL, MODEL_LABEL, OPERATED
from support.render import RELEASE, helm, load_yaml, render
from support.switches import combined

from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.provider import Provider
from gpu_inference.errors import UserError
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART

pytestmark = pytest.mark.cluster


def cloud_of(case: Case) -> str:
    """The cloud a values file is for: the last layer that names one, else the chart's default."""
    named = [load_yaml(layer).get("cloud") for layer in (CHART / "values.yaml", *case.layers)]
    return [cloud for cloud in named if cloud][-1]


# Ordered by cloud: a cluster serves all its cases, then makes room for the next.
# The pods of a group are made by the LeaderWorkerSet controller, others by operators, which no embedded cluster has.
MADE_ELSEWHERE = ("multi-node", "operators")
SERVED = sorted(
    (scenario(name) for name in SCENARIOS if name not in MADE_ELSEWHERE), key=lambda case: (cloud_of(case), str(case))
)


def test_all_but_groups_are_served() -> None:
    groups = [m["workload"] == "LeaderWorkerSet" for m in specs(scenario("multi-node")).values()]
    assert groups and all(groups)
    elsewhere = ("LeaderWorkerSet", *OPERATED)
    assert not [c for c in SERVED for m in specs(c).values() if m["workload"] in elsewhere]


# The node whose GPUs the tests publish as NVIDIA's DRA driver would.
DRIVEN = "h100-0"


def claims(models: dict[str, Any]) -> list[str]:
    """Models whose pods claim their GPUs."""
    return [name for name, spec in models.items() if spec["accelerator"]["dra"]]


class Clusters:
    """One embedded cluster at a time, with the nodes and the admission plugins of a cloud."""

    def __init__(self) -> None:
        self._running: EmbeddedCluster | None = None
        self._cloud = ""

    def of(self, cloud: str) -> Provider:
        if not self._running or self._cloud != cloud:
            self.down()
            started = EmbeddedCluster(f"values-{cloud}-{os.getpid()}", cloud=cloud, crds=True)
            started.up()
            self._running, self._cloud = started, cloud
        return self._running

    def down(self) -> None:
        if self._running:
            self._running.down()
            self._running = None


@pytest.fixture(scope="module")
def clusters(cluster_type: str, request: pytest.FixtureRequest) -> Iterator[Clusters]:
    if cluster_type != "embedded":
        pytest.skip("needs the nodes of each cloud, which only an embedded cluster has")
    request.getfixturevalue("cluster_binaries")
    made = Clusters()
    yield made
    made.down()


@pytest.fixture(scope="module")
def dry_namespace(provider: Provider) -> Iterator[str]:
    with restricted_namespace(provider, "dry") as name:
        yield name


@pytest.mark.parametrize("case", [*cases(), *map(combined, CLOUDS)], ids=str)
def test_api_server_accepts_every_object(provider: Provider, dry_namespace: str, case: Case) -> None:
    """Server-side, with admission and field validation; a warning (Pod Security's, a deprecation's) is an error."""
    objects = {
        (obj["kind"], shape(obj)): {**obj, "metadata": {**obj["metadata"], "namespace": dry_namespace}}
        for obj in render(layers=case.layers)
    }
    flags = ["--dry-run=server", "--validate=strict", "--warnings-as-errors", "-o", "name", "-f", "-"]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects.values())})
    accepted = provider.kubectl("apply", "--server-side", *flags, input=document)
    assert len(accepted.split()) == len(objects)


def test_a_warning_is_an_error(provider: Provider, dry_namespace: str) -> None:
    """What the test above relies on: Pod Security only warns about a Deployment."""
    (deployment, *_) = [o for o in render(layers=SERVED[0].layers) if o["kind"] == "Deployment"]
    deployment = copy.deepcopy(deployment)
    deployment["metadata"]["namespace"] = dry_namespace
    deployment["spec"]["template"]["spec"]["hostPID"] = True
    with pytest.raises(UserError):
        provider.kubectl(
            "apply",
            "--server-side",
            "--dry-run=server",
            "--warnings-as-errors",
            "-f",
            "-",
            input=json.dumps(deployment),
        )


@pytest.mark.parametrize("case", SERVED, ids=str)
def test_install_becomes_available_and_uninstall_leaves_nothing(clusters: Clusters, case: Case) -> None:
    cluster = clusters.of(cloud_of(case))
    models = specs(case)
    release = Helm(helm(4).binary, kubeconfig=cluster.kubeconfig)
    with (
        restricted_namespace(cluster, str(case)) as namespace,
        bound_claims(cluster, namespace, itertools.chain.from_iterable(map(_claims, models.values()))),
        disks(cluster, namespace, models),
        devices(cluster, DRIVEN) if claims(models) else contextlib.nullcontext(),
    ):
        before = inventory(cluster, namespace)
        layers = [*case.layers, quick_loads(models)]
        release.install(RELEASE, CHART, layers=layers, namespace=namespace, wait=True, timeout="90s")
        for name, spec in models.items():
            _assert_served(cluster, namespace, name, spec)
        release.uninstall(RELEASE, namespace=namespace)
        _assert_disks_stay(cluster, namespace, models, before)
        # Pods and their ReplicaSets go with their owners, a moment later.
        wait_for(lambda: inventory(cluster, namespace) == before, 30, f"only {sorted(before)} left")


def _claims(spec: dict[str, Any]) -> Iterator[str]:
    """Claims that a model's pods and Jobs expect to be there."""
    yield spec["model"]["source"]
    if spec["engine"]["enabled"]:
        yield from (spec["engine"].get("source", ""), f"pvc://{spec['engine']['claim']['name']}")


def _assert_served(cluster: Provider, namespace: str, name: str, spec: dict[str, Any]) -> None:
    scaling = spec["autoscaling"]
    wanted = scaling["minReplicas"] if scaling["enabled"] else spec["replicas"]
    selector = f"{MODEL_LABEL}={name},app.kubernetes.io/component=server"

    def available() -> int:
        """Of mixed capacity, there are two Deployments."""
        workloads = items(cluster, spec["workload"], "-n", namespace, "-l", selector)
        return sum(w["status"].get("availableReplicas", 0) for w in workloads)

    wait_for(lambda: available() >= wanted, 30, f"{wanted} replicas of {name}")
    pods = items(cluster, "pods", "-n", namespace, "-l", selector)
    assert len(pods) == wanted
    for pod in pods:
        _assert_right_node(get(cluster, "node", pod["spec"]["nodeName"]), spec, pod["metadata"]["labels"])
    _assert_balloons(cluster, namespace, name, spec)

    def ready() -> set[str]:
        slices = items(cluster, "endpointslices", "-n", namespace, "-l", selector)
        return {a for s in slices for e in s["endpoints"] or [] if e["conditions"]["ready"] for a in e["addresses"]}

    # The endpoints follow the pods a moment later.
    addresses = {pod["status"]["podIP"] for pod in pods}
    wait_for(lambda: ready() == addresses, 30, f"the endpoints {sorted(addresses)} of {name}")


def _assert_disks_stay(cluster: Provider, namespace: str, models: dict[str, Any], before: set[str]) -> None:
    """What a release's pods wrote outlives it, unless the values say otherwise; then makes room for the next test."""
    wanted = sum(
        (spec["replicas"] if spec["workload"] == "StatefulSet" else 1) * len(spec["claims"]) for spec in models.values()
    )
    kept = {name for name in inventory(cluster, namespace) - before if name.startswith("persistentvolumeclaim/")}
    assert len(kept) == wanted
    for name in kept:
        assert get(cluster, name, "-n", namespace)["status"]["phase"] == "Bound"
        cluster.kubectl("delete", "-n", namespace, name, "--wait=false")


def _assert_balloons(cluster: Provider, namespace: str, name: str, spec: dict[str, Any]) -> None:
    """They are scheduled like the model's pods and have a lower priority."""
    selector = f"{MODEL_LABEL}={name},app.kubernetes.io/component=balloon"
    found = items(cluster, "pods", "-n", namespace, "-l", selector)
    assert len(found) == spec["balloon"]["replicas"]
    for pod in found:
        assert pod["spec"]["priority"] < 0
        assert pod["spec"]["preemptionPolicy"] == "Never"
        wait_for(
            lambda p=pod: get(cluster, "pod", p["metadata"]["name"], "-n", namespace)["spec"].get("nodeName"),
            30,
            "a node",
        )  # type: ignore[misc]


def _assert_right_node(node: dict[str, Any], spec: dict[str, Any], pod: dict[str, str]) -> None:
    labels, cloud, accelerator = node["metadata"]["labels"], spec["_cloud"], spec["_accelerator"]
    if spec["accelerator"]["dra"]:
        assert node["metadata"]["name"] == DRIVEN
        return
    if spec["accelerator"]["sharing"] != "none":
        assert spec["nodeSelector"].items() <= labels.items()
        return
    product = cloud["productLabels"][accelerator["resource"]]
    assert labels[product] == accelerator["nodeLabels"][product]
    assert accelerator["resource"] in node["status"]["capacity"]
    if "spot" in cloud:
        is_spot = cloud["spot"]["nodeSelector"].items() <= labels.items()
        wanted = spec["capacity"] == "spot" or CAPACITY_LABEL in pod
        assert is_spot == wanted, node["metadata"]["name"]
