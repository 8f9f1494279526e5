"""Nothing is dropped: real kubelets, probes, hooks, drains and kube-proxy, with traffic through every disruption.

`disruption(name, about, release)` is traffic at a release and a row of the results; `cluster`, `nodes`, `chat`, `own`:
see conftest.py. A test that leaves `chat` other than it was upgrades it back within its traffic.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from disruption.release import NAME, is_ready, name_of, values
from disruption.traffic import Mix
from support.cluster import get, items, wait_for
from support.releases import first_release
from support.render import as_layer

from gpu_inference.diff.classify import changes
from gpu_inference.diff.render import releases
from gpu_inference.errors import UserError
from gpu_inference.paths import CHART, ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

QUICK = {"preStopSeconds": 2, "requestSeconds": 3}  # s: with the teardown within a notice that gives pods 15
BLIND = 5.0  # s until the kubelet, the endpoints and every proxy know of a server that has died


def test_it_is_installed_and_answers(chat) -> None:
    assert "Phase:          Succeeded" in chat.test()


@pytest.mark.parametrize(
    ("name", "about", "change"),
    [
        ("upgrade-args", "`helm upgrade`: an argument", {"extraArgs": ["--enforce-eager"]}),
        ("upgrade-config", "`helm upgrade`: a setting", {"model": {"contextLength": 2048}}),
        ("upgrade-image", "`helm upgrade`: another image", {"image": {"tag": "NEXT"}}),
    ],
    ids=["args", "config", "image"],
)
def test_a_rolling_upgrade_drops_nothing(disruption, chat, image, name, about, change) -> None:
    if "image" in change:
        change = {"image": {"tag": f"{image.rpartition(':')[2]}-next"}}
    with disruption(name, about, chat) as run:
        run.disrupt("helm upgrade")
        chat.upgrade(change)
        run.recovered()
        chat.await_ready(2)
    assert (run.result.failed, run.result.replaced, run.result.restarts) == (0, 2, 0), run.result


def test_a_rollback_drops_nothing(disruption, chat) -> None:
    with disruption("rollback", "`helm rollback`", chat) as run:
        run.disrupt("helm rollback")
        chat.helm.rollback(NAME, namespace=chat.namespace, wait=True, timeout="120s")
        run.recovered()
        chat.await_ready(2)
    assert (run.result.failed, run.result.replaced, run.result.restarts) == (0, 2, 0), run.result


def test_scaling_up_and_down_drops_nothing(disruption, chat) -> None:
    with disruption("scale", "scaled 2 → 4 → 1 → 2", chat) as run:
        run.disrupt("scale up")
        for replicas in (4, 1, 2):
            chat.kubectl("scale", f"deployment/{chat.workload}", f"--replicas={replicas}")
            chat.await_ready(replicas)
        run.recovered()
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result


def test_deleted_pods_drop_nothing(disruption, chat) -> None:
    with disruption("delete", "`kubectl delete pod`, one after the other", chat) as run:
        run.disrupt("delete")
        for gone in names(chat.ready()):
            chat.kubectl("delete", "pod", gone, "--wait=false")
            wait_for(lambda gone=gone: gone not in names(chat.ready()), 20, "the pod to go")
            wait_for(lambda: len(chat.ready()) == 2, 60, "the next pod")
        run.recovered()
        chat.await_ready(2)
    assert (run.result.failed, run.result.replaced) == (0, 2), run.result


def test_flapping_readiness_drops_nothing(disruption, chat) -> None:
    """The server works while its probe fails: it leaves the endpoints and comes back, and nobody restarts it."""
    pod = chat.ready()[0]
    with disruption("flapping", "a pod's readiness flaps", chat) as run:
        run.disrupt("flap")
        chat.fault(pod, "flap?seconds=10")
        for ready in (False, True):
            wait_for(lambda ready=ready: is_ready(get_pod(chat, pod)) is ready, 30, f"ready is {ready}")
        chat.fault(pod, "none")
        run.recovered()
        run.on(2)
    assert (run.result.failed, run.result.restarts, run.result.replaced) == (0, 0, 0), run.result


def names(pods: list[dict[str, Any]]) -> set[str]:
    return {name_of(pod) for pod in pods}


def get_pod(release, pod: dict[str, Any]) -> dict[str, Any]:
    return get(release.cluster, "pod", name_of(pod), "-n", release.namespace)


def test_a_model_that_never_loads_replaces_nothing(disruption, chat) -> None:
    """The rollout stops at its first pod, and --rollback-on-failure takes it back."""
    chat_before = chat.values
    with disruption("never-loads", "upgrade to a model that never loads, undone by Helm", chat) as run:
        run.disrupt("helm upgrade")
        with pytest.raises(UserError):
            chat.upgrade({"env": {"TWIN_FAULT": "never-load"}}, timeout="20s", atomic=True)
        run.recovered()
        chat.values = chat_before
        kept = names(chat.ready())
        run.on(3)
        run.count()
        assert len(kept) == 2
    assert run.result.failed == 0, run.result
    assert "TWIN_FAULT" not in chat.kubectl("get", f"deployment/{chat.workload}", "-o", "yaml")


def test_the_api_server_restarts(disruption, chat, nodes) -> None:
    with disruption("api-server", "the API server is killed", chat) as run:
        run.disrupt("kill")
        nodes.kill_process(nodes.control_plane, "kube-apiserver")
        wait_for(lambda: "ok" not in chat.kubectl("get", "--raw", "/readyz", check=False), 10, "the API server to go")
        wait_for(lambda: "ok" in chat.kubectl("get", "--raw", "/readyz", check=False), 90, "the API server")
        run.recovered()
        run.on(3)
    assert (run.result.failed, run.result.restarts, run.result.replaced) == (0, 0, 0), run.result


@pytest.mark.parametrize(
    ("name", "about"),
    [("crash", "an engine is killed (SIGKILL)"), ("out-of-memory", "an engine takes more memory than its limit")],
    ids=["crash", "out-of-memory"],
)
def test_a_server_that_dies_takes_only_its_own_requests_along(disruption, chat, nodes, name, about) -> None:
    pod = chat.ready()[0]
    before = restarts(chat, pod)
    with disruption(name, about, chat) as run:
        run.disrupt("kill")
        if name == "crash":
            nodes.kill_container(pod)
        else:
            chat.fault(pod, "memory?mib=2048")
        wait_for(lambda: restarts(chat, pod) > before, 30, "the restart")
        run.lose(run.result.events["kill"], run.now())
        wait_for(lambda: is_ready(get_pod(chat, pod)), 60, "the pod to be ready")
        run.recovered()
        run.on(2)
    assert (run.result.failed, run.result.replaced) == (0, 0), run.result
    assert run.result.restarts >= 1
    status = get_pod(chat, pod)["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert status["reason"] == ("OOMKilled" if name != "crash" else "Error")


def restarts(release, pod: dict[str, Any]) -> int:
    return sum(status["restartCount"] for status in get_pod(release, pod)["status"]["containerStatuses"])


def test_a_full_disk_costs_one_pod(disruption, chat) -> None:
    """The kubelet evicts what fills more than its volume's limit; another pod comes, the others serve."""
    pod = chat.ready()[0]
    with disruption("full-disk", "a pod fills its disk and is evicted", chat) as run:
        run.disrupt("disk")
        chat.fault(pod, "disk?mib=90")
        wait_for(lambda: name_of(pod) not in names(chat.ready()), 60, "the eviction")
        run.lose(run.now() - BLIND, run.now() + BLIND)
        wait_for(lambda: len(chat.ready()) == 2, 60, "the next pod")
        run.recovered()
        run.on(2)
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result
    chat.kubectl("delete", "pods", "--field-selector=status.phase=Failed")


