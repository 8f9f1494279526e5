"""Manifests that install the chart are judged by the values they give it, and findings point into them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.cli import main
from gpu_inference.helm import find_helm
from gpu_inference.inputs import subjects
from gpu_inference.values.merge import merge_layers
from gpu_inference.values.parameters import Parameter, ParameterError, steps, with_parameters
from gpu_inference.values.tree import Position, Tree

BASE = """\
models:
  a:
    runtime: vllm
    model: {source: "hf://org/name"}
    accelerator: {type: nvidia-l4}
"""
APPLICATION = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: llm}
spec:
  source:
    repoURL: https://git.example.com/llm.git
    path: chart
    helm:
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout with the chart and values/base.yaml; a function writes more files and returns what was found."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)

    def write(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_yaml", ".yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    write(chart__Chart_yaml="name: gpu-inference\n", values__base_yaml=BASE)
    return write


@pytest.fixture
def found(capsys):
    def found(*words: str) -> list[dict[str, Any]]:
        main(["validate", "-o", "json", *words])
        return json.loads(capsys.readouterr().out)["findings"]

    return found


def where(findings: list[dict[str, Any]]) -> list[tuple[str, int, int, str]]:
    return [(f["file"], f["line"], f["column"], f["rule"]) for f in findings]


def test_values_in_a_block_keep_their_lines(repository, found):
    block = "        # mine\n\n        models:\n          a: {replica: 2}\n"
    helm = f"      valueFiles: [../values/base.yaml]\n      values: |\n{block}"
    repository(app_yaml=APPLICATION + helm + "  destination: {namespace: llm}\n")
    assert where(found("app.yaml")) == [("app.yaml", 18, 15, "schema-unknown-key")]


@pytest.mark.parametrize(
    "helm",
    [
        "      valuesObject: {models: {a: {replica: 2}}}\n",
        '      values: "models: {a: {replica: 2}}"\n',
        "      parameters: [{name: models.a.replica, value: '2'}]\n",
    ],
)
def test_inline_values(repository, found, helm):
    repository(app_yaml=APPLICATION + "      valueFiles: [../values/base.yaml]\n" + helm)
    (finding,) = found("app.yaml")
    assert (finding["file"], finding["line"], finding["rule"]) == ("app.yaml", 14, "schema-unknown-key")
    assert finding["path"] == "$.models.a.replica"


def test_what_wins(repository):
    """Parameters over valuesObject, which stands for `values`, over the files in their order."""
    helm = """\
      valueFiles: [../values/base.yaml, ../values/own.yaml]
      values: "models: {a: {startup: {loadSeconds: 3}}}"
      valuesObject: {models: {a: {replicas: 3, service: {port: 83}}}}
      parameters: [{name: models.a.service.port, value: "84"}]
"""
    own = "models: {a: {replicas: 2, service: {port: 82}, startup: {loadSeconds: 2}}}\n"
    repository(app_yaml=APPLICATION + helm, values__own_yaml=own)
    (subject,) = subjects([Path("app.yaml")])
    values = with_parameters(merge_layers([layer.tree for layer in subject.layers]), subject.parameters).plain()
    model = values["models"]["a"]
    assert (model["replicas"], model["service"]["port"], model["startup"]["loadSeconds"]) == (3, 84, 2)


def test_a_values_file_that_is_missing(repository, found):
    repository(app_yaml=APPLICATION + "      valueFiles:\n        - ../values/none.yaml\n")
    assert where(found("app.yaml")) == [("app.yaml", 14, 11, "yaml-values-file")]
    more = "      valueFiles: [../values/base.yaml, no.yaml]\n      ignoreMissingValueFiles: true\n"
    repository(app_yaml=APPLICATION + more)
    assert found("app.yaml") == []


def test_files_of_another_source(repository, found):
    text = """\
apiVersion: argoproj.io/v1alpha1
kind: Application
spec:
  sources:
    - {chart: gpu-inference, helm: {valueFiles: [$own/values/base.yaml, $own/values/bad.yaml]}}
    - {ref: own}
    - {chart: another, helm: {values: "cloud: mars"}}
