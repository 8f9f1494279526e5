"""The tests are tested: without what the chart does for it, the same traffic through the same disruption suffers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from disruption.release import Release, name_of, values
from disruption.traffic import Mix
from support.cluster import items, wait_for

from gpu_inference.errors import UserError
from gpu_inference.values.presets import load_presets

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def without_drain_flag() -> dict[str, Any]:
    """The preset of vLLM, less the argument that lets it finish what is in flight."""
    args = [entry for entry in load_presets("runtimes")["vllm"]["args"] if entry.get("from") != "drain.requestSeconds"]
    return {"runtimes": {"vllm": {"args": args}}}


def delete_one(release: Release) -> None:
    """A pod goes as in any rollout, and another one comes."""
    before = {name_of(pod) for pod in release.ready()}
    release.kubectl("delete", "pod", min(before), "--wait=false")
    wait_for(lambda: len({name_of(pod) for pod in release.ready()} - before) == 1, 60, "the next pod")


MUTATIONS: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "no-pre-stop": (
        "no wait before SIGTERM: requests still come in, and are refused",
        {"drain": {"preStopSeconds": 0, "requestSeconds": 10}},
        dict,
    ),
    "no-drain-flag": ("the server is not told to drain: it aborts its streams", {}, without_drain_flag),
    "short-grace": (
        "a grace period shorter than the streams: they are cut",
        {"pod": {"terminationGracePeriodSeconds": 3}},
        dict,
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_without_its_part_requests_are_lost(disruption, own, image, name) -> None:
    about, model, preset = MUTATIONS[name]
    own.install({**values(image, **model), **preset()})
    with disruption(f"mutation-{name}", about, own, Mix(shorts=50, streams=3)) as run:
        run.disrupt("delete")
        for _ in range(4):
            delete_one(own)
            time.sleep(2)
            if run.load.progress.failed:
                break
        run.recovered()
        own.await_ready(2)
    assert run.result.failed > 0, run.result


def free_gpus(release: Release) -> int:
    """Of the nodes that this release's pods are on."""
    used = {pod["spec"].get("nodeName") for pod in release.pods()}
    total = sum(
        int(node["status"]["allocatable"].get("nvidia.com/gpu", 0))
        for node in items(release.cluster, "nodes")
        if node["metadata"]["name"] in used
    )
    taken = sum(
        int(container["resources"].get("limits", {}).get("nvidia.com/gpu", 0))
        for pod in items(release.cluster, "pods", "-A")
        if pod["spec"].get("nodeName") in used and pod["status"]["phase"] in ("Pending", "Running")
        for container in pod["spec"]["containers"]
    )
    return total - taken


def test_a_surge_without_a_spare_gpu_hangs_and_drops_nothing(disruption, own, image, nodes) -> None:
    """With `rollout.spareGPU` said wrongly the new pod waits for ever; said rightly, the same upgrade goes through."""
    own.install(values(image, replicas=2))
    all_of_them = 2 + free_gpus(own)
    own.upgrade({"replicas": all_of_them})
    change = {"podAnnotations": {"changed": "yes"}}
    about = "`spareGPU: true` without one: the rollout hangs"
    with disruption("mutation-no-spare-gpu", about, own) as run:
        run.disrupt("helm upgrade")
        with pytest.raises(UserError, match=r"deadline|timed out|not ready"):
            own.upgrade(change, timeout="15s")
        pending = [pod for pod in own.pods() if pod["status"]["phase"] == "Pending"]
        assert len(pending) == 1
        assert "Insufficient nvidia.com/gpu" in str(pending[0]["status"])
        assert len(own.ready()) == all_of_them
        run.count()
        assert run.result.replaced == 1  # what waits, beside all that serve
    assert run.result.failed == 0, run.result
    with disruption("no-spare-gpu", "`helm upgrade` without a spare GPU", own) as run:
        run.disrupt("helm upgrade")
        own.upgrade({**change, "rollout": {"spareGPU": False}}, timeout="200s")
        run.recovered()
        own.await_ready(all_of_them)
    assert run.result.failed == 0, run.result