def test_a_hung_engine_is_found_by_its_tokens(disruption, own, image) -> None:
    """Its health stays 200: only the progress probe tells it from the busy one beside it, which is left alone."""
    progress = {"progress": {"liveness": True, "stallSeconds": 60}}
    probe = {"probes": {"liveness": {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2}}}
    own.install(values(image, **progress, **probe))
    hung, busy = own.ready()
    with disruption("hung", "an engine hangs while its health stays 200", own, Mix(shorts=10, streams=2)) as run:
        run.disrupt("hang")
        own.fault(hung, "hang")
        wait_for(lambda: restarts(own, hung) > 0, 150, "the restart")
        run.lose(run.result.events["hang"], run.now() + BLIND)
        wait_for(lambda: is_ready(get_pod(own, hung)), 60, "the pod to be ready")
        run.recovered()
        run.on(3)
    assert (run.result.failed, run.result.replaced, restarts(own, busy)) == (0, 0, 0), run.result


def test_a_slow_start_within_the_budget_is_waited_for(disruption, own, image) -> None:
    own.install(values(image, startup={"loadSeconds": 10, "provisionSeconds": 30}))
    with disruption("slow-start", "upgrade to a model that loads half as fast again as expected", own) as run:
        run.disrupt("helm upgrade")
        own.upgrade({"env": {"TWIN_LOAD_SECONDS": "14"}})
        run.recovered()
        own.await_ready(2)
    assert (run.result.failed, run.result.restarts, run.result.replaced) == (0, 0, 2), run.result


