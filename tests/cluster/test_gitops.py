"""The README's commands for Argo CD and Flux, run as they stand against an API server that knows the kinds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from support.cluster import apply, get
from support.render import load_yaml

from gpu_inference.cluster.provider import Provider
from gpu_inference.paths import ROOT

pytestmark = pytest.mark.cluster

COMMANDS = [
    command.split("  #")[0].strip()
    for command in re.findall(r"^\$ kubectl (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    if " ci/" in command
]
NAMESPACES = ("argocd", "flux-system", "inference")


@pytest.fixture
def installed(provider: Provider, cluster_type: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """The namespaces of Argo CD, with its ConfigMap, and of Flux."""
    if cluster_type != "embedded":
        pytest.skip("another cluster's argocd-cm is its own affair")
    monkeypatch.chdir(ROOT)
    apply(
        provider,
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "argocd-cm", "namespace": "argocd"},
            "data": {"url": "https://argocd.example.com"},
        },
    )
    yield provider
    for name in NAMESPACES:
        provider.kubectl("delete", "namespace", name, "--wait=false")


def test_the_commands_of_the_readme(installed: Provider) -> None:
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        installed.kubectl(*shlex.split(command))
    config = get(installed, "configmap", "argocd-cm", "-n", "argocd")["data"]
    assert config["url"] == "https://argocd.example.com", "a patch keeps what is there"
    assert load_yaml(ROOT / "ci/argocd/argocd-cm.yaml")["data"].items() <= config.items()
    made = get(installed, "applicationset", "llm", "-n", "argocd")["spec"]
    assert made["strategy"]["type"] == "RollingSync" and made["generators"] and made["templatePatch"]
    assert get(installed, "appproject", "inference", "-n", "argocd")
    assert get(installed, "helmrelease", "llm", "-n", "inference")
    assert get(installed, "gitrepository", "gpu-inference", "-n", "flux-system")
