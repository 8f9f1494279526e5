"""A release's life on a real API server, with Helm 3 and Helm 4: install, upgrade, rollback, failure, uninstall."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.cluster import bound_claims, inventory, items, quick_loads, restricted_namespace, wait_for
from support.expected import specs
from support.matrix import scenario
from support.render import MAJORS, as_layer, helm

from gpu_inference.cluster.provider import Provider
from gpu_inference.errors import UserError
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART

pytestmark = pytest.mark.cluster

CASE = scenario("prod")
MODELS = specs(CASE)
LAYERS = [*CASE.layers, quick_loads(MODELS)]
FIRST, *_ = MODELS
RELEASE = "life"


@pytest.fixture
def namespace(provider: Provider) -> Iterator[str]:
    """A restricted namespace with the claims the models read; skips where there are no GPU nodes."""
    if not provider.capabilities.gpus:
        pytest.skip("needs nodes with GPUs")
    with (
        restricted_namespace(provider, "life") as name,
        bound_claims(provider, name, (m["model"]["source"] for m in MODELS.values())),
    ):
        yield name


def on(provider: Provider, major: int) -> Helm:
    """Helm, bound to the cluster."""
    return Helm(helm(major).binary, kubeconfig=provider.kubeconfig)


def deployments(provider: Provider, namespace: str) -> dict[str, dict[str, Any]]:
    return {d["metadata"]["name"]: d for d in items(provider, "deployments", "-n", namespace)}


def asked(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Deployment -> its spec but for the replicas, which are the autoscaler's."""
    return {name: {k: v for k, v in d["spec"].items() if k != "replicas"} for name, d in found.items()}


def tags(provider: Provider, namespace: str) -> dict[str, str]:
    """Deployment -> the tag of its server's image."""
    return {
        name: d["spec"]["template"]["spec"]["containers"][0]["image"].rsplit(":", 1)[-1]
        for name, d in deployments(provider, namespace).items()
    }


@pytest.fixture(params=MAJORS, ids="helm{}".format)
def release(request: pytest.FixtureRequest, provider: Provider, namespace: str) -> Helm:
    """An installed release, Available."""
    bound = on(provider, request.param)
    said = bound.install(RELEASE, CHART, layers=LAYERS, namespace=namespace, wait=True, timeout="90s")
    assert f"helm test {RELEASE} -n {namespace}" in said.split("NOTES:")[1]
    return bound


def test_helm_test_asks_every_model(provider: Provider, namespace: str, release: Helm) -> None:
    """The hooks are admitted, scheduled and gone again. What they ask is tested without a cluster."""
    before = inventory(provider, namespace)
    said = release.test(RELEASE, namespace=namespace, timeout="60s")
    for model in MODELS:
        assert f"{RELEASE}-{model}-canary" in said
    assert said.count("Succeeded") >= len(MODELS)
    wait_for(lambda: inventory(provider, namespace) == before, 30, "no hook left")


def test_upgrade_rollback_uninstall(provider: Provider, namespace: str, release: Helm) -> None:
    before = deployments(provider, namespace)
    old = tags(provider, namespace)
    newer = as_layer({"models": {FIRST: {"image": {"tag": "v99.0.0"}}}})
    release.upgrade(RELEASE, CHART, layers=[*LAYERS, newer], namespace=namespace, wait=True, timeout="90s")
    changed = f"{RELEASE}-{FIRST}"
    assert tags(provider, namespace) == {**old, changed: "v99.0.0"}
    after = deployments(provider, namespace)
    for name in set(before) - {changed}:
        assert asked(after)[name] == asked(before)[name], f"{name} restarted"
    release.rollback(RELEASE, 1, namespace=namespace, wait=True, timeout="90s")
    assert tags(provider, namespace) == old
    release.uninstall(RELEASE, namespace=namespace)
    wait_for(lambda: not items(provider, "pods", "-n", namespace), 30, "no pod left")
    assert f"secret/sh.helm.release.v1.{RELEASE}.v1" not in inventory(provider, namespace)
    kinds = {line.split("/")[0] for line in inventory(provider, namespace)}
    assert kinds <= {"configmap", "serviceaccount", "persistentvolumeclaim"}, kinds


