"""Servers that flap, crash, hang and fill up, and an API server that dies: what is lost is what no chart can keep."""

from __future__ import annotations

import pytest
from disruption.release import is_ready, name_of, values
from disruption.traffic import BLIND, PATIENCE, Mix
from support.cluster import wait_for

# s an evicted server may take until its pod says so: it is told to stop at once, without a preStop hook.
EVICTION = 15.0

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_flapping_readiness_drops_nothing(disruption, chat) -> None:
    """The server works while its probe fails: it leaves the endpoints and comes back, and nobody restarts it."""
    pod = chat.ready()[0]
    with disruption("flapping", "a pod's readiness flaps", chat) as run:
        run.disrupt("flap")
        chat.fault(pod, "flap?seconds=10")
        for ready in (False, True):
            wait_for(lambda ready=ready: is_ready(chat.now(pod)) is ready, PATIENCE, f"ready is {ready}")
        chat.fault(pod, "none")
        run.recovered()
        run.on(2)
    assert (run.result.failed, run.result.restarts, run.result.replaced) == (0, 0, 0), run.result


@pytest.mark.alone
def test_the_api_server_restarts(disruption, chat, nodes) -> None:
    before = nodes.restarts("kube-apiserver")
    with disruption("api-server", "the API server is killed", chat) as run:
        run.disrupt("kill")
        nodes.kill_process(nodes.control_plane, "kube-apiserver")
        wait_for(lambda: nodes.restarts("kube-apiserver") > before, PATIENCE, "the API server")
        wait_for(lambda: "ok" in chat.kubectl("get", "--raw", "/readyz", check=False), PATIENCE, "its readiness")
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
    before = chat.restarts(pod)
    with disruption(name, about, chat) as run:
        run.disrupt("kill")
        if name == "crash":
            nodes.kill_container(pod)
        else:
            chat.fault(pod, "memory?mib=2048")
        wait_for(lambda: chat.restarts(pod) > before, PATIENCE, "the restart")
        run.lose(run.result.events["kill"], run.now())
        wait_for(lambda: is_ready(chat.now(pod)), PATIENCE, "the pod to be ready")
        run.recovered()
        run.on(2)
    assert (run.result.failed, run.result.replaced) == (0, 0), run.result
    assert run.result.restarts >= 1
    status = chat.now(pod)["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert status["reason"] == ("OOMKilled" if name != "crash" else "Error")


def test_a_full_disk_costs_one_pod(disruption, chat) -> None:
    """The kubelet evicts what fills more than its volume's limit; another pod comes, the others serve."""
    pod = chat.ready()[0]
    with disruption("full-disk", "a pod fills its disk and is evicted", chat) as run:
        run.disrupt("disk")
        chat.fault(pod, "disk?mib=90")
        wait_for(lambda: name_of(pod) not in chat.names(), PATIENCE, "the eviction")
        run.lose(run.now() - EVICTION, run.now() + BLIND)
        wait_for(lambda: len(chat.ready()) == 2, PATIENCE, "the next pod")
        run.recovered()
        run.on(2)
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result
    chat.kubectl("delete", "pods", "--field-selector=status.phase=Failed")


def test_a_hung_engine_is_found_by_its_tokens(disruption, own, image) -> None:
    """Its health stays 200: only the progress probes tell it from the busy one beside it, which is left alone."""
    progress = {"readiness": True, "liveness": True, "stallSeconds": 60}
    probe = {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2}
    own.install(values(image, progress=progress, probes={"readiness": probe, "liveness": probe}))
    hung, busy = own.ready()
    with disruption("hung", "an engine hangs while its health stays 200", own, Mix(shorts=10, streams=2)) as run:
        run.disrupt("hang")
        own.fault(hung, "hang")
        wait_for(lambda: own.restarts(hung) > 0, PATIENCE, "the restart")
        run.lose(run.result.events["hang"], run.now() + BLIND)
        wait_for(lambda: is_ready(own.now(hung)), PATIENCE, "the pod to be ready")
        run.recovered()
        run.on(3)
    assert (run.result.failed, run.result.replaced, own.restarts(busy)) == (0, 0, 0), run.result
