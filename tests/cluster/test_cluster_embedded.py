"""What an embedded cluster does: nodes, pods, metrics and the real HPA."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_helm_charts.clusters import Cluster

from gpu_inference.cluster import inventory
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.existing import ExistingCluster
from gpu_inference.cluster.provider import Capabilities
from gpu_inference.errors import UserError

Wait = Callable[[Callable[[], Any], float, str], Any]
TESTS = Path(__file__).parents[1]
CLOUD = "gke"
RULES = {
    "externalRules": [
        {
            "seriesQuery": 'test_in_flight{namespace!=""}',
            "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
            "name": {"as": "test_requests_in_flight"},
            "metricsQuery": "sum(test_in_flight{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        }
    ]
}


class Exporter(BaseHTTPRequestHandler):
    """Stands for every pod: it answers a scrape of any pod's proxy URL with the same sample."""

    in_flight = 0.0
    asked: set[str] = set()  # noqa: RUF012  (shared on purpose)

    def do_GET(self) -> None:
        Exporter.asked.add(self.path)
        body = f"# TYPE test_in_flight gauge\ntest_in_flight {Exporter.in_flight}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def cluster(cluster_binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    rules = tmp_path_factory.mktemp("rules") / "rules.yaml"
    rules.write_text(yaml.safe_dump(RULES), encoding="utf-8")
    name = f"test-{int(time.time() * 1000) % 10**8}"
    with EmbeddedCluster(name, cloud=CLOUD, sync_period=1, scrape_interval=1, rules=rules, twin=True) as running:
        yield running


@pytest.fixture
def exporter(cluster: EmbeddedCluster) -> Iterator[type[Exporter]]:
    """Serves on the twin's reserved port."""
    server = ThreadingHTTPServer(("127.0.0.1", cluster.twin_port), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Exporter
    server.shutdown()
    server.server_close()


def pod(name: str, **changes: Any) -> dict[str, Any]:
    annotations = changes.pop("annotations", {})
    spec = {"containers": [{"name": "main", "image": "none"}], "tolerations": [{"operator": "Exists"}], **changes}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": annotations},
        "spec": spec,
    }


