"""Rules on rendered objects: what Kubernetes knows, and where in the values a place comes from."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
import yaml
from support import api_schemas
from support.matrix import SCENARIOS, scenario
from support.objects import Object, name, one, walk
from support.render import helm, render

from gpu_inference.cli import main
from gpu_inference.resolve import merged
from gpu_inference.schema.kubernetes import VERSIONS
from gpu_inference.validate.rendered.check import Renderer, broken
from gpu_inference.validate.rendered.fields import problems, versions
from gpu_inference.validate.rendered.objects import lookup
from gpu_inference.validate.rendered.origin import Origins
from gpu_inference.values.loader import parse
from gpu_inference.values.tree import format_path

MODEL = """\
models:
  a:
    runtime: vllm
    replicas: 2
    model: {source: "pvc://models/name"}
    accelerator: {type: nvidia-l4}
"""


def values(text: str) -> dict[str, Any]:
    found: dict[str, Any] = merged([parse(text.encode(), "values.yaml").tree]).plain()
    return found


def found(text: str, version: tuple[int, int] | None = None) -> dict[str, str]:
    """path -> message of what is wrong with the objects."""
    mistakes = broken(render(text), values(text), version)
    return {format_path(mistake.path): mistake.message for mistake in mistakes}


# Fields.


@pytest.mark.parametrize("file", SCENARIOS)
def test_what_the_chart_makes_is_known(file):
    for obj in scenario(file).objects:
        assert list(problems(obj)) == [], name(obj)


def test_versions_are_those_the_chart_is_tested_with():
    assert VERSIONS == api_schemas.VERSIONS
    assert [f"{major}.{minor}" for major, minor in versions()] == list(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_agrees_with_kubernetes_own_schemas(version):
    """Each change is put into good objects, one at a time: both find something, or neither does."""
    major, minor = map(int, version.split("."))
    rng = random.Random(version)
    prod = scenario("prod").objects
    kinds = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "ServiceAccount")
    objects = [copy.deepcopy(next(obj for obj in prod if obj["kind"] == kind)) for kind in kinds]
    verdicts = []
    for obj in objects:
        places = [path for path, value in _paths(obj) if path and path[-1] not in ("kind", "apiVersion", "metadata")]
        for path in rng.sample(places, min(25, len(places))):
            for junk in ("text", 7, True, ["text"], {"unknown": "text"}):
                changed = copy.deepcopy(obj)
                lookup(changed, path[:-1])[path[-1]] = junk
                ours, theirs = list(problems(changed, (major, minor))), api_schemas.problems(changed, version)
                # Theirs know neither words nor the form of quantities, nor that names must be there.
                if theirs or not any("is not one of" in p.message or "quantity" in p.message for p in ours):
                    verdicts.append((name(obj), path, junk, bool(ours), bool(theirs)))
    assert [verdict for verdict in verdicts if verdict[3] != verdict[4]] == []
    assert {verdict[3] for verdict in verdicts} == {True, False}


def _paths(value: Any, path: tuple = ()) -> list[tuple[tuple, Any]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(path, value), *(each for key, child in below for each in _paths(child, (*path, key)))]


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "x"},
    "spec": {"containers": [{"name": "c", "image": "i:1"}]},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hostNetwrok": True}, "Kubernetes knows no `hostNetwrok` in a PodSpec"),
        ({"dnsPolicy": "clusterFirst"}, '"clusterFirst" is not one of ClusterFirst'),
        ({"priority": "1"}, '"1" is not an integer'),
        ({"nodeSelector": {"a": 1}}, "1 is not a string"),
        ({"overhead": {"cpu": "1 core"}}, '"1 core" is no quantity'),
        ({"containers": [{"image": "i"}]}, "`name` is missing"),
        ({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]}, "a second entry of volumes"),
        ({"tolerations": {}}, "{} is not a list"),
        ({"containers": "c"}, '"c" is not a list'),
    ],
)
def test_problem_of_a_pod(change, message):
    (problem,) = problems({**POD, "spec": {**POD["spec"], **change}})
    assert problem.message.startswith(message)


def test_fields_of_a_version():
    pod = {**POD, "spec": {**POD["spec"], "hostnameOverride": "x"}}
    assert not list(problems(pod)) and not list(problems(pod, (1, 34)))
    (problem,) = problems(pod, (1, 33))
    assert problem.message == "`hostnameOverride` is unknown to Kubernetes 1.33: Kubernetes has it since 1.34"
    claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "x"}, "spec": {}}
    assert [p.path for p in problems(claim, (1, 33))] == [("apiVersion",)]
    assert not list(problems(claim, (1, 34)))


@pytest.mark.parametrize(
    ("api", "kind", "fix"),
    [
        ("autoscaling/v2beta2", "HorizontalPodAutoscaler", "write autoscaling/v2"),
        ("extensions/v1beta1", "Ingress", "write networking.k8s.io/v1"),
        ("apps/v1", "Deploymnet", "write Deployment"),
        ("v1", "Deployment", "write apps/v1"),
    ],
)
def test_kinds_that_are_gone(api, kind, fix):
    assert fix in [p.fix for p in problems({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}})]


def test_kinds_of_others_may_be_anything_but_for_their_pods():
    assert not list(
        problems({"apiVersion": "example.com/v1", "kind": "X", "metadata": {"name": "x"}, "spec": {"a": 1}})
    )
    group = copy.deepcopy(one(scenario("multi-node").objects, "LeaderWorkerSet"))
    group["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["hostNetwrok"] = True
    assert [p.path[-1] for p in problems(group)] == ["hostNetwrok"]


# Where it comes from.


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (MODEL + "    pod: {hostIPC: true}\n", "$.models.a.pod.hostIPC"),
        (MODEL + "modelDefaults: {pod: {hostIPC: true}}\n", "$.modelDefaults.pod.hostIPC"),
        (MODEL + "runtimes: {vllm: {defaults: {pod: {hostIPC: true}}}}\n", "$.runtimes.vllm.defaults.pod.hostIPC"),
        (
            MODEL + "accelerators: {nvidia-l4: {defaults: {pod: {hostIPC: true}}}}\n",
            "$.accelerators.nvidia-l4.defaults.pod.hostIPC",
        ),
        (
            MODEL + "    container: {securityContext: {privileged: true, allowPrivilegeEscalation: true}}\n",
            "$.models.a.container.securityContext.privileged",
        ),
        (
            MODEL + "    volumes: {host: {mount: {mountPath: /host}, source: {hostPath: {path: /}}}}\n",
            "$.models.a.volumes.host.source.hostPath",
        ),
    ],
)
def test_a_finding_is_where_it_was_written(text, path):
    assert path in found(text)


def test_what_is_written_nowhere_is_the_models():
    text = MODEL
    objects = [copy.deepcopy(obj) for obj in render(text)]
    one(objects, "Deployment", "a")["spec"]["template"]["spec"]["hostPID"] = True
    (mistake,) = broken(objects, values(text))
    assert mistake.path == ("models", "a")
    assert mistake.message.endswith("(Deployment, spec.template.spec.hostPID)")


def test_an_object_of_ones_own_is_known_by_its_content():
    own = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    assert Origins({"extraObjects": {"mine": own}}, {}).path(own, ("data", "a")) == (
        "extraObjects",
        "mine",
        "data",
        "a",
    )


# Together.


@pytest.mark.parametrize("file", SCENARIOS)
def test_values_break_no_rule(file):
    case = scenario(file)
    texts = [layer.read_bytes() for layer in case.layers]
    plain = merged([parse(text, "values.yaml").tree for text in texts]).plain()
    assert list(broken(case.objects, plain)) == []


def test_budgets_count_what_there_is_at_the_least():
    budget = """\
