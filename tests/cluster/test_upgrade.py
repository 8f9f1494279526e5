"""`helm upgrade` from the first release to the working tree, values unchanged, on a real API server, by both Helms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.cluster import bound_claims, disks, inventory, items, quick_loads, restricted_namespace, wait_for
from support.expected import specs
from support.matrix import Case
from support.releases import changes, first_release, its_values, matches
from support.render import MAJORS, helm, load_yaml

from gpu_inference.cluster.provider import Provider
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART, ROOT

pytestmark = pytest.mark.cluster

RELEASE = "llm"
ACCEPTED = load_yaml(ROOT / "tests" / "render" / "upgrade.yaml") or []
WORKLOADS = ("deployments", "statefulsets")


@pytest.fixture(params=MAJORS, ids="helm{}".format)
def release(request: pytest.FixtureRequest, provider: Provider) -> Helm:
    return Helm(helm(request.param).binary, kubeconfig=provider.kubeconfig)


@pytest.fixture
def namespace(provider: Provider) -> Iterator[str]:
    if not provider.capabilities.gpus:
        pytest.skip("needs nodes with GPUs")
    with restricted_namespace(provider, "upgrade") as name:
        yield name


def templates(provider: Provider, namespace: str) -> dict[str, dict]:
    """Kind/name -> pod template, as the API server keeps it."""
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": obj["spec"]["template"]
        for kind in WORKLOADS
        for obj in items(provider, kind, "-n", namespace)
    }


@pytest.mark.parametrize("values", ["prod", "stateful"])
def test_upgrade_rollback_uninstall(provider: Provider, namespace: str, release: Helm, values: str) -> None:
    """What serves stays up but for restarts with a reason; back is as it was; nothing stays but the disks."""
    layers, old_chart = its_values()[values], first_release() / "chart"
    models = specs(Case("upgrade", layers))
    layers = (*layers, quick_loads(models))
    how = {"layers": layers, "namespace": namespace, "wait": True, "timeout": "90s"}
    with (
        bound_claims(provider, namespace, (m["model"]["source"] for m in models.values())),
        disks(provider, namespace, models),
    ):
        before = inventory(provider, namespace)
        release.install(RELEASE, old_chart, **how)
        old = templates(provider, namespace)
        release.upgrade(RELEASE, CHART, **how)
        new = templates(provider, namespace)
        assert old.keys() == new.keys()
        restarted = [change for name in old for change in changes(name, old[name], new[name])]
        assert [str(c) for c in restarted if not any(matches(entry, values, c) for entry in ACCEPTED)] == []
        release.rollback(RELEASE, 1, namespace=namespace, wait=True, timeout="90s")
        assert templates(provider, namespace) == old
        release.upgrade(RELEASE, CHART, **how)
        release.uninstall(RELEASE, namespace=namespace)
        claims = {name for name in inventory(provider, namespace) if name.startswith("persistentvolumeclaim/")}
        wait_for(lambda: inventory(provider, namespace) == before | claims, 30, f"only {sorted(before | claims)}")
        assert len(claims - before) == sum(
            len(spec["claims"]) * (spec["replicas"] if spec["workload"] == "StatefulSet" else 1)
            for spec in models.values()
        )


def test_every_values_file_can_be_upgraded(provider: Provider, namespace: str, release: Helm) -> None:
    """Accepted by the API server, immutable fields and all; whether the pods come up is not waited for."""
    names = {f"u{number}": layers for number, layers in enumerate(its_values().values())}
    for name, layers in names.items():
        release.install(name, first_release() / "chart", layers=layers, namespace=namespace)
        release.upgrade(name, CHART, layers=layers, namespace=namespace)
        release.uninstall(name, namespace=namespace)
    assert len(names) > 5
