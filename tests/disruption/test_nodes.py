"""Pods move: autoscaling, drains, spot nodes that are taken back, nodes that are lost."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from disruption.release import name_of, values
from disruption.traffic import BLIND, PATIENCE, Mix
from support.cluster import wait_for

from gpu_inference.errors import UserError

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def mixed(image: str, **model: Any) -> dict[str, Any]:
    """Two pods on demand, and one on spot nodes above them."""
    scaling = {"enabled": True, "minReplicas": 3, "maxReplicas": 4}
    return values(image, capacity="mixed", autoscaling=scaling, **model)


def test_the_autoscaler_drops_nothing_and_holds_without_metrics(disruption, own, image, cluster) -> None:
    """The real HPA, fed by Prometheus and the metrics adapter: up with the streams, down after them."""
    if not cluster.capabilities.external_metrics:
        pytest.skip("needs the external metrics API")
    fast = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 5}]}
    scaling = {"minReplicas": 1, "maxReplicas": 3, "target": {"requestsInFlight": 4}}
    scaling["behavior"] = {"scaleUp": fast, "scaleDown": {**fast, "stabilizationWindowSeconds": 5}}
    own.install(values(image, autoscaling={"enabled": True, **scaling}))
    own.await_ready(1)
    with disruption("autoscaling", "the HPA scales up and down", own, Mix(streams=3, until=35)) as run:
        run.disrupt("streams")
        wait_for(lambda: len(own.ready()) == 3, PATIENCE, "three pods")
        run.mark("scaled up")
        own.await_ready(1, PATIENCE)
        run.recovered()
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result
    own.await_ready(1)
    with disruption(
        "prometheus", "Prometheus hangs while the HPA would scale down", own, Mix(streams=3, until=25)
    ) as run:
        wait_for(lambda: len(own.ready()) == 3, PATIENCE, "three pods")
        with frozen(cluster, "prometheus"):
            run.disrupt("freeze")
            run.on(40)  # the streams have long ended
            assert len(own.ready()) == 3
        own.await_ready(1, PATIENCE)
        run.recovered()
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result


@contextlib.contextmanager
def frozen(cluster, component: str) -> Iterator[None]:
    """A part of the cluster that is a process of this machine, and does not answer."""
    (pid,) = (status.pid for status in cluster.status() if status.name == component)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_draining_the_spot_node_drops_nothing(disruption, own, image, nodes) -> None:
    """The budget lets one pod go at a time, and the drain gets to its end."""
    fallback = {"capacity": "spot", "spot": {"fallback": True}}
    own.install(values(image, **fallback))
    with disruption("drain", "`kubectl drain` of the spot node", own) as run:
        run.disrupt("drain")
        try:
            own.kubectl("drain", nodes.spot, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=100s")
            run.recovered()
            own.await_ready(2)
            assert own.on(nodes.spot) == []
        finally:
            own.kubectl("uncordon", nodes.spot)
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result


def test_a_spot_node_taken_back_within_its_notice_drops_nothing(disruption, own, image, nodes) -> None:
    """As the cloud does it: a taint, every pod told to go in the time that pods get, and the node gone at the end."""
    own.install(mixed(image))
    wait_for(lambda: len(own.ready()) == 3, PATIENCE, "two pods on demand and one on the spot node")
    own.test()
    notice, grace = nodes.notice
    with disruption("spot-notice", f"a spot node goes, {notice} s after its notice", own) as run:
        run.disrupt("notice")
        began = time.monotonic()
        (taken,) = own.on(nodes.spot)
        own.kubectl("taint", "node", nodes.spot, "test/going=yes:NoSchedule")
        own.kubectl("delete", "pod", name_of(taken), f"--grace-period={grace}", "--wait=false")
        time.sleep(max(0.0, notice - (time.monotonic() - began)))
        try:
            with nodes.cut_off(nodes.spot):
                run.mark("gone")
                run.on(5)
        finally:
            own.kubectl("taint", "node", nodes.spot, "test/going-")
        wait_for(lambda: len(own.ready()) == 3, PATIENCE, "the spot pod again")
        run.recovered()
    assert (run.result.failed, run.result.restarts) == (0, 0), run.result


def test_a_lost_node_takes_only_its_own_requests_along(disruption, own, image, nodes) -> None:
    """Nobody is told. The pods are made elsewhere once the node counts as lost."""
    leave = {
        name: {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for name in ("not-ready", "unreachable")
    }
    own.install(mixed(image, spot={"fallback": True}, tolerations=leave))
    wait_for(
        lambda: own.ready_on(nodes.spot) and len(own.ready()) == 3,
        PATIENCE,
        "a pod on the spot node",
    )
    with disruption("node-loss", "a node is lost without notice", own) as run:
        run.disrupt("loss")
        with nodes.cut_off(nodes.spot):
            wait_for(
                lambda: len(own.ready()) == 3 and not own.ready_on(nodes.spot),
                PATIENCE,
                "three pods elsewhere",
            )
            run.lose(run.result.events["loss"], run.now() + BLIND)
            run.recovered()
            run.on(10)
        run.on(2)
    assert run.result.failed == 0, run.result


def test_a_surge_without_a_spare_gpu_hangs_and_drops_nothing(disruption, own, image, nodes) -> None:
    """With `rollout.spareGPU` said wrongly the new pod waits for ever; said rightly, the same upgrade goes through."""
    half = {"accelerator": {"count": 4}, "parallelism": {"tensor": 4}}  # of the node's GPUs
    own.install(values(image, capacity="spot", **half))
    change = {"podAnnotations": {"changed": "yes"}}
    about = "`spareGPU: true` without one: the rollout hangs"
    with disruption("mutation-no-spare-gpu", about, own) as run:
        run.disrupt("helm upgrade")
        with pytest.raises(UserError, match=r"deadline|timed out|not ready"):
            own.upgrade(change, timeout="15s")
        pending = [pod for pod in own.pods() if pod["status"]["phase"] == "Pending"]
        assert len(pending) == 1
        assert "Insufficient nvidia.com/gpu" in str(pending[0]["status"])
        assert len(own.ready()) == 2
        run.count()
        assert run.result.replaced == 1  # what waits, beside all that serve
    assert run.result.failed == 0, run.result
    with disruption("no-spare-gpu", "`helm upgrade` without a spare GPU", own) as run:
        run.disrupt("helm upgrade")
        own.upgrade({**change, "rollout": {"spareGPU": False}}, timeout="200s")
        run.recovered()
        own.await_ready(2)
    assert run.result.failed == 0, run.result
