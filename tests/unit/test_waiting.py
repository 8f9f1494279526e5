"""Whoever installs a release waits as long as its models may load."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_inference.inputs import subjects
from gpu_inference.validate.engine import check
from gpu_inference.validate.waiting import seconds

MODEL = "{runtime: vllm, model: {source: 'hf://o/n'}, accelerator: {type: nvidia-l4}, startup: {loadSeconds: 400}%s}"
FLUX = """apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: llm}
spec:
  chart: {spec: {chart: gpu-inference, sourceRef: {kind: HelmRepository, name: charts}}}
  %s
  values: {models: {m: MODEL}}
"""
HELMFILE = """%s
releases:
  - name: llm
    chart: charts/gpu-inference
    %s
    values: [{models: {m: MODEL}}]
"""


def found(tmp_path: Path, text: str, more: str = "") -> list[tuple[str, str]]:
    path = tmp_path / "manifest.yaml"
    path.write_text(text.replace("MODEL", MODEL % more))
    report = check(subjects([path]))
    assert not report.errors
    return [(finding.path, finding.fix) for finding in report.findings if finding.rule == "deploy-timeout"]


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("interval: 10m", "$.spec.timeout"),  # 5 minutes
        ("timeout: 13m19s", "$.spec.timeout"),
        ("timeout: 13m20s", None),
        ("upgrade: {timeout: 90s}\n  timeout: 1h", "$.spec.upgrade.timeout"),
        ("install: {disableWait: true}\n  upgrade: {disableWait: true}", None),
        ("timeout: soon", None),
    ],
)
def test_flux(tmp_path: Path, said: str, path: str | None) -> None:
    assert found(tmp_path, FLUX % said) == ([(path, "set it to 29m")] if path else [])


@pytest.mark.parametrize(
    ("defaults", "said", "path"),
    [
        ("", "wait: true", "$.releases[0].timeout"),
        ("", "wait: false", None),
        ("helmDefaults: {wait: true, timeout: 600}", "version: 1.0.0", "$.helmDefaults.timeout"),
        ("helmDefaults: {wait: true, timeout: 600}", "timeout: 900", None),
    ],
)
def test_helmfile(tmp_path: Path, defaults: str, said: str, path: str | None) -> None:
    assert found(tmp_path, HELMFILE % (defaults, said)) == ([(path, "set it to 1740")] if path else [])


def test_helm_does_not_wait_for_what_an_operator_makes(tmp_path: Path) -> None:
    group = ", workload: LeaderWorkerSet, parallelism: {pipeline: 2}"
    assert found(tmp_path, FLUX % "timeout: 1m", group) == []


def test_durations() -> None:
    assert [seconds(text) for text in ("5m0s", "1h30m", "1.5s", "250ms", 300)] == [300, 5400, 1.5, 0.25, 300]
    assert {seconds(text) for text in ("", "5", "5 m", "m", "1..5s", "5m!", True, None)} == {None}