def apply(cluster: EmbeddedCluster, *objects: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def get(cluster: EmbeddedCluster, *what: str) -> Any:
    out = cluster.kubectl("get", *what, "-o", "json", "--ignore-not-found")
    return json.loads(out) if out else None


def condition(item: dict[str, Any] | None, kind: str) -> str:
    conditions = item["status"].get("conditions", []) if item else []
    return next((entry["status"] for entry in conditions if entry["type"] == kind), "")


def test_nodes_are_the_inventory(cluster: EmbeddedCluster) -> None:
    expected = {node["metadata"]["name"]: node for node in inventory.nodes(CLOUD)}
    found = {node["metadata"]["name"]: node for node in get(cluster, "nodes")["items"]}
    assert found.keys() == expected.keys()
    for name, node in found.items():
        wanted = expected[name]
        assert condition(node, "Ready") == "True"
        assert wanted["metadata"]["labels"].items() <= node["metadata"]["labels"].items()
        assert node["spec"].get("taints", []) == wanted["spec"]["taints"]
        assert node["status"]["capacity"] == wanted["status"]["capacity"]
        assert node["status"]["allocatable"] == wanted["status"]["allocatable"]


def test_gpus_limit_what_is_scheduled(cluster: EmbeddedCluster, wait_for: Wait) -> None:
    """Three pods of eight H100s each on two nodes of eight: the third waits."""
    gpus = {"limits": {"nvidia.com/gpu": "8"}}
    names = [f"gpu-{number}" for number in range(3)]
    for name in names:
        selector = {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
        apply(cluster, pod(name, nodeSelector=selector, containers=[{"name": "m", "image": "none", "resources": gpus}]))

    def outcome() -> list[str]:
        return sorted(condition(get(cluster, "pod", name), "PodScheduled") for name in names)

    wait_for(lambda: outcome() == ["False", "True", "True"], 20, "two pods scheduled, one not")
    cluster.kubectl("delete", "pod", *names)


def test_cloud_adds_the_gpu_toleration(cluster: EmbeddedCluster) -> None:
    """On GKE the API server itself does, so the chart need not."""
    container = {"name": "m", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    apply(cluster, pod("tolerant", containers=[container], tolerations=[]))
    tolerations = get(cluster, "pod", "tolerant")["spec"]["tolerations"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in tolerations
    cluster.kubectl("delete", "pod", "tolerant")


def test_pod_is_ready_after_its_load_time(cluster: EmbeddedCluster, wait_for: Wait) -> None:
    started = time.monotonic()
    service = {"selector": {"app": "slow"}, "ports": [{"port": 80}]}
    apply(
        cluster,
        pod("slow", annotations={"gpu-inference.io/load-seconds": "6"}),
        pod("quick"),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "slow"}, "spec": service},
    )
    wait_for(
        lambda: condition(get(cluster, "pod", "quick"), "Ready") == "True", 20, "the pod without a load time ready"
    )
    loading = get(cluster, "pod", "slow")
    assert (loading["status"]["phase"], condition(loading, "Ready")) == ("Running", "False")
    wait_for(lambda: condition(get(cluster, "pod", "slow"), "Ready") == "True", 30, "the slow pod ready")
    assert time.monotonic() - started >= 6
    address = get(cluster, "pod", "slow")["status"]["podIP"]
    slices = ("endpointslices", "-l", "kubernetes.io/service-name=slow")

    def endpoints() -> list[dict[str, Any]]:
        return [endpoint for item in get(cluster, *slices)["items"] for endpoint in item.get("endpoints") or []]

    wait_for(lambda: any(e["addresses"] == [address] and e["conditions"]["ready"] for e in endpoints()), 20, "endpoint")
    cluster.kubectl("delete", "service/slow", "pod/quick", "pod/slow", "--grace-period=1")


def test_deleted_pod_of_the_twin_stays_for_its_grace_period(cluster: EmbeddedCluster, wait_for: Wait) -> None:
    apply(cluster, pod("served", annotations={"gpu-inference.io/load-seconds": "0"}), pod("plain"))
    for name in ("served", "plain"):
        wait_for(lambda name=name: condition(get(cluster, "pod", name), "Ready") == "True", 20, f"{name} ready")
    cluster.kubectl("delete", "pod", "served", "plain", "--grace-period=8", "--wait=false")
    started = time.monotonic()
    wait_for(lambda: get(cluster, "pod", "plain") is None, 6, "the plain pod gone at once")
    assert get(cluster, "pod", "served") is not None
    wait_for(lambda: get(cluster, "pod", "served") is None, 20, "the other gone after its grace period")
    assert time.monotonic() - started > 6


def test_twin_can_end_a_pod_early(cluster: EmbeddedCluster, wait_for: Wait) -> None:
    apply(cluster, pod("early", annotations={"gpu-inference.io/load-seconds": "0"}))
    wait_for(lambda: condition(get(cluster, "pod", "early"), "Ready") == "True", 20, "ready")
    cluster.kubectl("delete", "pod", "early", "--grace-period=60", "--wait=false")
    assert get(cluster, "pod", "early")["metadata"]["deletionTimestamp"]
    cluster.kubectl("delete", "pod", "early", "--grace-period=0", "--force", "--wait=false")
    wait_for(lambda: get(cluster, "pod", "early") is None, 15, "gone long before its grace period")


def test_job_completes(cluster: EmbeddedCluster, wait_for: Wait) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "none"}]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"template": template}}
    apply(cluster, job)
    wait_for(lambda: condition(get(cluster, "job", "job"), "Complete") == "True", 30, "the Job complete")
    cluster.kubectl("delete", "job", "job")


def test_restricted_pod_security_is_enforced(cluster: EmbeddedCluster) -> None:
    cluster.kubectl("create", "namespace", "strict")
    cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    manifest = json.dumps(pod("privileged"))
    with pytest.raises(UserError, match="violates PodSecurity"):
        cluster.kubectl("create", "-n", "strict", "-f", "-", input=manifest)


