"""Nothing is dropped while a release is changed: real kubelets, probes, hooks and kube-proxy, with traffic through it.

`disruption(name, about, release)` is traffic at a release and a row of the results; `chat`, `own`: see conftest.py.
"""

from __future__ import annotations

import pytest
from disruption.release import NAME
from disruption.traffic import PATIENCE
from support.cluster import wait_for

from gpu_inference.errors import UserError

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
            wait_for(lambda gone=gone: gone not in chat.names(), PATIENCE, "the pod to go")
            wait_for(lambda: len(chat.ready()) == 2, PATIENCE, "the next pod")
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
