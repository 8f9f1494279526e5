"""Files that are nobody's idea of values, manifests, comments or reports: a word about them, or none, but no crash."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.from_schema import places

from gpu_inference.cli import main

FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
PIECES = [
    "a: 1\n", "models:\n", "  a: {runtime: vllm}\n", "\t", "\r\n", "---\n", "...\n", "%YAML 1.2\n", "&a ", "*a",
    "<<: *a\n", "- ", "? ", ": ", "|\n", ">-\n", "{{ .Values.x }}", "{% if x %}", "{{- range }}\n", "\x00",
    "\ufeff", "\ud800",
    '"\\ud800"', '"\\U00110000"', "'", '"', "#", "# gpu-inference: ignore x until 2999-01-01: y\n",
    "# gpu-inference: over ../x.yaml\n", "# gpu-inference: ignore\n", "1e400", "-0", "0x", "9" * 5000, "!!binary x",
    "!!int x", "!<tag> ", "~", "[", "]", "{", "}", ",", "\x85", "\u2028", "\xff", "é", "\U0001f600", "x" * 3000, "\n",
    "  ", "apiVersion: argoproj.io/v1alpha1\n", "kind: Application\n", "kind: ApplicationSet\n", "releases:\n",
]  # fmt: skip
JUNK = [None, True, 0, -1, 1.5, "", "x", "{{", "{{ .a }}", "[", "../..", "*", "$ref/x", [], {}, [1], ["x"], [{}], [[]]]
JUNK += [{"a": 1}, {"a": None}, [None], {"values": 1}, "/", "\n", "a[", "a[99999999999].b", "..", "{a,b}"]
VALUES = {"models": {"a": {"runtime": "vllm"}}}
HELM = {
    "valueFiles": ["values.yaml"],
    "ignoreMissingValueFiles": True,
    "values": "models:\n  a: {}\n",
    "valuesObject": VALUES,
    "parameters": [{"name": "models.a.replicas", "value": "2", "forceString": False}],
}
SOURCE = {"path": "chart", "chart": "gpu-inference", "ref": "r", "helm": HELM}
MANIFESTS = [
    {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "spec": {"source": SOURCE}},
    {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "spec": {"sources": [SOURCE, SOURCE]}},
    {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "ApplicationSet",
        "spec": {
            "generators": [
                {"list": {"elements": [{"a": "x", "path": {"basename": "y"}}]}},
                {"git": {"files": [{"path": "*.yaml"}], "directories": [{"path": "*", "exclude": True}]}},
                {"matrix": {"generators": []}},
            ],
            "template": {"metadata": {"name": "{{.a | lower}}"}, "spec": {"source": SOURCE}},
        },
    },
    {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": {"name": "a"},
        "spec": {
            "chart": {"spec": {"chart": "x/gpu-inference", "valuesFiles": ["./values.yaml"]}},
            "valuesFrom": [{"kind": "ConfigMap", "name": "c", "valuesKey": "k", "targetPath": "a.b", "optional": True}],
            "values": VALUES,
        },
    },
    {
        "releases": [
            {"name": "a", "chart": "x/gpu-inference", "values": ["values.yaml", VALUES], "set": [{"name": "a"}]},
            {"name": "b", "chart": "./chart", "values": [], "set": [{"name": "a", "value": 1}]},
        ]
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout with a chart, so that manifests find what they name."""
    path = tmp_path_factory.mktemp("checkout")
    (path / ".git").mkdir()
    (path / "chart").mkdir()
    (path / "chart" / "Chart.yaml").write_text("name: gpu-inference\n")
    (path / "values.yaml").write_text("models: {}\n")
    return path


@st.composite
def manifests(draw):
    """A manifest after one to three entries were replaced or removed."""
    manifest = {"root": copy.deepcopy(draw(st.sampled_from(MANIFESTS)))}
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([path for path in places(manifest) if len(path) > 1] or [("root",)]))
        parent = manifest
        for step in way:
            parent = parent[step]
        if draw(st.booleans()):
            parent[last] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        else:
            del parent[last]
    return manifest.get("root", {})


def validate(folder, content: bytes, *words: str) -> int:
    file = folder / "fuzz.yaml"
    file.write_bytes(content)
    return main(["validate", str(file), *words])


@FUZZ
@given(st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("a: '\ud800'")
def test_any_text(folder, text):
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    assert validate(folder, content, "-o", "sarif") in (0, 1)


@FUZZ
@given(manifests())
def test_any_manifest(folder, manifest):
    assert validate(folder, json.dumps(manifest).encode(), "-o", "text") in (0, 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["findings", "rule", "file"]), inner),
    max_leaves=8,
)


@FUZZ
@given(json_values.map(json.dumps) | st.just("[" * 100_000) | st.just('{"findings": ' * 5000) | st.text(max_size=20))
def test_any_baseline(folder, text):
    baseline = folder / "baseline.json"
    baseline.write_text(text, encoding="utf-8", errors="replace")
    assert validate(folder, b"models: {}\n", "--baseline", str(baseline)) in (0, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_no_text(tmp_path, encoding):
    file = os.fsencode(tmp_path) + b"/caf\xe9.yaml"
    with open(file, "wb") as opened:  # noqa: PTH123  (a Path cannot be made of bytes)
        opened.write("mödels: {}\n".encode())
    command = [sys.executable, "-m", "gpu_inference.cli", "validate", file]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"unknown key" in done.stdout
