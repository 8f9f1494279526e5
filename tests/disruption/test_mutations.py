"""The tests are tested: without what the chart does for it, the same traffic through the same disruption suffers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from disruption.release import Release, name_of, values
from disruption.traffic import PATIENCE, Mix
from support.cluster import wait_for

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
    wait_for(lambda: len({name_of(pod) for pod in release.ready()} - before) == 1, PATIENCE, "the next pod")


MUTATIONS: dict[str, tuple[str, dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "no-pre-stop": (
        "no wait before SIGTERM: requests still come in, and are refused",
        {"drain": {"preStopSeconds": 0, "requestSeconds": 12}},
        dict,
    ),
    "no-drain-flag": ("the server is not told to drain: it aborts its streams", {}, without_drain_flag),
    "short-grace": (
        "a grace period shorter than the streams: they are cut",
        {"pod": {"terminationGracePeriodSeconds": 6}},
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