def test_upgrade_with_equal_values_changes_nothing(provider: Provider, namespace: str, release: Helm) -> None:
    before = deployments(provider, namespace)
    release.upgrade(RELEASE, CHART, layers=LAYERS, namespace=namespace, wait=True, timeout="90s")
    assert asked(deployments(provider, namespace)) == asked(before)


def test_removed_model_goes_and_the_others_stay(provider: Provider, namespace: str, release: Helm) -> None:
    before = deployments(provider, namespace)
    values = json.loads(json.dumps({"models": {FIRST: _values(FIRST)}}))
    release.upgrade(RELEASE, CHART, layers=[as_layer(values), quick_loads([FIRST])], namespace=namespace, wait=True)
    left = deployments(provider, namespace)
    kept = f"{RELEASE}-{FIRST}"
    assert set(left) == {kept}
    assert left[kept]["metadata"]["uid"] == before[kept]["metadata"]["uid"]
    assert asked(left)[kept] == asked(before)[kept]
    for kind in ("services", "serviceaccounts", "poddisruptionbudgets", "horizontalpodautoscalers"):
        names = {o["metadata"]["name"] for o in items(provider, kind, "-n", namespace)}
        assert names <= {kept, "default"}, kind


def _values(model: str) -> dict[str, Any]:
    from support.render import load_yaml

    return load_yaml(CASE.layers[0])["models"][model]


def test_helm_4_takes_over_a_release_of_helm_3(provider: Provider, namespace: str) -> None:
    """Helm 4 applies server-side, Helm 3 did not: the second must not conflict with the first, nor restart pods."""
    on(provider, 3).install(RELEASE, CHART, layers=LAYERS, namespace=namespace, wait=True, timeout="90s")
    before = deployments(provider, namespace)
    on(provider, 4).upgrade(RELEASE, CHART, layers=LAYERS, namespace=namespace, wait=True, timeout="90s")
    after = deployments(provider, namespace)
    for name, deployment in after.items():
        template = deployment["spec"]["template"]
        assert template == before[name]["spec"]["template"], f"{name} restarted"
    newer = as_layer({"models": {FIRST: {"image": {"tag": "v99.0.0"}}}})
    on(provider, 4).upgrade(RELEASE, CHART, layers=[*LAYERS, newer], namespace=namespace, wait=True, timeout="90s")
    assert tags(provider, namespace)[f"{RELEASE}-{FIRST}"] == "v99.0.0"


@pytest.mark.parametrize("major", MAJORS, ids="helm{}".format)
def test_failing_install_says_why_and_leaves_nothing(provider: Provider, namespace: str, major: int) -> None:
    """No node has what the model selects: the wait runs out, and with `atomic` the release is removed again."""
    before = inventory(provider, namespace)
    nowhere = as_layer({"models": {FIRST: {"nodeSelector": {"example.com/nowhere": "x"}}}})
    with pytest.raises(UserError) as caught:
        on(provider, major).install(
            RELEASE, CHART, layers=[*LAYERS, nowhere], namespace=namespace, wait=True, timeout="5s", atomic=True
        )
    message = caught.value.message
    assert "Traceback" not in message and "goroutine" not in message
    assert "deadline" in message or "timed out" in message or "not ready" in message, message
    wait_for(lambda: inventory(provider, namespace) == before, 30, "only what was there before")


@pytest.mark.parametrize("major", MAJORS, ids="helm{}".format)
def test_bad_values_never_reach_the_cluster(provider: Provider, namespace: str, major: int) -> None:
    before = inventory(provider, namespace)
    bad = as_layer({"models": {FIRST: {"accelerator": {"count": 3}, "parallelism": {"tensor": 2}}}})
    with pytest.raises(UserError, match=r"models\.\w+\.parallelism.*Fix: "):
        on(provider, major).install(RELEASE, CHART, layers=[*LAYERS, bad], namespace=namespace)
    assert inventory(provider, namespace) == before
    assert deployments(provider, namespace) == {}
