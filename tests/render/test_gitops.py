"""The manifests for Argo CD and Flux: they deploy what is there, and leave the autoscalers what is theirs, no more."""

from __future__ import annotations

import functools
import re
import subprocess
import sys

import pytest
import yaml
from support.gitops import ARGOCD, FLUX, Deployed, deployed, from_applicationset, manifest
from support.invariants import CLUSTER_WIDE, breaches
from support.matrix import SCENARIOS, scenario
from support.objects import is_hook, name, of_kind
from support.render import MAJORS, NAMESPACE, RELEASE, helm
from support.switches import combined

from gpu_inference.paths import CHART, ROOT, VALUES


@functools.cache
def environments() -> dict[str, Deployed]:
    return {str(each): each for each in deployed()}


SETS = [*SCENARIOS, "combined"]
ENVIRONMENTS = (
    "inference/llm-prod",
    "inference-dev/llm-dev",
    "inference-staging/llm-staging",
    "inference-prod/llm-prod",
    "inference/flux-llm",
)


@pytest.fixture(name="each", params=ENVIRONMENTS)
def _each(request) -> Deployed:
    return environments()[request.param]


def seconds(text: str) -> int:
    factors = {"s": 1, "m": 60, "h": 3600}
    return sum(int(number) * factors[unit] for number, unit in re.findall(r"(\d+)([smh])", text))


def test_all_environments_are_there():
    assert tuple(environments()) == ENVIRONMENTS


def test_charts_and_values_files_exist(each):
    assert each.chart == CHART
    assert each.layers and all(layer.is_file() for layer in each.layers)


def test_what_is_deployed_is_what_helm_renders(each, major):
    """Under the release's name and namespace, and equal each time."""
    objects = each.render(major)
    assert objects == each.render(major)
    assert {o["metadata"]["namespace"] for o in objects} == {each.namespace}
    assert all(o["metadata"]["name"].startswith(each.release) for o in objects)
    assert breaches(objects) == {}


def test_validate_judges_every_environment():
    """The tool's own reading of the manifests: as many sets of values, and nothing wrong with one."""
    command = [sys.executable, "-m", "gpu_inference.cli", "validate", str(ARGOCD), str(FLUX)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, f"ok: {len(ENVIRONMENTS)} values sets"), done.stdout


def test_differences_are_ignored_exactly_where_an_autoscaler_owns_the_replicas(each):
    objects = each.render()
    groups = {name(o): o["apiVersion"].rpartition("/")[0] for o in objects}
    owned = set()
    for scaler in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        to = scaler["spec"]["scaleTargetRef"]
        kind = to.get("kind", "Deployment")
        owned.add((groups[f"{kind}/{to['name']}"], kind, to["name"]))
    assert each.ignored == owned


def test_the_flags_that_make_ignoring_work():
    """Differences that are only hidden are overwritten by the next sync."""
    for application in [manifest(ARGOCD / "application.yaml"), *from_applicationset(ARGOCD / "applicationset.yaml")]:
        options = application["spec"]["syncPolicy"]["syncOptions"]
        assert {"RespectIgnoreDifferences=true", "ServerSideApply=true"} <= set(options)
        assert application["spec"]["source"]["helm"]["skipTests"] is True


def test_one_application_and_the_generated_one_are_equal():
    """The example for one environment is what the ApplicationSet makes of it, but for the namespace."""
    single = manifest(ARGOCD / "application.yaml")
    (same,) = [a for a in from_applicationset(ARGOCD / "applicationset.yaml") if a["metadata"]["name"] == "llm-prod"]
    assert single["metadata"]["name"] == same["metadata"]["name"]
    single["spec"]["destination"]["namespace"] = same["spec"]["destination"]["namespace"]
    for spec in (single["spec"], same["spec"]):
        spec["syncPolicy"]["syncOptions"].sort()
    assert single["spec"] == same["spec"]


def test_generated_names_and_namespaces_are_apart():
    made = from_applicationset(ARGOCD / "applicationset.yaml")
    assert len({a["metadata"]["name"] for a in made}) == len(made)
    assert len({a["spec"]["destination"]["namespace"] for a in made}) == len(made)
    text = (ARGOCD / "applicationset.yaml").read_text()
    assert yaml.safe_load(text)["spec"]["goTemplateOptions"] == ["missingkey=error"]


