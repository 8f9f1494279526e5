"""The cluster with real pods, the twin's image in it, releases, and what is kept of each disruption."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import pytest
from disruption import report
from disruption.nodes import Nodes
from disruption.release import CLOUD, Release, released, values
from disruption.traffic import OUT, Mix, Result, Run, keep, traffic
from gpu_inference.cluster.kind import KindCluster
from support.cluster import items

from gpu_inference.cluster.command import RULES
from gpu_inference.cluster.progress import console_progress
from gpu_inference.errors import UserError
from gpu_inference.twin.container.image import build

USUAL = Mix()
# Names a cluster of `gpu-inference cluster up --provider kind --cloud gke`, to try things out on.
KEPT = "GPU_INFERENCE_KIND"
RESULTS = pytest.StashKey[list[Result]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []


@pytest.fixture(scope="session")
def cluster() -> Iterator[KindCluster]:
    """A kind cluster of GKE's marks, with a spot node; that of KEPT, if it is named, stays."""
    if kept := os.environ.get(KEPT):
        yield KindCluster.attach(kept)
        return
    name = f"disruption-{os.getpid()}"
    try:
        cluster = KindCluster(name, cloud=CLOUD, sync_period=5, rules=RULES, progress=console_progress(sys.__stderr__))
        cluster.up()
    except UserError as error:
        pytest.skip(f"no kind cluster here: {error.message}. {error.fix}")
    try:
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def nodes(cluster: KindCluster) -> Nodes:
    """The nodes, from outside."""
    return Nodes(cluster, CLOUD, cluster.engine.run)


@pytest.fixture(scope="session")
def image(cluster: KindCluster) -> str:
    """Name and tag of the twin's image, which every node has."""
    archive, name = build()
    cluster.load_image(archive)
    return name


@pytest.fixture(scope="session")
def disks(cluster: KindCluster) -> None:
    """A storage class that makes volumes."""
    default = "storageclass.kubernetes.io/is-default-class"
    if not any(item["metadata"].get("annotations", {}).get(default) == "true" for item in items(cluster, "sc")):
        pytest.skip("needs a default storage class")


@pytest.fixture(scope="session")
def chat(cluster: KindCluster, nodes: Nodes, image: str) -> Iterator[Release]:
    """A release that tests share, each leaves it serving: vLLM, two pods on demand."""
    with released(cluster, nodes.address, "chat") as release:
        release.install(values(image))
        yield release


@pytest.fixture
def own(cluster: KindCluster, nodes: Nodes) -> Iterator[Release]:
    """A release of the test's own, to be installed by it."""
    with released(cluster, nodes.address, "own") as release:
        yield release


@pytest.fixture
def disruption(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[..., contextlib.AbstractContextManager[Run]]:
    """(name, about, release[, mix[, api]]) -> traffic at the release; its figures are kept, also in the JUnit file."""

    @contextlib.contextmanager
    def run(name: str, about: str, release: Release, mix: Mix = USUAL, api: str = "openai") -> Iterator[Run]:
        result = Result(name, about)
        request.config.stash[RESULTS].append(result)
        try:
            with traffic(result, release.url, "chat", mix, release.pods, api) as found:
                yield found
        finally:
            for key, value in result.row().items():
                record_property(key, value)

    return run


def pytest_sessionfinish(session: pytest.Session) -> None:
    rows = [result.row() for result in session.config.stash[RESULTS]]
    if rows:
        keep(OUT / "results.json", report.dump(rows))
        keep(OUT / "results.md", report.table(sorted(rows, key=lambda row: row["scenario"])))
