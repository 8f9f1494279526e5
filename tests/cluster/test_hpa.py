"""The chart's HPA under the real controller: pods -> Prometheus -> the shipped adapter rules -> replicas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.cluster import bound_claims, get, ready_replicas, restricted_namespace, wait_for
from support.exporter import EXPOSITION, FakeExporter
from support.matrix import RUNTIMES, minimal_model
from support.objects import one
from support.render import MAJORS, as_layer, helm, load_yaml, render

from gpu_inference.cluster.adapter import Prometheus
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.provider import Provider
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART, ROOT

pytestmark = pytest.mark.cluster

RELEASE, MODEL, TARGET = "scaled", "m", 4
QUICK = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
}
IN_FLIGHT = {r: load_yaml(CHART / f"runtimes/{r}.yaml").get("metrics", {}).get("inFlight") for r in RUNTIMES}
SCALABLE = [runtime for runtime, metric in IN_FLIGHT.items() if metric]
INSTANT = [runtime for runtime in SCALABLE if "rate(" not in IN_FLIGHT[runtime]["query"]]  # the others look back

# Of the others each is followed up and down; of the instant ones, whose numbers are compared, one.
FOLLOWED = [*sorted(set(SCALABLE) - set(INSTANT)), "vllm"]


def values(runtime: str, patience: int = 0, **target: Any) -> dict[str, Any]:
    """One model, autoscaled from 2 to 8, that reacts within seconds; downwards after `patience` seconds."""
    scaling = {
        "enabled": True,
        "minReplicas": 2,
        "maxReplicas": 8,
        "target": target or {"requestsInFlight": TARGET},
        "behavior": {"scaleUp": QUICK, "scaleDown": {**QUICK, "stabilizationWindowSeconds": patience}},
    }
    return {
        "models": {
            MODEL: {
                **minimal_model(runtime, "nvidia-l4"),
                "autoscaling": scaling,
                "startup": {"loadSeconds": 1},
                "drain": {"preStopSeconds": 0, "requestSeconds": 1},
            }
        }
    }


@pytest.fixture
def namespace(provider: Provider) -> Iterator[str]:
    if not isinstance(provider, EmbeddedCluster) or not provider.capabilities.external_metrics:
        pytest.skip("needs the embedded cluster's scrape target and external metrics")
    with (
        restricted_namespace(provider, "scaled") as name,
        bound_claims(provider, name, [minimal_model("", "")["model"]["source"]]),
    ):
        yield name


@pytest.fixture
def install(provider: Provider, namespace: str) -> Iterator[Any]:
    """Installs a release of a runtime's model, served by a fake exporter: install(values, major) -> exporter."""
    assert isinstance(provider, EmbeddedCluster)
    running: list[FakeExporter] = []

    def go(chosen: dict[str, Any], major: int = 4) -> FakeExporter:
        runtime = chosen["models"][MODEL]["runtime"]
        exporter = FakeExporter(provider.twin_port, runtime, "served").__enter__()
        running.append(exporter)
        Helm(helm(major).binary, kubeconfig=provider.kubeconfig).install(
            RELEASE, CHART, layers=[as_layer(chosen)], namespace=namespace, wait=True, timeout="120s"
        )
        return exporter

    yield go
    for exporter in running:
        exporter.__exit__()


def hpa(provider: Provider, namespace: str) -> dict[str, Any]:
    return get(provider, "hpa", f"{RELEASE}-{MODEL}", "-n", namespace)


def conditions(provider: Provider, namespace: str) -> dict[str, str]:
    status = hpa(provider, namespace)["status"]
    return {c["type"]: f"{c['status']} {c['reason']}" for c in status.get("conditions", [])}


