"""The kind provider: nodes that look like a cloud's, real pods on them, and nothing left of it in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import apply, get, items, wait_for

from gpu_inference.cluster import inventory
from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.kind import KindCluster
from gpu_inference.cluster.kind.engine import Engine, find
from gpu_inference.cluster.kind.image import archive
from gpu_inference.cluster.kind.nodes import devices
from gpu_inference.cluster.process import is_running
from gpu_inference.cluster.state import folder_of, load
from gpu_inference.errors import UserError

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CLOUD = "gke"
WEB = "localhost/gpu-inference/test-web:1"
PORT = 9090
# What the web server (a Prometheus) says of itself, once a pod.
RULES = {
    "externalRules": [
        {
            "seriesQuery": 'prometheus_ready{namespace!=""}',
            "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
            "name": {"as": "test_ready"},
            "metricsQuery": "sum(prometheus_ready{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
        }
    ]
}
OWNER = """
import sys, time
from gpu_inference.cluster.kind import KindCluster
with KindCluster(sys.argv[1], workers=1, progress=lambda event: print(event, flush=True)):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindCluster]:
    folder = tmp_path_factory.mktemp("kind")
    rules = folder / "rules.yaml"
    rules.write_text(yaml.safe_dump(RULES), encoding="utf-8")
    cluster = KindCluster(f"kind-{os.getpid()}", cloud=CLOUD, sync_period=1, scrape_interval=1, rules=rules)
    try:
        cluster.prepare()
    except UserError as error:
        pytest.skip(f"no kind cluster can run here: {error.message}. {error.fix}")
    with cluster:
        server = find_or_build(["prometheus"])["prometheus"]
        image = folder / "web.tar"
        archive.write(archive.Image([WEB], ["/web"], {"web": server}), image)
        cluster.load_image(image)
        yield cluster


def web(**changes: Any) -> dict[str, Any]:
    """A pod of the web server, as another user than root."""
    container = {
        "name": "web",
        "image": WEB,
        "imagePullPolicy": "Never",
        "args": ["--config.file=/dev/null", "--storage.tsdb.path=/tmp/data", f"--web.listen-address=:{PORT}"],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PORT}, "periodSeconds": 1},
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": True},
        **changes.pop("container", {}),
    }
    tolerations = [{"operator": "Exists"}]
    return {"containers": [container], "tolerations": tolerations, "terminationGracePeriodSeconds": 1, **changes}


def deployment(name: str, replicas: int, pod: dict[str, Any]) -> dict[str, Any]:
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}, "annotations": scraped}, "spec": pod},
        },
    }


def running(cluster: KindCluster, name: str) -> list[dict[str, Any]]:
    """The ready pods of a Deployment."""
    pods = items(cluster, "pods", "-l", f"app={name}")
    return [
        pod
        for pod in pods
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]


def answer(url: str) -> str:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=3) as response:
            return response.read().decode()
    except OSError as error:
        return str(error)


def test_workers_are_the_clouds_nodes(cluster: KindCluster) -> None:
    """On-demand and spot, with labels, taints and GPUs of the inventory, in two zones, of the embedded minor."""
    nodes = {node["metadata"]["name"]: node for node in items(cluster, "nodes")}
    workers = [nodes[name] for name in sorted(nodes) if "worker" in name]
    assert len(workers) == 2 and set(nodes) == set(cluster.nodes)
    for worker, example in zip(workers, inventory.gpu_workers(CLOUD, 2), strict=True):
        assert devices(example) == {"nvidia.com/gpu": "8"}
        assert worker["status"]["allocatable"]["nvidia.com/gpu"] == "8"
        wanted = {key: value for key, value in example["metadata"]["labels"].items() if "hostname" not in key}
        assert wanted.items() <= worker["metadata"]["labels"].items()
        assert {t["key"] for t in example["spec"]["taints"]} == {t["key"] for t in worker["spec"].get("taints", [])}
    spot = [worker["metadata"]["labels"].get("cloud.google.com/gke-spot") for worker in workers]
    assert spot == [None, "true"]
    assert len({worker["metadata"]["labels"]["topology.kubernetes.io/zone"] for worker in workers}) == 2
    assert {node["status"]["nodeInfo"]["kubeletVersion"].rpartition(".")[0] for node in nodes.values()} == {"v1.36"}


