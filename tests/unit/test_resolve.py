"""Python's resolved specs are Helm's, and the same whatever was resolved before."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from support.render import MAJORS, render

from gpu_inference.errors import UserError
from gpu_inference.paths import ROOT, VALUES
from gpu_inference.resolve import resolve
from gpu_inference.values.presets import KINDS, load_presets

DEMO = VALUES / "overlays" / "demo.yaml"
FILES = [*sorted(VALUES.rglob("*.yaml")), *sorted((ROOT / "tests" / "schema" / "positive").glob("*.yaml"))]
PRESETS = ("runtimePreset", "acceleratorPreset")


def layer(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "values.yaml"
    path.write_text(text)
    return path


def layers_of(path: Path) -> list[Path]:
    """An overlay is nothing without what it lies over."""
    return [VALUES / "prod.yaml", path] if path == DEMO else [path]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_python_is_helm(path):
    ours = {}
    for name, spec in resolve(layers_of(path))["models"].items():
        ours[name] = {key: value for key, value in spec.items() if key not in PRESETS}
    for major in MAJORS:
        objects = render(layers=layers_of(path), set_values=["debug.resolvedSpecs=true"], major=major)
        (found,) = [
            item for item in objects if item["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "debug"
        ]
        theirs = {name: json.loads(text) for name, text in (found.get("data") or {}).items()}
        assert ours == theirs, major


def test_everything_is_merged_in_order(tmp_path):
    text = """
modelDefaults: {env: {A: defaults, B: defaults, C: defaults, D: defaults}}
runtimes: {vllm: {defaults: {env: {B: runtime, C: runtime, D: runtime}}}}
accelerators: {nvidia-l4: {defaults: {env: {C: accelerator, D: accelerator}}}}
models: {a: {runtime: vllm, model: {source: "hf://o/n"}, accelerator: {type: nvidia-l4}, env: {D: model, USER: false}}}
"""
    env = resolve([layer(tmp_path, text)])["models"]["a"]["env"]
    assert [env[key] for key in "ABCD"] == ["defaults", "runtime", "accelerator", "model"]
    assert "USER" not in env
    assert env["HOME"] == "/home/vllm"


def test_models_do_not_share_anything_below_the_spec(tmp_path):
    text = """
models:
  a: {runtime: vllm, model: {source: "hf://o/n"}, accelerator: {type: nvidia-l4}, env: {X: "1"}, podLabels: {x: "1"}}
  b: {runtime: vllm, model: {source: "hf://o/n"}, accelerator: {type: nvidia-l4}}
"""
    models = resolve([layer(tmp_path, text)])["models"]
    assert "X" not in models["b"]["env"]
    before = copy.deepcopy(models["b"])
    models["a"]["env"]["Y"] = "2"
    models["a"]["probes"]["startup"]["periodSeconds"] = 99
    assert models["b"] == before


def test_resolving_changes_no_preset():
    before = {kind: load_presets(kind) for kind in KINDS}
    first = resolve([VALUES / "prod.yaml"])
    first["models"]["llama"]["runtimePreset"]["ports"]["http"] = 1
    assert {kind: load_presets(kind) for kind in KINDS} == before
    assert resolve([VALUES / "prod.yaml"])["models"]["llama"]["ports"]["http"] == 8000


def test_the_served_name_is_the_models_unless_it_is_said(tmp_path):
    text = 'models: {a: {runtime: vllm, model: {source: "pvc://c/x/y/"}, accelerator: {type: nvidia-l4}}}\n'
    model = resolve([layer(tmp_path, text)])["models"]["a"]["model"]
    assert (model["servedName"], model["reference"]) == ("a", "/models/x/y")


def test_no_layers_is_the_chart_as_it_is():
    assert resolve()["models"] == {}


def test_invalid_values_are_refused_with_place_and_fix(tmp_path):
    path = layer(tmp_path, "models:\n  a: {runtime: vlm, accelerator: {type: nvidia-l4}}\n")
    with pytest.raises(UserError, match=r"values.yaml:2:16: \$.models.a.runtime: .*not a known runtime") as caught:
        resolve([path])
    assert "vllm" in caught.value.fix
    assert caught.value.exit_code == 1
