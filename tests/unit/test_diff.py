"""What `gpu-inference diff` says of changes made to a repository."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_inference.cli import main
from gpu_inference.diff.classify import changes
from gpu_inference.diff.cost import PRICES, read_prices
from gpu_inference.diff.model import EFFECTS
from gpu_inference.diff.render import Rendered
from gpu_inference.paths import CHART

VALUES = """\
models:
  a:
    runtime: vllm
    model: {source: "hf://org/name"}
    accelerator: {type: nvidia-l4}
    replicas: 3
    startup: {loadSeconds: 120}
  b:
    runtime: vllm
    model: {source: "hf://org/name"}
    accelerator: {type: nvidia-l4}
    workload: StatefulSet
    rollout: {spareGPU: false}
    claims: {cache: {mountPath: /cache, size: 100Gi, accessModes: [ReadWriteOnce]}}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(CHART, root / "chart")
    (root / "values").mkdir()
    (root / "values" / "prod.yaml").write_text(VALUES)
    me = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["add", "-A"], [*me, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", root, *words], check=True)
    return root


@pytest.fixture
def diff(repository, monkeypatch, capsys):
    """Changes the values, compares with the commit, and puts them back."""
    monkeypatch.chdir(repository)

    def diff(old: str, new: str, *words: str) -> tuple[int, Any]:
        assert old in VALUES
        (repository / "values" / "prod.yaml").write_text(VALUES.replace(old, new))
        code = main(["diff", "--base", "HEAD", *(words or ("-o", "json"))])
        out = capsys.readouterr().out
        return code, out if words else json.loads(out)

    yield diff
    (repository / "values" / "prod.yaml").write_text(VALUES)


def effects(found: Any) -> dict[str, str]:
    (comparison,) = found
    return {change["object"]: change["effect"] for change in comparison["changes"]}


def test_nothing_changes(diff):
    code, (found,) = diff("models:", "models:")
    assert (code, found["changes"], found["before"]) == (0, [], found["after"])


def test_new_arguments_replace_pods(diff):
    code, (found,) = diff("replicas: 3", "replicas: 3\n    extraArgs: [--foo]")
    (change,) = found["changes"]
    assert (change["object"], change["effect"], change["pods"]) == ("Deployment/release-a", "restarts", 3)
    # 3 pods of one GPU that load for two minutes each.
    assert change["gpuMinutes"] == 6.0
    assert [field["path"] for field in change["fields"]] == ["spec.template.spec.containers.server.args"]
    assert code == 0


def test_more_replicas_cost_more(diff):
    _, (found,) = diff("replicas: 3", "replicas: 5")
    assert effects([found]) == {"Deployment/release-a": "scales"}
    gpus = [fleet["gpus"][0]["least"] for fleet in (found["before"], found["after"])]
    assert gpus == [4, 6]
    month = 0.8048 * 730
    costs = [fleet["costPerMonth"]["least"] for fleet in (found["before"], found["after"])]
    assert costs == pytest.approx([4 * month, 6 * month])


def test_a_claim_of_a_set_cannot_grow(diff):
    code, found = diff("100Gi", "200Gi")
    assert effects(found)["StatefulSet/release-b"] == "fails"
    assert code == 1
    assert diff("100Gi", "200Gi", "--fail-on", "invalid")[0] == 0


def test_an_autoscaler(diff):
    """It takes replicas away from the Deployment and brings an object of its own."""
    _, found = diff("replicas: 3", "autoscaling: {enabled: true, minReplicas: 2}")
    assert effects(found) == {"Deployment/release-a": "scales", "HorizontalPodAutoscaler/release-a": "adds"}


def test_a_model_that_goes(diff):
    _, found = diff(VALUES[VALUES.index("  b:") :], "")
    assert set(effects(found).values()) == {"removes"}
    assert "StatefulSet/release-b" in effects(found)


def test_values_that_do_not_render(diff):
    code, found = diff("replicas: 3", "replica: 3")
    assert (code, set(effects(found).values())) == (1, {"invalid"})
    assert "replica" in found[0]["changes"][0]["detail"]


def test_text_and_markdown_say_the_same(diff):
    for form in ("text", "markdown"):
        _, out = diff("replicas: 3", "replicas: 5", "-o", form)
        assert "Deployment/release-a" in out
        assert "4 nvidia-l4 -> 6 nvidia-l4" in out
        assert "2,350 -> 3,525 (+1,175) USD a month" in out
    _, out = diff("nvidia-l4}\n    replicas", "nvidia-gh200}\n    replicas", "-o", "text")
    assert "no price of nvidia-gh200 (onDemand)" in out


def test_wrong_usage(repository, diff, tmp_path, monkeypatch, capsys):
    for words in (["--base", "nope"], ["--base", "HEAD", "/etc/hosts"], ["--base", "HEAD", "none"]):
        assert main(["diff", *words]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    monkeypatch.chdir(tmp_path)
    assert main(["diff", "--base", "HEAD"]) == 2
    assert "in no git repository" in capsys.readouterr().err


def rendered(**spec: Any) -> Rendered:
    kind = spec.pop("kind")
    item = {"kind": kind.split(".")[0], "metadata": {"name": "x", **spec.pop("metadata", {})}, **spec}
    return Rendered({(kind, "", "x"): item})


CLAIM = {"kind": "PersistentVolumeClaim", "spec": {"resources": {"requests": {"storage": "100Gi"}}}}
JOB = {"kind": "Job.batch", "spec": {"template": {"spec": {"x": 1}}}}
KEEP = {"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}}


@pytest.mark.parametrize(
    ("old", "new", "effect"),
    [
        (CLAIM, {**CLAIM, "spec": {"resources": {"requests": {"storage": "1Ti"}}}}, "updates"),
        (CLAIM, {**CLAIM, "spec": {"resources": {"requests": {"storage": "102399Mi"}}}}, "fails"),
        (CLAIM, None, "deletes-data"),
        ({**CLAIM, **KEEP}, None, "removes"),
        (JOB, {**JOB, "spec": {"template": {"spec": {"x": 2}}}}, "fails"),
        (JOB, {**JOB, "metadata": {"labels": {"a": "b"}}}, "cosmetic"),
        (
            {"kind": "DaemonSet.apps", "spec": {"template": 1}},
            {"kind": "DaemonSet.apps", "spec": {"template": 2}},
            "restarts",
        ),
        ({"kind": "Service", "spec": {"clusterIP": "None"}}, {"kind": "Service", "spec": {}}, "fails"),
        ({"kind": "ConfigMap", "data": {"a": "b"}}, {"kind": "ConfigMap", "data": {}}, "updates"),
    ],
)
def test_effects(old, new, effect):
    (change,) = changes(rendered(**old), rendered(**new) if new else Rendered())
    assert change.effect == effect
    assert effect in EFFECTS


def test_a_new_variable_moves_no_other():
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    old, new = (rendered(kind="Deployment.apps", spec={"template": {"env": e}}) for e in (env, [{"name": "0"}, *env]))
    (change,) = changes(old, new)
    assert [difference.path for difference in change.differences] == ["spec.template.env.0"]


@pytest.mark.parametrize("text", ["", "[", "gpuHours: {a: {onDemand: x}}\ndate: d\ncurrency: c", "gpuHours: 1"])
def test_what_is_no_list_of_prices(diff, tmp_path, text, capsys):
    (tmp_path / "p.yaml").write_text(text)
    assert main(["diff", "--base", "HEAD", "--prices", str(tmp_path / "p.yaml")]) == 2
    assert "no list of prices" in capsys.readouterr().err


def test_every_price_is_of_an_accelerator():
    known = {path.stem for path in Path(CHART, "accelerators").glob("*.yaml")}
    assert {name for name, _ in read_prices(PRICES).hours} <= known