def test_gpus_survive_a_kubelet(cluster: KindCluster) -> None:
    """They come back after a kubelet that starts without knowing of them."""
    node = next(name for name in cluster.nodes if name.endswith("-worker"))
    patch = '{"status": {"capacity": {"nvidia.com/gpu": "0"}, "allocatable": {"nvidia.com/gpu": "0"}}}'
    cluster.kubectl("patch", "node", node, "--subresource=status", "-p", patch)
    cluster.engine.run("exec", node, "systemctl", "restart", "kubelet")

    def gpus() -> str:
        return get(cluster, "node", node)["status"]["allocatable"].get("nvidia.com/gpu", "")

    wait_for(lambda: gpus() == "8", 20, "8 GPUs again")


def test_pods_serve_behind_a_service(cluster: KindCluster) -> None:
    """One pod on each node (4 of 8 GPUs each), reached by name, by node port, across nodes and by port-forward."""
    spread = [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
         "labelSelector": {"matchLabels": {"app": "web"}}}
    ]  # fmt: skip
    gpus = {"resources": {"limits": {"nvidia.com/gpu": "8"}}}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": PORT}]},
    }
    pods = deployment("web", 2, web(container=gpus, topologySpreadConstraints=spread))
    apply(cluster, pods, service)
    wait_for(lambda: len(running(cluster, "web")) == 2, 60, "two ready pods")
    found = running(cluster, "web")
    assert len({pod["spec"]["nodeName"] for pod in found}) == 2
    cluster.kubectl("scale", "deployment/web", "--replicas=3")

    def refused() -> bool:
        return any("Insufficient nvidia.com/gpu" in event.get("message", "") for event in items(cluster, "events"))

    wait_for(refused, 20, "a third pod that finds no GPUs")
    cluster.kubectl("scale", "deployment/web", "--replicas=2")
    port = get(cluster, "service", "web")["spec"]["ports"][0]["nodePort"]
    control_plane = next(node for node in items(cluster, "nodes") if node["metadata"]["name"].endswith("control-plane"))
    address = next(a["address"] for a in control_plane["status"]["addresses"] if a["type"] == "InternalIP")
    for _ in range(8):  # both endpoints, from a node that has neither pod
        assert "Healthy" in answer(f"http://{address}:{port}/-/healthy")
    proxied = cluster.kubectl("get", "--raw", "/api/v1/namespaces/default/services/web:80/proxy/-/healthy")
    assert "Healthy" in proxied
    forward = [cluster.kubectl_path, f"--kubeconfig={cluster.kubeconfig}", "port-forward", "service/web", ":80"]
    with subprocess.Popen([str(word) for word in forward], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        local = child.stdout.readline().split(" -> ")[0].rpartition(":")[2]
        assert "Healthy" in answer(f"http://127.0.0.1:{local}/-/healthy")
        child.kill()


def test_names_resolve_in_a_pod(cluster: KindCluster) -> None:
    """A Prometheus that scrapes a Service by its name, in another pod."""
    config = {"scrape_configs": [{"job_name": "x", "scrape_interval": "1s", "static_configs": [{"targets": ["web"]}]}]}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "asks"}}
    args = ["--config.file=/etc/asks/config.yaml", "--storage.tsdb.path=/tmp/data", f"--web.listen-address=:{PORT}"]
    mounted = {"args": args, "volumeMounts": [{"name": "config", "mountPath": "/etc/asks"}]}
    volume = {"name": "config", "configMap": {"name": "asks"}}
    pods = deployment("asks", 1, web(container=mounted, volumes=[volume]))
    apply(cluster, {**settings, "data": {"config.yaml": yaml.safe_dump(config)}}, pods)
    wait_for(lambda: running(cluster, "asks"), 60, "the pod that asks")
    name = running(cluster, "asks")[0]["metadata"]["name"]
    query = f"/api/v1/namespaces/default/pods/{name}:{PORT}/proxy/api/v1/query?query=up"

    def up() -> bool:
        result = json.loads(cluster.kubectl("get", "--raw", query))["data"]["result"]
        return bool(result) and result[0]["value"][1] == "1"

    wait_for(up, 30, "the Service answering by its name")