extraObjects:
  budget:
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {{name: budget}}
    spec: {{minAvailable: {}, selector: {{matchExpressions: [{{key: gpu-inference.io/model, operator: Exists}}]}}}}
"""
    off = MODEL + "    pdb: {enabled: false}\n"
    assert found(off + budget.format(1)) == {}
    assert "there may be 2" in found(off + budget.format(2))["$.extraObjects.budget.spec.minAvailable"]
    assert "cannot be evicted" in found(MODEL + budget.format(1))["$.extraObjects.budget.spec.selector"]


def test_the_objects_findings_and_helms_refusal(tmp_path, capsys):
    file = tmp_path / "values.yaml"
    file.write_text(MODEL + "    pod: {hostIPC: true}\n")
    assert main(["validate", "--render", str(file), "-o", "json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["rule"], finding["line"]) == ("pod-security", 7)
    refused = Renderer(helm()).mistakes({"models": {"a": {"runtime": "nope"}}}, values(MODEL))
    assert {(mistake.rule, mistake.path) for mistake in refused} == {("render", ("models", "a"))}
    nothing = Renderer(helm()).mistakes({"models": 1}, values(MODEL))
    assert [(mistake.rule, mistake.path) for mistake in nothing] == [("render", ())]


JUNK = (None, True, 0, 1.5, "", "x", [], {}, [None], [1], ["a"], {"a": 1}, [{"name": "x"}], [{}], {"metadata": {}})


def test_no_object_makes_it_crash():
    text = MODEL + yaml.safe_dump({"extraObjects": {"pod": POD}})
    given = values(text)
    objects = [
        *render(text),
        *(o for file in ("operators", "multi-node", "monitoring") for o in scenario(file).objects),
    ]
    places = [(n, path) for n, obj in enumerate(objects) for path, _ in _paths(obj) if path and len(path) > 1]
    rng = random.Random(7)
    for number, path in rng.sample(places, 300):
        changed = [obj if n != number else copy.deepcopy(obj) for n, obj in enumerate(objects)]
        lookup(changed[number], path[:-1])[path[-1]] = rng.choice(JUNK)
        for mistake in broken(changed, given):
            assert mistake.message and mistake.fix


def test_pods_are_found_as_deep_as_they_are():
    def specs(obj: Object) -> int:
        return sum(path.endswith(".containers") for path, _ in walk(obj))

    from gpu_inference.validate.rendered.objects import pods

    for file in SCENARIOS:
        for obj in scenario(file).objects:
            assert len(list(pods([obj]))) == specs(obj), name(obj)