"""
    repository(app_yaml=text, values__bad_yaml="cloud: mars\n")
    assert where(found("app.yaml")) == [("values/bad.yaml", 1, 8, "unknown-cloud")]
    repository(app_yaml=text.replace("ref: own", "ref: other"))
    assert {rule for *_, rule in where(found("app.yaml"))} == {"yaml-values-file"}


GIT = """\
apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
spec:
  goTemplate: true
  generators:
    - git: {files: [{path: values/*.yaml}, {path: values/skip.yaml, exclude: true}]}
  template:
    metadata: {name: 'llm-{{ .path.filename | trimSuffix ".yaml" }}'}
    spec:
      source: {path: chart, helm: {valueFiles: ["../values/{{ .path.filename }}"]}}
"""


def test_an_application_set_over_files(repository, found, capsys):
    repository(set_yaml=GIT, values__bad_yaml=BASE + "    replica: 1\n", values__skip_yaml="cloud: mars\n")
    assert where(found("set.yaml")) == [("values/bad.yaml", 6, 5, "schema-unknown-key")]
    main(["validate", "-v", "set.yaml"])
    assert "checked set.yaml (llm-base)" in capsys.readouterr().out


def test_an_application_set_over_a_list(repository, found):
    generator = "- list: {elements: [{env: base}, {env: bad}]}"
    text = GIT.replace(GIT.splitlines()[5].strip(), generator).replace("{{ .path.filename }}", "{{.env}}.yaml")
    text = text.replace('{{ .path.filename | trimSuffix ".yaml" }}', "{{ .env }}")
    repository(set_yaml=text, values__bad_yaml="cloud: x\n")
    assert where(found("set.yaml")) == [("values/bad.yaml", 1, 8, "unknown-cloud")]


@pytest.mark.parametrize(
    ("old", "new"), [("git: ", "clusters: "), ("{{ .path.filename }}", "{{ .nope }}"), ("trimSuffix", "sprig")]
)
def test_what_an_application_set_does_not_tell(repository, found, old, new):
    repository(set_yaml=GIT.replace(old, new))
    assert {rule for *_, rule in where(found("set.yaml"))} == {"yaml-not-expanded"}


def test_flux(repository, found):
    text = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data:
  values.yaml: |
    models:
      a: {replicas: many}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
spec:
  chart: {spec: {chart: ./chart, valuesFiles: [values/base.yaml]}}
  valuesFrom: [{kind: ConfigMap, name: shared}]
  values: {cloud: mars}
"""
    repository(release_yaml=text)
    places = [("release.yaml", 7, 21, "schema-type"), ("release.yaml", 14, 19, "unknown-cloud")]
    assert where(found("release.yaml")) == places
    repository(release_yaml=text.replace("ConfigMap, name: shared", "Secret, name: shared"))
    assert ("release.yaml", 13, 16, "yaml-not-expanded") in where(found("release.yaml"))


def test_helmfile(repository, found):
    text = """\
releases:
  - {name: other, chart: bitnami/nginx, values: [{cloud: mars}]}
  - name: llm
    chart: ./chart
    values:
      - values/base.yaml
      - models: {a: {capacity: Spot}}
    set: [{name: "models.a.replicas", value: x}]
"""
    repository(helmfile_yaml=text)
    assert where(found("helmfile.yaml")) == [
        ("helmfile.yaml", 7, 32, "schema-enum"),
        ("helmfile.yaml", 8, 46, "schema-type"),
    ]


def test_a_folder_is_read_for_what_is_ours(repository, found, capsys):
    others = {"values__note_yaml": "hello: world\n", "values__list_yaml": "- 1\n", "values__t_yaml": "a: {{ .b }}\n"}
    repository(**others, values__deep__bad_yaml="cloud: mars\n")
    assert where(found("values")) == [("values/deep/bad.yaml", 1, 8, "unknown-cloud")]
    repository(empty__x_txt="")
    assert main(["validate", "empty"]) == 2
    assert "no YAML files" in capsys.readouterr().err


def test_a_folder_has_files_of_others_with_keys_like_ours(repository, found):
    repository(
        values__ours_yaml="cloud: mars\n",
        values__kustomization_yaml="resources: [a.yaml]\nimages: [{name: a, newTag: b}]\n",
        values__bitnami_yaml="global: {}\nimagePullSecrets: a\nreplicaCount: 1\nimage: {}\n",
        values__dbt_yaml="version: 2\nmodels: [{name: a}]\n",
        values__preset_yaml="description: a server\nimages: {}\napi: openai\n",
    )
    assert where(found("values")) == [("values/ours.yaml", 1, 8, "unknown-cloud")]


def test_values_that_go_over_others(repository, found):
    overlay = "# gpu-inference: over ../values/base.yaml\n# of mine\nmodels: {a: {replicas: two}}\n"
    repository(own__over_yaml=overlay, own__top_yaml="# gpu-inference: over over.yaml\nmodels: {a: {replicas: 2}}\n")
    assert where(found("own/over.yaml")) == [("own/over.yaml", 3, 24, "schema-type")]
    assert found("own/top.yaml") == []
    repository(own__over_yaml="# gpu-inference: over none.yaml\n", own__top_yaml="# gpu-inference: over top.yaml\n")
    for name in ("over", "top"):
        assert where(found(f"own/{name}.yaml")) == [(f"own/{name}.yaml", 1, 23, "yaml-values-file")]


@pytest.mark.parametrize(
    ("name", "path"),
    [("a", ["a"]), ("a.b-c", ["a", "b-c"]), ("a[0][1].b", ["a", 0, 1, "b"]), (r"a.b\.c/d", ["a", "b.c/d"])],
)
def test_names_of_parameters(name, path):
    assert steps(name) == path


@pytest.mark.parametrize("name", ["", ".", "a.", "a..b", "a[x]", "[0]", "a[0", "a[99999999]"])
def test_what_is_no_name(name):
    at = Position("f", 1, 2)
    with pytest.raises(ParameterError) as error:
        with_parameters(Tree({}, at), [Parameter(name, Tree("1", at))])
    assert error.value.at == at


TEXTS = ("1", "0", "01", "-7", "1.5", "true", "False", "null", "a b", "", "1e3", "9" * 20)


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_is_what_helm_makes_of_it(tmp_path, text):
    """What a template sees of `--set x=text` is what a parameter of that text becomes."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: t\nversion: 0.0.1\n")
    (tmp_path / "templates" / "t.yaml").write_text("a: {{ toJson .Values.x | quote }}")
    words = [find_helm(4), "template", "t", tmp_path, "--set", f"x={text}"]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    at = Position("", 1, 1)
    values = with_parameters(Tree({}, at), [Parameter("x", Tree(text, at))]).plain()
    assert values["x"] == json.loads(json.loads(out.split("a: ")[1]))