def test_claim_is_bound_and_written(cluster: KindCluster) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    args = ["--config.file=/dev/null", "--storage.tsdb.path=/data/tsdb", f"--web.listen-address=:{PORT}"]
    mounted = {"args": args, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    apply(cluster, claim, deployment("keeps", 1, web(container=mounted, volumes=[volume])))
    wait_for(lambda: running(cluster, "keeps"), 90, "a pod that writes to its claim")
    assert get(cluster, "pvc", "data")["status"]["phase"] == "Bound"


def test_autoscaler_reads_the_external_metric(cluster: KindCluster) -> None:
    """Each ready pod reports 1; at half of it a pod, the real HPA doubles what there is, up to its maximum."""
    quick = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]}
    metric = {"name": "test_ready", "selector": {"matchLabels": {"app": "scaled"}}}
    external = {"metric": metric, "target": {"type": "AverageValue", "averageValue": "500m"}}
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "scaled"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "scaled"},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [{"type": "External", "external": external}],
            "behavior": {"scaleUp": quick},
        },
    }
    assert cluster.capabilities.external_metrics
    apply(cluster, deployment("scaled", 1, web()), autoscaler)
    wait_for(lambda: len(running(cluster, "scaled")) == 3, 90, "three pods")
    cluster.kubectl("delete", "hpa,deployment", "scaled", "--wait=false")


def leftovers(engine: Engine, name: str) -> list[str]:
    """What mentions the cluster: containers, networks, mounts, processes, files."""
    found = engine.run("ps", "-a", "--format", "{{.Names}}").split()
    found += engine.run("network", "ls", "--format", "{{.Name}}").split()
    left = [item for item in found if name in item]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"gi-{name}".encode() in command or str(folder_of(name)).encode() in command:
                left.append(command.decode(errors="replace"))
    return left + ([str(folder_of(name))] if folder_of(name).exists() else [])


@pytest.mark.parametrize(("number", "when"), [(signal.SIGKILL, "ready"), (signal.SIGINT, "[2/4]")])
def test_owner_ends_and_nothing_is_left(cluster: KindCluster, number: signal.Signals, when: str) -> None:
    name = f"owned-{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", OWNER, name], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        assert any(line.startswith(when) for line in owner.stdout), f"the owner never said {when}"
        assert leftovers(cluster.engine, name)
        owner.send_signal(number)
        owner.wait(180)
    wait_for(lambda: not leftovers(cluster.engine, name), 180, "nothing left")


def test_remains_of_a_killed_supervisor_are_removed(cluster: KindCluster) -> None:
    name = f"killed-{os.getpid()}"
    KindCluster(name, workers=1, detached=True).up()
    volumes = len(cluster.engine.run("volume", "ls", "-q").split())
    state = load(folder_of(name))
    assert state
    os.kill(state.supervisor[0], signal.SIGKILL)
    wait_for(lambda: not any(is_running(*process) for process in state.components.values()), 5, "no process left")
    with pytest.raises(UserError, match="no cluster named"):
        KindCluster.attach(name)
    KindCluster.remove(name)
    assert not leftovers(cluster.engine, name)
    assert len(cluster.engine.run("volume", "ls", "-q").split()) == volumes - 2
    with pytest.raises(UserError, match="no cluster named"):
        KindCluster.remove(name)


def test_nothing_of_the_users_is_touched(cluster: KindCluster) -> None:
    """No kubeconfig but the cluster's own, and with podman no storage but the cache's."""
    assert cluster.kubeconfig.is_relative_to(folder_of(cluster.name))
    default = Path.home() / ".kube" / "config"
    assert not default.exists() or cluster.name not in default.read_text(encoding="utf-8")
    engine = find()
    if engine.name == "podman":
        assert "gpu-inference" in engine.run("info", "--format", "{{.Store.GraphRoot}} {{.Store.RunRoot}}")


def test_the_end_takes_everything_along(cluster: KindCluster, wait_for: Callable[..., Any]) -> None:
    """The last of this file: it ends the cluster that the others used."""
    name, engine = cluster.name, cluster.engine
    cluster.down()
    assert not leftovers(engine, name)
    cluster.down()
