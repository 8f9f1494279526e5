"""`embedded`: a real control plane on this machine without root or Docker; nodes and pods are KWOK's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpu_inference.cluster import inventory
from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.embedded.components import BINARIES
from gpu_inference.cluster.progress import Progress
from gpu_inference.cluster.provider import Capabilities
from gpu_inference.cluster.supervised import SupervisedCluster
from gpu_inference.errors import UserError

__all__ = ["EmbeddedCluster"]


class EmbeddedCluster(SupervisedCluster):
    """etcd, API server, controller manager, scheduler, KWOK, Prometheus and a metrics adapter, all on loopback.

    cloud: the inventory of nodes (inventory.known()).
    sync_period: the HPA's, in seconds. scrape_interval: Prometheus', in seconds. rules: a file of prometheus-adapter
    rules; without it there is no external metrics API. twin: whether a twin will serve the pods on `twin_port` (it then
    ends a deleted pod; without it a deleted pod is gone at once). crds:
    the API server knows LeaderWorkerSet, PodMonitor, HTTPRoute and other kinds of optional APIs, without their
    controllers.
    """

    PROVIDER = "embedded"
    SUPERVISOR = "gpu_inference.cluster.embedded.supervisor"
    STOP_SECONDS = 20.0

    def __init__(
        self,
        name: str,
        cloud: str = "generic",
        sync_period: float = 15.0,
        rules: Path | None = None,
        scrape_interval: float = 2.0,
        twin: bool = False,
        detached: bool = False,
        progress: Progress | None = None,
        crds: bool = False,
    ) -> None:
        inventory.nodes(cloud)  # an unknown cloud is an error before anything starts
        if sync_period <= 0 or scrape_interval <= 0:
            raise UserError("the sync period and the scrape interval must be more than 0 seconds", fix="use 15 and 2")
        if rules and not rules.is_file():
            raise UserError(f"there is no rules file {rules}", fix="give a file of prometheus-adapter rules")
        super().__init__(name, detached, progress)
        self._settings: dict[str, Any] = {
            "cloud": cloud,
            "sync_period": sync_period,
            "rules": str(rules.resolve()) if rules else None,
            "scrape_interval": scrape_interval,
            "twin": twin,
            "crds": crds,
        }

    @property
    def twin_port(self) -> int:
        """A port kept free for the twin: bind it with SO_REUSEADDR."""
        return self.state.twin_port

    @property
    def twin_url(self) -> str:
        return self.state.twin_url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(real_pods=False, gpus=True, owned=True, external_metrics="adapter" in self.state.components)

    def _prepare(self) -> dict[str, Any]:
        self.binaries = find_or_build(BINARIES, self._progress)
        return self._settings
