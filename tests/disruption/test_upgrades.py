"""Nothing is dropped while a release is changed: real kubelets, probes, hooks and kube-proxy, with traffic through it.

`disruption(name, about, release)` is traffic at a release and a row of the results; `chat`, `own`: see conftest.py.
"""

from __future__ import annotations

import pytest
from disruption.release import NAME, values
from disruption.traffic import Mix
from support.cluster import wait_for
from support.releases import first_release
from support.render import as_layer

from gpu_inference.diff.classify import changes
from gpu_inference.diff.render import releases
from gpu_inference.errors import UserError
from gpu_inference.paths import CHART, ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


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
        for gone in chat.names():
            chat.kubectl("delete", "pod", gone, "--wait=false")
            wait_for(lambda gone=gone: gone not in chat.names(), 20, "the pod to go")
            wait_for(lambda: len(chat.ready()) == 2, 60, "the next pod")
        run.recovered()
        chat.await_ready(2)
    assert (run.result.failed, run.result.replaced) == (0, 2), run.result


def test_a_model_that_never_loads_replaces_nothing(disruption, chat) -> None:
    """The rollout stops at its first pod, and --rollback-on-failure takes it back."""
    chat_before = chat.values
    with disruption("never-loads", "upgrade to a model that never loads, undone by Helm", chat) as run:
        run.disrupt("helm upgrade")
        with pytest.raises(UserError):
            chat.upgrade({"env": {"TWIN_FAULT": "never-load"}}, timeout="20s", atomic=True)
        run.recovered()
        chat.values = chat_before
        kept = chat.names()
        run.on(3)
        run.count()
        assert len(kept) == 2
    assert run.result.failed == 0, run.result
    assert "TWIN_FAULT" not in chat.kubectl("get", f"deployment/{chat.workload}", "-o", "yaml")


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