def test_every_scalable_runtime_is_tested():
    assert set(SCALABLE) == set(EXPOSITION) == {*INSTANT, *FOLLOWED}
    for runtime, metric in IN_FLIGHT.items():
        if metric:  # what is exported is what the rule asks for
            lines = EXPOSITION[runtime](7.0, 9.0, "served").splitlines()
            names = [line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")]
            assert metric["series"] in names
            assert all(name in metric["query"] for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", FOLLOWED)
def test_replicas_go_up_and_come_back(provider: Provider, namespace: str, install: Any, runtime: str) -> None:
    exporter = install(values(runtime))
    deployment = f"{RELEASE}-{MODEL}"
    wait_for(lambda: ready_replicas(provider, namespace, deployment) == 2, 120, "the minimum, without any load")
    exporter.in_flight = 1000
    wait_for(lambda: ready_replicas(provider, namespace, deployment) == 8, 180, "the maximum, and no more")
    assert conditions(provider, namespace)["ScalingActive"] == "True ValidMetricFound"
    assert conditions(provider, namespace)["ScalingLimited"] == "True TooManyReplicas"
    exporter.in_flight = 0
    wait_for(lambda: ready_replicas(provider, namespace, deployment) == 2, 180, "back to the minimum")


@pytest.mark.parametrize("runtime", INSTANT)
def test_replicas_are_in_flight_over_target(provider: Provider, namespace: str, install: Any, runtime: str) -> None:
    exporter = install(values(runtime))
    deployment = f"{RELEASE}-{MODEL}"
    for in_flight, replicas in [(5 * TARGET, 5), (3 * TARGET - 1, 3)]:
        exporter.in_flight = in_flight
        wait_for(lambda n=replicas: ready_replicas(provider, namespace, deployment) == n, 180, f"{replicas} replicas")  # type: ignore[misc]


@pytest.mark.parametrize("major", MAJORS, ids="helm{}".format)
def test_an_upgrade_does_not_undo_the_autoscaler(provider: Provider, namespace: str, install: Any, major: int) -> None:
    """`replicas` is not rendered, so neither way of applying resets it."""
    # While pods are replaced the scrapes miss some load for a moment: patience, as everywhere.
    patient = values("vllm", patience=60)
    exporter = install(patient, major)
    deployment = f"{RELEASE}-{MODEL}"
    exporter.in_flight = 6 * TARGET
    wait_for(lambda: ready_replicas(provider, namespace, deployment) == 6, 180, "scaled up")
    newer = as_layer({"models": {MODEL: {"image": {"tag": "v99.0.0"}}}})
    Helm(helm(major).binary, kubeconfig=provider.kubeconfig).upgrade(
        RELEASE, CHART, layers=[as_layer(patient), newer], namespace=namespace
    )
    seen = set()

    def rolled_out() -> bool:
        found = get(provider, "deployment", deployment, "-n", namespace)
        seen.add(found["spec"]["replicas"])
        status = found["status"]
        return status.get("updatedReplicas") == status.get("readyReplicas") == status.get("replicas")

    wait_for(rolled_out, 180, "the new version on all pods")
    assert min(seen) >= 6
    found = get(provider, "deployment", deployment, "-n", namespace, "--show-managed-fields")
    fields = found["metadata"]["managedFields"]
    owners = {entry["manager"] for entry in fields if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}
    assert owners <= {"kube-controller-manager"}, "Helm owns the number of replicas"


def test_a_metric_that_is_gone_keeps_the_replicas(provider: Provider, namespace: str, install: Any) -> None:
    """A scrape outage is no reason to scale down."""
    exporter = install(values("vllm"))
    deployment = f"{RELEASE}-{MODEL}"
    exporter.in_flight = 4 * TARGET
    wait_for(lambda: ready_replicas(provider, namespace, deployment) == 4, 180, "scaled up")
    exporter.__exit__()
    wait_for(lambda: conditions(provider, namespace)["ScalingActive"].startswith("False"), 180, "the outage is noticed")
    # More it can be: where the load moved to another pod between two scrapes, both have been seen with it.
    assert ready_replicas(provider, namespace, deployment) >= 4


def test_two_releases_do_not_read_each_others_load(provider: Provider, namespace: str, install: Any) -> None:
    """Same model name, same namespace: the metric's selector keeps them apart."""
    exporter = install(values("vllm"))
    other = as_layer(json.loads(json.dumps(values("vllm"))))
    bound = Helm(helm(4).binary, kubeconfig=provider.kubeconfig)
    bound.install("other", CHART, layers=[other], namespace=namespace, wait=True, timeout="120s")
    # The exporter gives all load to the alphabetically first pod: one of the release called other.
    exporter.in_flight = 3 * TARGET
    wait_for(lambda: ready_replicas(provider, namespace, f"other-{MODEL}") == 3, 180, "the loaded one scaled")
    assert ready_replicas(provider, namespace, f"{RELEASE}-{MODEL}") == 2


def test_a_queue_scales_by_its_series(provider: Provider, namespace: str, install: Any) -> None:
    """Through the rule shipped for a plain series of the runtime. Of the load, 4 requests run and the others wait."""
    exporter = install(values("vllm", requestsInFlight=False, requestsWaiting=5))
    exporter.in_flight = 4 + 6 * 5
    deployment = f"{RELEASE}-{MODEL}"
    wait_for(lambda: ready_replicas(provider, namespace, deployment) == 6, 180, "a replica for 5 waiting requests")
    assert conditions(provider, namespace)["ScalingActive"] == "True ValidMetricFound"


def test_the_server_keeps_metrics_as_they_are(provider: Provider, namespace: str) -> None:
    """Their order and their quantities: a GitOps tool sees no difference."""
    own = {"type": "Pods", "pods": {"metric": {"name": "z"}, "target": {"type": "AverageValue", "averageValue": "1"}}}
    chosen = values("triton", cpuUtilization=70, memoryUtilization=80, gpuUtilization=80, queueComputeRatio=0.5)
    chosen["models"][MODEL]["autoscaling"]["metrics"] = [own]
    rendered = one(render(chosen), "HorizontalPodAutoscaler", MODEL)
    rendered = {**rendered, "metadata": {**rendered["metadata"], "namespace": namespace}}
    provider.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(rendered))
    kept = get(provider, "hpa", f"{rendered['metadata']['name']}", "-n", namespace)["spec"]["metrics"]
    assert kept == rendered["spec"]["metrics"]
    provider.kubectl("delete", "-n", namespace, f"hpa/{rendered['metadata']['name']}")


def test_prometheus_understands_every_rule(provider: Provider, namespace: str) -> None:
    """Of the metrics of Services and of GPUs too, which no API here serves."""
    assert isinstance(provider, EmbeddedCluster)
    rules = load_yaml(ROOT / "ci/prometheus-adapter/values.yaml")["rules"]
    prometheus = Prometheus(provider.prometheus_url)
    for rule in rules["external"] + rules["custom"]:
        (label, *_) = rule["resources"]["overrides"]
        query = rule["metricsQuery"].replace("<<.LabelMatchers>>", f'{label}="a"').replace("<<.GroupBy>>", label)
        # As it is for most models, and for one whose base of on-demand pods bears 8 requests.
        alone = re.sub(r"<<with .*?<<end>>", "", query)
        above = re.sub(r"<<(with .*?|end)>>", "", query).replace("<<.>>", "8")
        for each in {alone, above}:
            assert prometheus.query(each) == []
