"""What holds for every object of every values set."""

from __future__ import annotations

import collections
import re
import shutil

import pytest
import yaml
from support.matrix import CLOUDS, RUNTIMES, matrix
from support.objects import MODEL_LABEL, SERVING, model_of, name, of_kind, pod_templates
from support.render import NAMESPACE, RELEASE, helm, render, scratch_dir
from support.views import models

from gpu_inference.paths import CHART

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
SELECTOR = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", MODEL_LABEL)


def test_every_model_is_served(case, models):
    for kinds in (SERVING, ("Service",)):
        assert {model_of(o) for o in of_kind(case.objects, *kinds)} == {m.name for m in models}


def test_names(case):
    for obj in case.own:
        assert DNS_LABEL.fullmatch(obj["metadata"]["name"]), name(obj)
        assert obj["metadata"]["name"].startswith(RELEASE), name(obj)


def test_no_object_twice(case):
    counts = collections.Counter(map(name, case.objects))
    assert [n for n, times in counts.items() if times > 1] == []


def test_namespace_is_the_releases(case):
    """`helm template | kubectl apply` must not depend on the current namespace."""
    namespaced = [o for o in case.own if o["kind"] != "PriorityClass"]
    assert {name(o): o["metadata"].get("namespace") for o in namespaced} == {name(o): NAMESPACE for o in namespaced}


def test_labels(case):
    for obj in case.own:
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "gpu-inference", name(obj)
        assert labels["app.kubernetes.io/instance"] == RELEASE, name(obj)
        assert labels["app.kubernetes.io/managed-by"] == "Helm", name(obj)
    for obj in [*case.objects, *(pod for _, pod in pod_templates(case.objects))]:
        for key, value in obj["metadata"].get("labels", {}).items():
            assert LABEL_VALUE.fullmatch(value), f"{key}: {value}"


def test_selectors_are_literals_and_match_the_pods(models):
    for model in models:
        literal = dict(zip(SELECTOR, ("gpu-inference", RELEASE, "server", model.name), strict=True))
        if model.kind != "LeaderWorkerSet":  # whose controller makes its own
            assert model.workload["spec"]["selector"] == {"matchLabels": literal}
        assert literal.items() <= model.pod["metadata"]["labels"].items()
        assert model.service["spec"]["selector"] == literal
        if model.pdb and model.kind == "LeaderWorkerSet":
            expressions = [{"key": SELECTOR[2], "operator": "In", "values": ["server", "worker"]}]
            labels = {key: value for key, value in literal.items() if key != SELECTOR[2]}
            assert model.pdb["spec"]["selector"] == {"matchLabels": labels, "matchExpressions": expressions}
        elif model.pdb:
            assert model.pdb["spec"]["selector"] == {"matchLabels": literal}


def test_references_resolve(case):
    """What a pod names is rendered by the chart, or named in the values by the user."""
    by_kind = collections.defaultdict(set)
    for obj in case.objects:
        by_kind[obj["kind"]].add(obj["metadata"]["name"])
    for where, pod in pod_templates(case.objects):
        for volume in pod["spec"].get("volumes", []):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in by_kind["ConfigMap"], where
    for hpa in of_kind(case.objects, "HorizontalPodAutoscaler"):
        target = hpa["spec"]["scaleTargetRef"]
        api = {"LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1"}
        assert target["apiVersion"] == api.get(target["kind"], "apps/v1")
        assert target["name"] in by_kind[target["kind"]], name(hpa)


def test_helm_3_and_helm_4_agree(case):
    assert render(layers=case.layers, major=3) == render(layers=case.layers, major=4)


def test_rendering_is_deterministic(case):
    """Argo CD renders again and again."""
    again = helm(4).template(RELEASE, CHART, layers=case.layers, namespace=NAMESPACE)
    assert again == case.objects


@pytest.fixture(scope="module")
def bumped_chart():
    """The chart as its next version."""
    chart = scratch_dir("bumped") / "chart"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    meta = yaml.safe_load((chart / "Chart.yaml").read_text())
    meta.update(version="999.9.9", appVersion="999.9.9", description="another")
    (chart / "Chart.yaml").write_text(yaml.safe_dump(meta))
    return chart


def test_a_new_chart_version_restarts_no_pod(case, bumped_chart):
    """A restart of a GPU pod costs minutes: nothing in a pod template may come from the chart's version."""
    bumped = render(layers=case.layers, chart=bumped_chart)
    assert "999.9.9" in str(bumped), "the bump shows nowhere: this test would prove nothing"
    deployments = [o for o in case.objects if o["kind"] in SERVING]
    after = {name(o): o["spec"] for o in bumped if o["kind"] in SERVING}
    assert {name(o): o["spec"] for o in deployments} == after


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_models_do_not_depend_on_each_other(cloud, runtime):
    """A model rendered alone is the same as among all others: no value of one leaks to another."""
    case = matrix(cloud)
    names = [m.name for m in models(case) if m.spec["runtime"] == runtime][:2]
    values = yaml.safe_load(case.layers[0].read_text())
    for chosen in names:
        alone = render({"cloud": cloud, "models": {chosen: values["models"][chosen]}})
        among = [o for o in case.objects if model_of(o) in (chosen, None)]
        assert alone == among
