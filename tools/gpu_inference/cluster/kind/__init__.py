"""`kind`: real nodes as containers (kubelet, containerd, kube-proxy), with docker or podman; GPUs are on paper."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from gpu_inference.cluster import inventory
from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.kind import engine
from gpu_inference.cluster.kind.control import Kind
from gpu_inference.cluster.kind.image import build, plan
from gpu_inference.cluster.progress import Progress
from gpu_inference.cluster.provider import Capabilities, ComponentStatus
from gpu_inference.cluster.supervised import SupervisedCluster
from gpu_inference.errors import UserError

__all__ = ["KindCluster"]

_BINARIES = ("kind", "kubectl", "prometheus")


class KindCluster(SupervisedCluster):
    """One control plane and `workers` nodes with GPUs of `cloud`'s inventory, on-demand and spot in turn.

    sync_period, scrape_interval, rules, crds: as of an EmbeddedCluster. install: podman may be installed with apt where
    there is no container engine; so it may with GPU_INFERENCE_INSTALL=1 in the environment.
    """

    PROVIDER = "kind"
    SUPERVISOR = "gpu_inference.cluster.kind.supervisor"
    STOP_SECONDS = 120.0

    def __init__(
        self,
        name: str,
        cloud: str = "generic",
        workers: int = 2,
        sync_period: float = 15.0,
        rules: Path | None = None,
        scrape_interval: float = 2.0,
        crds: bool = False,
        install: bool = False,
        detached: bool = False,
        progress: Progress | None = None,
    ) -> None:
        inventory.nodes(cloud)  # an unknown cloud is an error before anything starts
        if workers < 1:
            raise UserError("a kind cluster has at least one worker", fix="give --workers 2")
        if rules and not rules.is_file():
            raise UserError(f"there is no rules file {rules}", fix="give a file of prometheus-adapter rules")
        super().__init__(name, detached, progress)
        self._install = install or os.environ.get(engine.INSTALL_VARIABLE) == "1"
        self._settings: dict[str, Any] = {
            "cloud": cloud,
            "workers": workers,
            "sync_period": sync_period,
            "scrape_interval": scrape_interval,
            "rules": str(rules.resolve()) if rules else None,
            "crds": crds,
        }

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(real_pods=True, gpus=True, owned=True, external_metrics="adapter" in self.state.components)

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes, which are also those of their containers."""
        return self._kind().containers()

    @property
    def engine(self) -> engine.Engine:
        """The container engine that runs the nodes."""
        return self._kind().engine

    def load_image(self, archive: Path) -> None:
        """Gives every node the images of an archive (docker save, podman save). UserError when that fails."""
        self._kind().load_image(archive)

    def status(self) -> list[ComponentStatus]:
        kind = self._kind()
        running = kind.containers(only_running=True)
        nodes = [ComponentStatus(name, name in running) for name in sorted(kind.containers())]
        return [*super().status(), *nodes]

    def _prepare(self) -> dict[str, Any]:
        found = engine.find(self._install, self._progress)
        engine.make_modules_folder()
        self.binaries = find_or_build(_BINARIES, self._progress)
        image = build.ensure(found, self._progress)
        described = {**dataclasses.asdict(found), "path": str(found.path)}
        return {**self._settings, "engine": described, "image": image, "published": image == plan.PUBLISHED}

    def _clean(self) -> None:
        self._kind().delete()

    def _kind(self) -> Kind:
        return Kind.of(engine.find(), find_or_build(["kind"])["kind"], self.name, self.state_dir)
