"""Nothing is dropped by an upgrade of each kind of server and workload, nor by one from the first release."""

from __future__ import annotations

import pytest
from disruption.release import values
from disruption.traffic import Mix
from support.releases import first_release
from support.render import as_layer

from gpu_inference.diff.classify import changes
from gpu_inference.diff.render import releases
from gpu_inference.paths import CHART, ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


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
    claims = {"data": {"mountPath": "/data", "size": "10Mi", "accessModes": ["ReadWriteOnce"]}}
    own.install(values(image, workload="StatefulSet", rollout={"spareGPU": False}, claims=claims))
    own.test()
    volumes = own.claims()
    with disruption("stateful-set", "`helm upgrade` of a StatefulSet with a claim a pod", own) as run:
        run.disrupt("helm upgrade")
        own.upgrade({"podAnnotations": {"changed": "yes"}})
        run.recovered()
        own.await_ready(2)
    assert (run.result.failed, run.result.replaced) == (0, 2), run.result
    assert own.claims() == volumes
    assert len(volumes) == 3


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
