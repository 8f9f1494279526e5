"""Clusters for tests, behind the fixtures and options of pytest-helm-charts.

`kube_cluster`, `kube_config`, `cluster_type` and `chart_path` are that plugin's, with its options and environment
variables. What differs: without any option there is a cluster all the same, of type `embedded`, and the chart is this
project's; a cluster of type `kind` without a kubeconfig is made here too. With `--cluster-type existing` (or any other
type, or just `--kubeconfig FILE`) the plugin's own behaviour holds: the tests run on the cluster of `--kubeconfig` or
$KUBECONFIG, which is never created or deleted here. $CLUSTER says the type too; CLUSTER=kind is always one made here.
`real_provider` is the cluster for tests whose pods must really run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_helm_charts import clusters
from pytest_helm_charts.fixtures import ENV_VAR_CHART_PATH, ENV_VAR_CLUSTER_TYPE, ENV_VAR_KUBE_CONFIG

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.command import RULES
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.embedded.components import BINARIES
from gpu_inference.cluster.existing import ExistingCluster
from gpu_inference.cluster.kind import KindCluster
from gpu_inference.cluster.progress import console_progress
from gpu_inference.cluster.provider import Provider
from gpu_inference.errors import UserError
from gpu_inference.paths import CHART

EMBEDDED = "embedded"
KIND = "kind"
HOW = (
    "run them where there is Docker or, as root, podman (CLUSTER=kind), or on a cluster (CLUSTER=existing, KUBECONFIG)"
)


@pytest.fixture(scope="session")
def cluster_type(pytestconfig: pytest.Config) -> str:
    """--cluster-type, $ATS_CLUSTER_TYPE or $CLUSTER; else `existing` when --kubeconfig is given, else `embedded`."""
    given = pytestconfig.getoption("cluster_type") or os.environ.get(ENV_VAR_CLUSTER_TYPE) or os.environ.get("CLUSTER")
    return given or ("existing" if pytestconfig.getoption("kubeconfig") else EMBEDDED)


@pytest.fixture(scope="session")
def chart_path(pytestconfig: pytest.Config) -> str:
    """--chart-path or $ATS_CHART_PATH; else this project's chart."""
    return pytestconfig.getoption("chart_path") or os.environ.get(ENV_VAR_CHART_PATH) or str(CHART)


@pytest.fixture(scope="session")
def cluster_binaries() -> dict[str, Path]:
    """The binaries of an embedded cluster; skips, with the reason, what needs them where they cannot be had."""
    if sys.platform != "linux":
        pytest.skip("an embedded cluster needs Linux")
    try:
        return find_or_build(BINARIES, console_progress(sys.__stderr__))
    except UserError as error:
        pytest.skip(f"an embedded cluster cannot run here: {error.message}")


@pytest.fixture(scope="session")
def provider(cluster_type: str, pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Provider]:
    """The cluster under test, up for the whole session: a Provider, for what `kube_cluster` has no words for."""
    path = pytestconfig.getoption("kubeconfig") or os.environ.get(ENV_VAR_KUBE_CONFIG)
    if cluster_type == EMBEDDED:
        request.getfixturevalue("cluster_binaries")
        cluster: Provider = EmbeddedCluster(
            f"test-{os.getpid()}", sync_period=2, scrape_interval=1, rules=RULES, crds=True
        )
    elif cluster_type == KIND and (os.environ.get("CLUSTER") == KIND or not path):
        yield request.getfixturevalue("kind_cluster")  # it is up already, and ends with its own fixture
        return
    elif path:
        cluster = ExistingCluster(Path(path))
    else:
        pytest.skip(f"a cluster of type {cluster_type!r} needs --kubeconfig or ${ENV_VAR_KUBE_CONFIG}")
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def kind_cluster() -> Iterator[KindCluster]:
    """A kind cluster of the session's own; skips, with the reason, what needs it where there cannot be one."""
    cluster = KindCluster(
        f"test-{os.getpid()}", cloud="eks", sync_period=2, scrape_interval=1, rules=RULES, crds=True,
        progress=console_progress(sys.__stderr__),
    )  # fmt: skip
    try:
        cluster.prepare()
    except UserError as error:
        pytest.skip(f"no kind cluster can run here: {error.message}; {HOW}")
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def real_provider(cluster_type: str, request: pytest.FixtureRequest) -> Provider:
    """A cluster with real pods: the one under test where it has them, else a kind cluster of the session's own."""
    if cluster_type == EMBEDDED:
        return request.getfixturevalue("kind_cluster")
    provider: Provider = request.getfixturevalue("provider")
    if not provider.capabilities.real_pods:
        pytest.skip(f"the pods of this cluster have no containers; {HOW}")
    return provider


@pytest.fixture(scope="session")
def kube_config(provider: Provider) -> str:
    """Path of the kubeconfig of the cluster under test."""
    return str(provider.kubeconfig)


@pytest.fixture(scope="module")
def kube_cluster(provider: Provider, kube_config: str) -> Iterator[clusters.Cluster]:
    """The plugin's Cluster, connected. Its `kubectl` finds the pinned kubectl first."""
    cluster = clusters.ExistingCluster(kube_config)
    cluster.create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{provider.kubectl_path.parent}{os.pathsep}{os.environ.get('PATH', '')}")
        yield cluster
    cluster.destroy()
