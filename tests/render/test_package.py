"""The packaged chart: what is in it, and that it still refuses bad values. Two well-known peers ship no schema."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest
from support.matrix import SCENARIOS, minimal_model, scenario
from support.objects import walk
from support.render import MAJORS, helm, load_yaml, render, render_error, scratch_dir

from gpu_inference.paths import CHART


@pytest.fixture(scope="module", params=MAJORS, ids="helm{}".format)
def packaged(request) -> tuple[int, Path]:
    """(major, the .tgz this major makes)."""
    return request.param, helm(request.param).package(CHART, scratch_dir(f"package-{request.param}"))


def test_package_holds_what_templates_read(packaged):
    _, archive = packaged
    with tarfile.open(archive) as tar:
        files = {name.removeprefix("gpu-inference/") for name in tar.getnames()}
    assert "values.schema.json" in files
    data = {f"{kind}/{p.name}" for kind in ("runtimes", "accelerators", "clouds") for p in (CHART / kind).iterdir()}
    assert data <= files
    assert {f for f in files if f.endswith((".swp", ".orig", ".pyc")) or f.startswith("tests/")} == set()


@pytest.mark.parametrize("values", [{"modls": {}}, {"models": {"m": {"replcas": 2}}}], ids=["top", "model"])
def test_packaged_schema_refuses_typos(packaged, values):
    major, archive = packaged
    assert re.search("modls|replcas", render_error(values, major=major, chart=archive))


@pytest.mark.parametrize("name", SCENARIOS)
def test_package_renders_what_the_folder_renders(packaged, name):
    major, archive = packaged
    case = scenario(name)
    assert render(layers=case.layers, major=major, chart=archive) == case.objects


@pytest.mark.parametrize("name", SCENARIOS)
def test_lint(name, major):
    assert "0 chart(s) failed" in helm(major).lint(CHART, layers=scenario(name).layers)


def test_chart_without_models_renders_nothing(major):
    assert render(major=major) == []


def test_default_values_pass_lint(major):
    assert "0 chart(s) failed" in helm(major).lint(CHART)


# The schema itself. Helm loads it as a file URL: anything that is not in it is looked for at the root of the disk.

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_schema_is_self_contained():
    references = [value for path, value in walk(SCHEMA) if path.endswith(".$ref")]
    assert references
    assert [r for r in references if not r.startswith("#/$defs/")] == []
    assert [r for r in references if r.removeprefix("#/$defs/") not in SCHEMA["$defs"]] == []
    assert [path for path, _ in walk(SCHEMA) if path.endswith(".$id")] == []


def test_patterns_are_re2():
    """Helm's regular expressions have no look-around and no back-references."""
    patterns = [value for path, value in walk(SCHEMA) if path.endswith(".pattern")]
    assert patterns
    for pattern in patterns:
        re.compile(pattern)
        assert not re.search(r"\(\?[=!<]|\\[1-9]", pattern), pattern
        assert pattern.startswith("^"), f"{pattern} matches anywhere"


def test_objects_of_the_schema_are_closed():
    """Every object with properties refuses others: a typo never passes in silence."""
    objects = {path: value for path, value in walk(SCHEMA) if isinstance(value, dict) and value.get("type") == "object"}
    closed = [value for value in objects.values() if "properties" in value]
    assert len(closed) > 20
    open_ones = [path for path, value in objects.items() if value.get("additionalProperties", True) is True]
    verbatim = (".pod", ".container", ".mount")  # Kubernetes' own fields, judged by the API server
    judged = [path for path in open_ones if "extraObjects" not in path and not path.endswith(verbatim)]
    assert [path for path in judged if "properties" in objects[path]] == []


def test_no_null_type():
    assert [path for path, value in walk(SCHEMA) if path.endswith(".type") and "null" in value] == []


def test_a_typo_beside_every_documented_key_is_refused():
    """Not one map of the values API takes a key it does not know."""
    defaults = load_yaml(CHART / "values.yaml")["modelDefaults"]
    own = {"nodeSelector", "absentNodeLabels", "tolerations", "volumes", "writable", "env", "podLabels",
           "podAnnotations", "annotations", "labels", "pod", "container"}  # fmt: skip

    def maps(value, path=()):
        yield path
        for key, item in value.items():
            if isinstance(item, dict) and key not in own:
                yield from maps(item, (*path, key))

    for path in maps(defaults):
        values: dict = {"zzz": "typo"}
        for key in reversed(path):
            values = {key: values}
        assert "zzz" in render_error({"modelDefaults": values}), path
    assert "zzz" in render_error({"models": {"m": {**minimal_model("vllm", "nvidia-l4"), "zzz": 1}}})