def test_autoscaled_groups_and_sets_are_named_by_their_own_kind(tmp_path):
    """The patch reads the values, so it is right for environments that are not among the examples too."""
    spec = manifest(ARGOCD / "applicationset.yaml")
    for environment, wanted in {
        "multi-node": [("leaderworkerset.x-k8s.io", "LeaderWorkerSet", "llm-giant")],
        "stateful": [],
        "capacity": [("apps", "Deployment", "llm-search-spot")],
    }.items():
        spec["spec"]["generators"][0]["git"]["files"] = [{"path": f"values/{environment}.yaml"}]
        file = tmp_path / f"{environment}.yaml"
        file.write_text(yaml.safe_dump(spec))
        (made,) = from_applicationset(file)
        rules = made["spec"].get("ignoreDifferences", [])
        assert [(rule["group"], rule["kind"], rule["name"]) for rule in rules] == wanted


def test_the_rollout_reaches_every_environment_in_order():
    steps = manifest(ARGOCD / "rolling-sync.yaml")["spec"]["strategy"]["rollingSync"]["steps"]
    order = [expression["values"] for step in steps for expression in step["matchExpressions"]]
    assert order == [["dev"], ["staging"], ["prod"]]
    made = from_applicationset(ARGOCD / "applicationset.yaml")
    assert {a["metadata"]["labels"]["environment"] for a in made} == {each for (each,) in order}
    assert {e["key"] for step in steps for e in step["matchExpressions"]} == {"environment"}


def test_the_project_allows_what_is_deployed_and_no_more():
    project = manifest(ARGOCD / "project.yaml")["spec"]
    allowed = {(entry["group"], entry["kind"]) for entry in project["clusterResourceWhitelist"]}
    refused = {(entry["group"], entry["kind"]) for entry in project["namespaceResourceBlacklist"]}
    destinations = [entry["namespace"].replace("*", ".*") for entry in project["destinations"]]
    for each in environments().values():
        for obj in each.render():
            kind = (obj["apiVersion"].rpartition("/")[0], obj["kind"])
            assert kind not in refused
            assert obj["kind"] not in CLUSTER_WIDE or kind in allowed
        assert any(re.fullmatch(pattern, each.namespace) for pattern in destinations)
    cluster_wide = [o for o in scenario("capacity").objects if o["kind"] in CLUSTER_WIDE]
    assert {(o["apiVersion"].rpartition("/")[0], o["kind"]) for o in cluster_wide} == allowed - {("", "Namespace")}
    applications = [manifest(ARGOCD / "application.yaml"), *from_applicationset(ARGOCD / "applicationset.yaml")]
    for application in applications:
        assert application["spec"]["project"] == manifest(ARGOCD / "project.yaml")["metadata"]["name"]
        assert application["spec"]["source"]["repoURL"] in project["sourceRepos"]


def test_flux_waits_for_the_slowest_model_and_comes_back():
    spec = manifest(FLUX / "helmrelease.yaml")["spec"]
    deadlines = [
        o["spec"]["progressDeadlineSeconds"]
        for o in of_kind(environments()["inference/flux-llm"].render(), "Deployment")
    ]
    assert seconds(spec["timeout"]) > max(deadlines)
    assert spec["upgrade"]["remediation"]["strategy"] == "rollback"
    assert spec["test"]["enable"] and spec["driftDetection"]["mode"] == "enabled"
    source = manifest(FLUX / "source.yaml")
    wanted = {"kind": source["kind"], "name": source["metadata"]["name"], "namespace": source["metadata"]["namespace"]}
    assert spec["chart"]["spec"]["sourceRef"] == wanted
    folders = {file.relative_to(ROOT).parts[0] for file in environments()["inference/flux-llm"].layers}
    assert folders | {CHART.name, VALUES.name} == set(source["spec"]["sparseCheckout"])


@pytest.mark.parametrize("scenario_name", SCENARIOS)
def test_no_hooks_but_tests(scenario_name):
    """What Helm runs beside the release, Argo CD runs at other times or, with a hook of its own, not at all."""
    objects = scenario(scenario_name).objects
    hooks = [o for o in objects if is_hook(o)]
    assert {o["metadata"]["annotations"]["helm.sh/hook"] for o in hooks} <= {"test"}
    assert not [name(o) for o in objects if "argocd.argoproj.io/hook" in o["metadata"].get("annotations", {})]


@pytest.mark.parametrize("layers", [*(scenario(n).layers for n in SCENARIOS), combined("generic").layers], ids=SETS)
def test_rendering_is_equal_byte_for_byte(layers):
    """Order included. Helm 4 only puts an empty line between documents."""
    values = [word for layer in layers for word in ("--values", str(layer))]

    def text(major: int) -> str:
        return helm(major).run("template", RELEASE, CHART, "--namespace", NAMESPACE, *values)

    first = {major: text(major) for major in MAJORS}
    assert text(4) == first[4]
    assert text(3) == first[3]
    assert re.sub(r"\n+", "\n", first[3]) == re.sub(r"\n+", "\n", first[4])