def test_hpa_scales_on_the_external_metric(cluster: EmbeddedCluster, exporter: type[Exporter], wait_for: Wait) -> None:
    """Exporter -> Prometheus -> adapter -> API server -> the real HPA controller -> Deployment, up and down."""
    apply(cluster, *_scaled("scaled", at_least=1, at_most=4, target="5"))

    def replicas() -> int:
        return int(get(cluster, "deployment", "scaled")["status"].get("readyReplicas", 0))

    wait_for(lambda: replicas() == 1, 30, "one replica ready")
    exporter.in_flight = 20.0  # of each pod, so the more pods the more: up to the maximum
    wait_for(lambda: replicas() == 4, 60, "scaled to the maximum")
    url = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/test_requests_in_flight?labelSelector=app%3Dscaled"

    def values() -> list[str]:
        return [item["value"] for item in json.loads(cluster.kubectl("get", "--raw", url))["items"]]

    wait_for(lambda: values() == ["80"], 20, "the sum over the four pods")
    names = {item["metadata"]["name"] for item in get(cluster, "pods", "-l", "app=scaled")["items"]}
    assert {f"/api/v1/namespaces/default/pods/{name}:8000/proxy/metrics" for name in names} <= exporter.asked
    exporter.in_flight = 0.0
    wait_for(lambda: replicas() == 1, 60, "scaled back to the minimum")
    conditions = {c["type"]: c["reason"] for c in get(cluster, "hpa", "scaled")["status"]["conditions"]}
    assert conditions["ScalingActive"] == "ValidMetricFound"
    cluster.kubectl("delete", "hpa/scaled", "deployment/scaled")


def test_unknown_metric_is_not_found(cluster: EmbeddedCluster) -> None:
    with pytest.raises(UserError, match="could not find"):
        cluster.kubectl("get", "--raw", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/nothing")


def _scaled(name: str, at_least: int, at_most: int, target: str) -> list[dict[str, Any]]:
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8000",
        "gpu-inference.io/load-seconds": "1",
    }
    template = pod(name, annotations=annotations, terminationGracePeriodSeconds=1)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {**template["metadata"], "name": None}, "spec": template["spec"]},
        },
    }
    metric = {"name": "test_requests_in_flight", "selector": {"matchLabels": {"app": name}}}
    quick = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]}
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": at_least,
            "maxReplicas": at_most,
            "metrics": [
                {
                    "type": "External",
                    "external": {"metric": metric, "target": {"type": "AverageValue", "averageValue": target}},
                }
            ],
            "behavior": {"scaleUp": quick, "scaleDown": quick},
        },
    }
    return [deployment, hpa]


def test_kube_cluster_fixture_is_live(kube_cluster: Cluster) -> None:
    """The plugin's own fixture, without any option given."""
    assert kube_cluster.kubectl("get nodes")
    assert kube_cluster.kube_client is not None
    assert int(kube_cluster.kube_client.version[1]) >= 33


USES_THE_PLUGIN = """
def test_it(kube_cluster, cluster_type, chart_path, provider):
    names = {node["metadata"]["name"] for node in kube_cluster.kubectl("get nodes")}
    print("SEEN", cluster_type, chart_path, sorted(names)[0], type(provider).__name__)
"""


@pytest.mark.parametrize(
    ("how", "kind"),
    [("--cluster-type=existing --kubeconfig={}", "existing"), ("--kubeconfig={}", "existing"), ("env", "kind")],
)
def test_fixtures_take_the_plugins_options(cluster: EmbeddedCluster, tmp_path: Path, how: str, kind: str) -> None:
    """`existing` by option and by environment: the tests run on it, and it is still there afterwards."""
    shutil.copy(TESTS / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_it.py").write_text(USES_THE_PLUGIN, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ATS_", "KUBECONFIG"))}
    options = ["--chart-path=/a/chart"]
    if how == "env":
        environment.update(ATS_CLUSTER_TYPE=kind, KUBECONFIG=str(cluster.kubeconfig))
    else:
        options += how.format(cluster.kubeconfig).split()
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert f"SEEN {kind} /a/chart cpu-0 ExistingCluster" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    assert all(part.alive for part in cluster.status())


def test_existing_provider_knows_what_the_cluster_can(cluster: EmbeddedCluster) -> None:
    with ExistingCluster(cluster.kubeconfig) as existing:
        assert existing.capabilities == Capabilities(real_pods=False, gpus=True, owned=False, external_metrics=True)
        assert [part.alive for part in existing.status()] == [True]
    assert all(part.alive for part in cluster.status()), "a cluster that is not ours was ended"


def test_existing_provider_without_a_cluster_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no kubeconfig"):
        ExistingCluster(tmp_path / "none").up()
    dead = {"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}]}
    dead |= {"contexts": [{"name": "c", "context": {"cluster": "c"}}], "current-context": "c"}  # type: ignore[dict-item]
    (tmp_path / "dead").write_text(yaml.safe_dump(dead), encoding="utf-8")
    with pytest.raises(UserError, match="cannot reach the cluster"):
        ExistingCluster(tmp_path / "dead").up()
    assert [part.alive for part in ExistingCluster(tmp_path / "dead").status()] == [False]