@pytest.mark.parametrize("runtime", ["sglang", "triton", "tf-serving"])
def test_each_kind_of_shutdown_drops_nothing(disruption, own, image, runtime) -> None:
    """SGLang serves on after SIGTERM, Triton closes its port, TensorFlow Serving does not listen to it."""
    own.install(values(image, runtime=runtime, test={"image": image}))
    mix = Mix(prompt=2, streams=1 if runtime == "sglang" else 5)
    about = f"`helm upgrade` with {runtime}"
    api = "openai" if runtime == "sglang" else runtime
    with disruption(f"upgrade-{runtime}", about, own, mix, api) as run:
        run.disrupt("helm upgrade")
        own.upgrade({"podAnnotations": {"changed": "yes"}})
        run.recovered()
        own.await_ready(2)
    assert (run.result.failed, run.result.replaced, run.result.restarts) == (0, 2, 0), run.result


def test_a_stateful_set_with_claims(disruption, own, image, disks) -> None:
    claims = {"data": {"mountPath": "/data", "size": "10Mi", "accessModes": ["ReadWriteOnce"], **disks}}
    own.install(values(image, workload="StatefulSet", rollout={"spareGPU": False}, claims=claims))
    own.test()
    volumes = {claim["metadata"]["name"]: claim["spec"]["volumeName"] for claim in own_claims(own)}
    with disruption("stateful-set", "`helm upgrade` of a StatefulSet with a claim a pod", own) as run:
        run.disrupt("helm upgrade")
        own.upgrade({"podAnnotations": {"changed": "yes"}})
        run.recovered()
        own.await_ready(2)
    assert (run.result.failed, run.result.replaced) == (0, 2), run.result
    assert {claim["metadata"]["name"]: claim["spec"]["volumeName"] for claim in own_claims(own)} == volumes
    assert len(volumes) == 3


def own_claims(release) -> list[dict[str, Any]]:
    return items(release.cluster, "pvc", "-n", release.namespace)


def mixed(image: str, cloud: str, **model: Any) -> dict[str, Any]:
    """Two pods on demand, and one on spot nodes above them; times that fit in the shortest notice."""
    scaling = {"enabled": True, "minReplicas": 3, "maxReplicas": 4}
    return values(image, cloud, capacity="mixed", autoscaling=scaling, drain=QUICK, **model)


