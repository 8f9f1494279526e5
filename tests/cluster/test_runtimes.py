"""Every runtime preset becomes Available; and a new one is one file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.cluster import items, quick_loads, restricted_namespace
from support.expected import specs
from support.matrix import RUNTIMES, SCENARIOS, scenario
from support.objects import MODEL_LABEL
from support.render import MAJORS, as_layer, helm, render

from gpu_inference.cluster.provider import Provider
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART

ECHO = """
description: A server that answers what it is asked
status: active
api: openai
modelSources: [hf, pvc]
ports: {http: 8080}
command: [echo-server]
args:
  - {flag: --model, from: model.reference}
  - {flag: --context, from: model.contextLength, since: 1.2.0}
probes:
  startup: {path: /health, port: http}
  readiness: {path: /health, port: http}
  liveness: {path: /health, port: http}
metrics: {port: http, path: /metrics, names: {running: echo_running, waiting: echo_waiting}}
lifecycle: {bindsBeforeLoad: false, sigterm: finishInFlight, teardownSeconds: 5}
canary: {method: GET, path: /health, expect: {status: 200}}
defaults: {runtimeVersion: 1.4.0, image: {repository: registry.example.com/echo, tag: 1.4.0}}
"""
MODEL = {
    "runtime": "echo",
    "model": {"source": "hf://o/n", "contextLength": 4096},
    "accelerator": {"type": "nvidia-l4"},
}


def test_every_preset_is_among_the_values_files_that_are_installed() -> None:
    """tests/cluster/test_values.py installs them all, but for the groups, and waits until they are Available."""
    installed = {
        spec["runtime"]
        for name in SCENARIOS
        for spec in specs(scenario(name)).values()
        if spec["workload"] in ("Deployment", "StatefulSet")
    }
    assert installed == set(RUNTIMES)


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with one more file."""
    copy = tmp_path_factory.mktemp("one-more") / "chart"
    shutil.copytree(CHART, copy)
    (copy / "runtimes" / "echo.yaml").write_text(ECHO)
    return copy


@pytest.fixture
def namespace(provider: Provider) -> Iterator[str]:
    if not provider.capabilities.gpus:
        pytest.skip("needs nodes with GPUs")
    with restricted_namespace(provider, "echo") as name:
        yield name


def test_the_file_alone_is_what_values_would_say(chart: Path) -> None:
    """The same data in the chart's folder and under `runtimes` in the values."""
    by_file = render({"models": {"m": MODEL}}, chart=chart)
    by_values = render({"runtimes": {"echo": yaml.safe_load(ECHO)}, "models": {"m": MODEL}})
    assert by_file == by_values


@pytest.mark.cluster
@pytest.mark.parametrize("major", MAJORS, ids="helm{}".format)
def test_a_new_runtime_is_one_file(provider: Provider, namespace: str, chart: Path, major: int) -> None:
    release = Helm(helm(major).binary, kubeconfig=provider.kubeconfig)
    layers = [as_layer({"models": {"m": MODEL}}), quick_loads(["m"])]
    release.install("one-more", chart, layers=layers, namespace=namespace, wait=True, timeout="60s")
    (pod,) = items(provider, "pods", "-n", namespace, "-l", f"{MODEL_LABEL}=m")
    (server,) = pod["spec"]["containers"]
    assert server["command"] == ["echo-server"]
    flag, path, *rest = server["args"]
    assert (flag, rest) == ("--model", ["--context", "4096"])
    assert path.endswith("/o/n"), "where an init container has put it"
    assert {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"] == "True"
    release.uninstall("one-more", namespace=namespace)
