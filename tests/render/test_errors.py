"""Bad values fail before anything is rendered: what is wrong, where, and the fix, every problem at once."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest
from support.matrix import ACCELERATORS, CLOUDS, RUNTIMES, minimal_model, offered
from support.problems import PROBLEMS, VLLM, m, model, without
from support.render import helm, load_yaml, render, render_error, scratch_dir

from gpu_inference.errors import UserError
from gpu_inference.paths import CHART, VALUES

CHECKS = sorted((CHART / "templates/_lib").glob("check*.tpl"))


def problem_lines(text: str) -> list[str]:
    """The lines about problems: a path, what is wrong, the fix."""
    return [line for line in text.splitlines() if ". Fix: " in line]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problem_names_path_and_fix(problem, major):
    values, what, fix = PROBLEMS[problem]
    text = render_error(values, major=major)
    (line,) = [line for line in problem_lines(text) if what in line]
    assert fix in line.split(". Fix: ")[1]
    assert problem_lines(text) == [line], "one problem, one line"


def test_unknown_names_come_with_the_known_ones(major):
    for values, known in [
        (m(runtime="x"), RUNTIMES),
        (m(accelerator={"type": "x"}), ACCELERATORS),
        ({**m(), "cloud": "x"}, CLOUDS),
    ]:
        (line,) = problem_lines(render_error(values, major=major))
        assert f"use one of {', '.join(known)}, or" in line


def test_own_presets_are_among_the_known_ones():
    text = render_error({**m(runtime="x"), "runtimes": {"own": VLLM}})
    assert "own, " in text


def test_all_problems_at_once(major):
    """Of several models, and of one: no second run to learn of the next."""
    values = {
        "models": {
            "a": model(service={"port": 8001}, runtime="triton", extraArgs=["--http-port=1"]),
            "b": model(capacity="spot", env={"CUDA_VISIBLE_DEVICES": "0"}),
        }
    }
    lines = problem_lines(render_error(values, major=major))
    assert {line.split(": ")[0] for line in lines} == {
        "models.a.service.port",
        "models.a.extraArgs[0]",
        "models.b.capacity",
        "models.b.env.CUDA_VISIBLE_DEVICES",
    }


def test_all_unknown_names_at_once(major):
    values = {"cloud": "x", "models": {"a": model(runtime="y"), "b": model(accelerator={"type": "z"})}}
    lines = problem_lines(render_error(values, major=major))
    assert {line.split(": ")[0] for line in lines} == {"cloud", "models.a.runtime", "models.b.accelerator.type"}


def test_the_check_renders_first(major):
    """A template that stumbles over bad values would hide the message: here every other one stumbles."""
    chart = scratch_dir(f"stumbling-{major}") / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    for path in (chart / "templates").rglob("*.yaml"):
        if "check" not in path.parts:
            path.write_text('{{ fail "a template came before the check" }}\n')
    assert "before the check" in render_error(m(), chart=chart, major=major)
    text = render_error(m(capacity="spot"), chart=chart, major=major)
    assert "before the check" not in text and problem_lines(text)


def test_every_problem_the_chart_knows_is_provoked_here():
    """Each `Fix:` in the check templates appears in the output of some case above."""
    said = "\n".join(render_error(values) for values, _, _ in PROBLEMS.values())
    said += render_error(m(), release="my.llm")
    with pytest.raises(UserError) as refused:  # a claim, by an API server that does not serve it
        helm().template("llm", CHART, [VALUES / "dra.yaml"], kube_version="1.33.0")
    said += refused.value.message
    fixes = {
        (path.name, re.split(r"\{\{", line.split("Fix: ")[1])[0].strip())
        for path in CHECKS
        for line in path.read_text().splitlines()
        if ". Fix: " in line and not line.lstrip().startswith(("gpu-inference.check", "{{/*"))
    }
    assert fixes
    assert [f"{file}: {fix}" for file, fix in sorted(fixes) if f"Fix: {fix}" not in said] == []


# The schema: types, ranges, typos.


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"modls": {}}, "modls"),
        (m(replcas=2), "replcas"),
        (m(model={"contextLenght": 1}), "contextLenght"),
        (m(probes={"liveness": {"timeoutSecond": 1}}), "timeoutSecond"),
        (m(replicas="many"), "/models/m/replicas"),
        (m(accelerator={"count": 0}), "/models/m/accelerator/count"),
        (m(capacity="preemptible"), "/models/m/capacity"),
        (m(service={"port": 70000}), "/models/m/service/port"),
        (m(env={"1BAD": "x"}), "1BAD"),
        (m(env={"A": 1}), "/models/m/env/A"),
        (m(pdb={"maxUnavailable": 0}), "/models/m/pdb/maxUnavailable"),
        ({"models": {"Bad_Name": model()}}, "Bad_Name"),
        ({"models": [model()]}, "/models"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_schema_refuses(values, named, major):
    assert named in render_error(values, major=major)


# Presets.


def broken_chart(name: str, text: str) -> Any:
    chart = scratch_dir(f"broken-{name}") / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    (chart / "runtimes/vllm.yaml").write_text(text)
    return chart


def test_a_preset_that_is_no_yaml_is_named(major):
    """`fromYaml` never fails: it returns a map with the key Error."""
    text = render_error(m(), chart=broken_chart("yaml", "a: [\n"), major=major)
    assert "runtimes/vllm.yaml is not valid YAML" in text


def test_an_empty_preset_is_an_unknown_one(major):
    """.Files.Get of a missing file is "", as of an empty one."""
    text = render_error(m(), chart=broken_chart("empty", ""), major=major)
    assert 'models.m.runtime: "vllm" is not a known runtime' in text


@pytest.mark.parametrize(
    ("kind", "stem", "keys"),
    [
        *(("runtimes", "vllm", keys) for keys in
          [("modelSources",), ("command",), ("args",), ("ports", "http"), ("probes", "readiness"), ("metrics", "port"),
           ("lifecycle",)]),
        *(("accelerators", "nvidia-l4", (key,)) for key in ("resource", "nodeLabels")),
        *(("clouds", "generic", (key,)) for key in ("productLabels", "nodeSelector", "tolerations")),
    ],
    ids=lambda v: ".".join(v) if isinstance(v, tuple) else v,
)  # fmt: skip
def test_an_incomplete_preset_of_ones_own_is_named(kind, stem, keys):
    """Words instead of a nil pointer in some template."""
    chosen = {"runtimes": {"runtime": "own"}, "accelerators": {"accelerator": {"type": "own"}}, "clouds": {}}[kind]
    values = {kind: {"own": without(load_yaml(CHART / kind / f"{stem}.yaml"), *keys)}, **m(**chosen)}
    if kind == "clouds":
        values["cloud"] = "own"
    text = render_error(values)
    assert f"{kind}.own: lacks {'.'.join(keys)}" in text
    assert f"Fix: set it as chart/{kind}/*.yaml do" in text


@pytest.mark.parametrize("cloud", CLOUDS)
def test_accelerators_a_cloud_does_not_offer_are_refused_or_selected(cloud):
    """Never a pod that would land on any GPU."""
    preset = load_yaml(CHART / "clouds" / f"{cloud}.yaml")
    for accelerator in ACCELERATORS:
        if not offered(preset, load_yaml(CHART / "accelerators" / f"{accelerator}.yaml")):
            values = {"cloud": cloud, "models": {"m": minimal_model("vllm", accelerator)}}
            assert f"marks nodes with {accelerator}" in render_error(values)
            values["models"]["m"]["nodeSelector"] = {"node.kubernetes.io/instance-type": "own"}
            assert render(values)


# Names.


@pytest.mark.parametrize("release", ["1", "1e3", "off", "true", "0x1"])
def test_a_release_whose_name_looks_like_something_else(release, major):
    """Helm allows it: either its labels are text, or the chart says what to do."""
    try:
        objects = render(m(), release=release, major=major)
    except UserError as error:
        assert "fullnameOverride" in error.message
        objects = render({"fullnameOverride": "llm", **m()}, release=release, major=major)
    for obj in objects:
        assert obj["metadata"]["labels"]["app.kubernetes.io/instance"] == release
        if obj["kind"] == "Service":
            assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", obj["metadata"]["name"])
            assert obj["spec"]["selector"]["app.kubernetes.io/instance"] == release


def test_a_release_with_a_dot_in_its_name(major):
    """Helm allows it, Services do not."""
    assert "fullnameOverride" in render_error(m(), release="my.llm", major=major)
    assert render({"fullnameOverride": "llm", **m()}, release="my.llm", major=major)
