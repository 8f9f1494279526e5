"""The cluster with real pods, the twin's image in it, releases, and what is kept of each disruption."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from disruption import report
from disruption.nodes import Nodes
from disruption.release import CLOUD, Release, released, values
from disruption.shared import Shared
from disruption.traffic import OUT, Mix, Result, Run, keep, traffic
from support.cluster import items

from gpu_inference.cluster.command import RULES
from gpu_inference.cluster.kind import KindCluster
from gpu_inference.cluster.progress import console_progress
from gpu_inference.errors import UserError
from gpu_inference.twin.container.image import build

USUAL = Mix()
# Names a cluster of `gpu-inference cluster up --provider kind --cloud aks`, to try things out on.
KEPT = "GPU_INFERENCE_KIND"
HOW = "run them where there is Docker or, as root, podman"
RAN = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RAN] = []


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """What the workers of a test run agree by."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    found = Shared(run or uuid.uuid4().hex)
    yield found
    if not run:
        found.remove()


@pytest.fixture(scope="session")
def cluster(shared: Shared, cluster_type: str) -> Iterator[KindCluster]:
    """A kind cluster with a cloud's marks, one for all workers; that of KEPT, if it is named, stays."""
    if cluster_type not in ("embedded", "kind"):
        pytest.skip("needs a kind cluster of its own: nodes are cut off and servers killed from outside")
    if kept := os.environ.get(KEPT):
        yield KindCluster.attach(kept)
        return
    cluster = KindCluster(
        shared.name, cloud=CLOUD, sync_period=5, rules=RULES, progress=console_progress(sys.__stderr__)
    )
    try:
        cluster.prepare()
    except UserError as error:
        pytest.skip(f"no kind cluster can run here: {error.message}; {HOW}")
    with shared.made_once(cluster) as found:
        yield found


@pytest.fixture(autouse=True)
def _turn(request: pytest.FixtureRequest, shared: Shared) -> Iterator[None]:
    """A test marked `alone` waits for the others, and they for it."""
    with shared.turn(alone=request.node.get_closest_marker("alone") is not None):
        yield


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
        request.config.stash[RAN].append(name)
        try:
            with traffic(result, release.url, "chat", mix, release.pods, api) as found:
                yield found
        finally:
            keep(OUT / f"{name}.json", report.dump([result.row()]))
            for key, value in result.row().items():
                record_property(key, value)

    return run


def pytest_sessionfinish(session: pytest.Session) -> None:
    """All that has been kept, of this worker and of others."""
    if session.config.stash[RAN]:
        rows = report.collect(OUT)
        keep(OUT / "results.json", report.dump(rows))
        keep(OUT / "results.md", report.table(rows))