def on_node(release, node: str) -> list[dict[str, Any]]:
    return [pod for pod in release.pods() if pod["spec"].get("nodeName") == node]


def test_draining_the_spot_node_drops_nothing(disruption, own, image, nodes) -> None:
    """The budget lets one pod go at a time, and the drain gets to its end."""
    fallback = {"capacity": "spot", "spot": {"fallback": True}, "drain": QUICK}
    own.install(values(image, nodes.cloud, **fallback))
    with disruption("drain", "`kubectl drain` of the spot node", own, Mix(tokens=60)) as run:
        run.disrupt("drain")
        try:
            own.kubectl("drain", nodes.spot, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s")
            run.recovered()
            own.await_ready(2)
            assert on_node(own, nodes.spot) == []
        finally:
            own.kubectl("uncordon", nodes.spot)
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result


def test_a_spot_node_taken_back_within_its_notice_drops_nothing(disruption, own, image, nodes) -> None:
    """As the cloud does it: a taint, every pod told to go in the time that pods get, and the node gone at the end."""
    own.install(mixed(image, nodes.cloud))
    wait_for(lambda: len(own.ready()) == 3, 60, "two pods on demand and one on the spot node")
    own.test()
    notice, grace = nodes.notice
    with disruption("spot-notice", f"a spot node goes, {notice} s after its notice", own, Mix(tokens=60)) as run:
        run.disrupt("notice")
        began = time.monotonic()
        (taken,) = on_node(own, nodes.spot)
        own.kubectl("taint", "node", nodes.spot, "test/going=yes:NoSchedule")
        own.kubectl("delete", "pod", name_of(taken), f"--grace-period={grace}", "--wait=false")
        time.sleep(max(0.0, notice - (time.monotonic() - began)))
        try:
            with nodes.paused(nodes.spot):
                run.mark("gone")
                run.on(5)
        finally:
            own.kubectl("taint", "node", nodes.spot, "test/going-")
        wait_for(lambda: len(own.ready()) == 3, 90, "the spot pod again")
        run.recovered()
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result


def test_a_lost_node_takes_only_its_own_requests_along(disruption, own, image, nodes) -> None:
    """Nobody is told. The pods are made elsewhere once the node counts as lost."""
    leave = {
        name: {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for name in ("not-ready", "unreachable")
    }
    own.install(mixed(image, nodes.cloud, spot={"fallback": True}, tolerations=leave))
    wait_for(lambda: ready_on(own, nodes.spot) and len(own.ready()) == 3, 60, "a pod on the spot node")
    with disruption("node-loss", "a node is lost without notice", own, Mix(tokens=60)) as run:
        run.disrupt("loss")
        with nodes.paused(nodes.spot):
            wait_for(lambda: len(own.ready()) == 3 and not ready_on(own, nodes.spot), 150, "three pods elsewhere")
            run.lose(run.result.events["loss"], run.now() + BLIND)
            run.recovered()
            run.on(10)
        run.on(2)
    assert run.result.failed == 0, run.result


def ready_on(release, node: str) -> bool:
    return any(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in on_node(release, node))


def test_the_first_release_is_upgraded_under_traffic(disruption, own, image) -> None:
    """Values unchanged; pods are replaced only where `gpu-inference diff` says so."""
    given = values(image)
    own.chart = first_release() / "chart"
    own.install(given)
    (old,), (new,) = (
        [rendered for _, rendered in releases(own.helm, tree, [as_layer(given)])] for tree in (first_release(), ROOT)
    )
    expected = sum(change.pods for change in changes(old, new) if change.effect == "restarts")
    with disruption("first-release", "`helm upgrade` from chart 0.1.0, values unchanged", own) as run:
        run.disrupt("helm upgrade")
        own.chart = CHART
        own.upgrade()
        run.recovered()
        own.await_ready(2)
    assert (run.result.failed, run.result.restarts, run.result.replaced) == (0, 0, expected), run.result
