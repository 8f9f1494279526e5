"""The Applications of ci/argocd in Argo CD itself: they sync, become Healthy, stay in sync when an autoscaler has moved
replicas, undo what others change, and roll out one environment after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from support import argocd
from support.argocd import NAMESPACE, Repository, application, settled
from support.cluster import apply, bound_claims, get, wait_for
from support.expected import over
from support.gitops import ARGOCD, manifest

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.provider import Provider
from gpu_inference.errors import UserError

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ENVIRONMENTS = ("dev", "staging", "prod")


def quick(values: dict[str, Any]) -> None:
    """Pods without containers take as long as the model says."""
    values.setdefault("modelDefaults", {})["startup"] = {"loadSeconds": 1}
    for model in values["models"].values():
        model.pop("startup")


@pytest.fixture(scope="module")
def cluster(cluster_type: str, request: pytest.FixtureRequest) -> Iterator[Provider]:
    if cluster_type != "embedded":
        pytest.skip("Argo CD's controllers run beside an embedded cluster only")
    request.getfixturevalue("cluster_binaries")
    try:
        find_or_build(argocd.BINARIES)
    except UserError as error:
        pytest.skip(f"Argo CD cannot run here: {error.message}")
    with EmbeddedCluster(f"argocd-{os.getpid()}") as cluster:
        argocd.custom_resources(cluster)
        yield cluster


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = argocd.repository(tmp_path_factory.mktemp("git") / "gpu-inference")
    for name in ENVIRONMENTS:
        made.change(f"values/{name}.yaml", quick)
    return made


@pytest.fixture(scope="module")
def argo(cluster: Provider, repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Argo CD with the ConfigMap and the project of ci/argocd."""
    logs = tmp_path_factory.mktemp("argocd")
    with argocd.argo_cd(cluster, manifest(ARGOCD / "argocd-cm.yaml")["data"], logs):
        project = manifest(ARGOCD / "project.yaml")
        project["spec"]["sourceRepos"] = [repository.url]
        apply(cluster, project)
        yield cluster


def here(value: Any, url: str) -> Any:
    """A manifest with the address of this repository."""
    if isinstance(value, dict):
        return {key: url if key == "repoURL" else here(item, url) for key, item in value.items()}
    return [here(item, url) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def llm(argo: Provider, repository: Repository, request: pytest.FixtureRequest) -> Iterator[Provider]:
    """The Application of production, installed."""
    request.getfixturevalue("claims")
    found = here(manifest(ARGOCD / "application.yaml"), repository.url)
    apply(argo, found)
    yield argo
    argo.kubectl("delete", "application", found["metadata"]["name"], "-n", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def claims(cluster: Provider) -> Iterator[None]:
    """What the platform provides: the namespaces are made by Argo CD too, and these are there before."""
    wanted = ["inference", *(f"inference-{name}" for name in ENVIRONMENTS)]
    for name in wanted:
        apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    with contextlib.ExitStack() as stack:
        for name in wanted:
            stack.enter_context(bound_claims(cluster, name, ["pvc://model-repository/rerank"]))
        yield


def replicas(cluster: Provider, name: str, namespace: str = "inference") -> int:
    return get(cluster, "deployment", name, "-n", namespace)["spec"]["replicas"]


def test_production_is_synced_and_healthy(llm: Provider) -> None:
    status = settled(llm, "llm-prod")
    kinds = {resource["kind"] for resource in status["resources"]}
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"} <= kinds
    assert {resource["status"] for resource in status["resources"]} == {"Synced"}
    assert not any("test" in resource["name"] for resource in status["resources"])
    labels = get(llm, "namespace", "inference")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_it_stays_in_sync_when_the_autoscaler_has_moved_replicas(llm: Provider, repository: Repository) -> None:
    """Before a sync and after one: the next commit does not bring the replicas back."""
    settled(llm, "llm-prod")
    llm.kubectl("scale", "deployment/llm-llama", "--replicas=5", "-n", "inference")
    status = settled(llm, "llm-prod")
    assert replicas(llm, "llm-llama") == 5
    synced = status["operationState"]["finishedAt"]

    def more_memory(values: dict[str, Any]) -> None:
        values["models"]["llama"]["env"] = {"CHANGED": "yes"}

    commit = repository.change("values/prod.yaml", more_memory)
    status = settled(llm, "llm-prod", commit)
    assert status["operationState"]["finishedAt"] != synced
    template = get(llm, "deployment", "llm-llama", "-n", "inference")["spec"]["template"]
    assert "CHANGED" in {each["name"] for each in template["spec"]["containers"][0]["env"]}
    assert replicas(llm, "llm-llama") == 5


def test_what_git_owns_is_put_back(llm: Provider) -> None:
    """The other model has a number of replicas in Git: the comparison above does look."""
    settled(llm, "llm-prod")
    wanted = replicas(llm, "llm-rerank")
    llm.kubectl("scale", "deployment/llm-rerank", f"--replicas={wanted + 2}", "-n", "inference")
    argocd.refresh(llm, "llm-prod")
    wait_for(lambda: replicas(llm, "llm-rerank") == wanted, 60, "the replicas of Git")
    settled(llm, "llm-prod")


def test_the_environments_follow_one_another(argo: Provider, repository: Repository, claims: None) -> None:
    found = over(manifest(ARGOCD / "applicationset.yaml"), manifest(ARGOCD / "rolling-sync.yaml"))
    # The other tests' Application has the name of one of these.
    argo.kubectl("delete", "application", "llm-prod", "-n", NAMESPACE, "--ignore-not-found")
    apply(argo, here(found, repository.url))
    names = [f"llm-{name}" for name in ENVIRONMENTS]
    settle = [settle_all(argo, name) for name in names]
    starts = [status["operationState"]["startedAt"] for status in settle]
    ends = [status["operationState"]["finishedAt"] for status in settle]
    assert all(later >= earlier for earlier, later in zip(ends, starts[1:], strict=False)), (starts, ends)
    namespaces = [get(argo, "application", name, "-n", NAMESPACE)["spec"]["destination"]["namespace"] for name in names]
    assert namespaces == [f"inference-{name}" for name in ENVIRONMENTS]


def settle_all(cluster: Provider, name: str) -> dict[str, Any]:
    wait_for(lambda: application(cluster, name), 90, f"{name} generated")
    return settled(cluster, name, seconds=180)
