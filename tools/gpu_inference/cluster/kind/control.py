"""kind's command line for one cluster, and the removal of all that it makes."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_inference.cluster.kind.engine import Engine, run_folder
from gpu_inference.cluster.process import lock, run_group
from gpu_inference.cluster.progress import Tick
from gpu_inference.errors import UserError
from gpu_inference.paths import cache_dir

_LABEL = "io.x-k8s.kind.cluster"
_DELETE_SECONDS = 120


@dataclass(frozen=True)
class Kind:
    """binary: kind's; name: of the cluster, as kind and its containers have it; kubeconfig: where it is written."""

    engine: Engine
    binary: Path
    name: str
    kubeconfig: Path

    @classmethod
    def of(cls, engine: Engine, binary: Path, name: str, state_dir: Path) -> Kind:
        """For the cluster `name` of the command line, which has a network of its own."""
        network = f"gpu-inference-{name}"
        env = {**engine.env, "KIND_EXPERIMENTAL_PODMAN_NETWORK": network, "KIND_EXPERIMENTAL_DOCKER_NETWORK": network}
        return cls(replace(engine, env=env), binary, f"gi-{name}", state_dir / "kubeconfig")

    @property
    def network(self) -> str:
        return self.engine.env["KIND_EXPERIMENTAL_PODMAN_NETWORK"]

    @property
    def control_plane(self) -> str:
        return f"{self.name}-control-plane"

    def create(self, config: Path, tick: Tick) -> None:
        """Creates the nodes; they are not ready yet. UserError with kind's own message when that fails."""
        code, log = self._run(["create", "cluster", f"--config={config}", "--wait=0s", *self._named()], tick)
        if code != 0:
            errors = [line for line in log.splitlines() if "ERROR" in line] or log.splitlines()[-1:]
            raise UserError(f"kind create cluster failed: {errors[0] if errors else 'no output'}", exit_code=1)

    def load_image(self, archive: Path) -> None:
        """Gives every node the images of an archive (docker save, podman save)."""
        code, log = self._run(["load", "image-archive", str(archive), f"--name={self.name}"], lambda seconds: None)
        if code != 0:
            raise UserError(f"kind load image-archive failed: {log.strip().splitlines()[-1]}", exit_code=1)

    def containers(self, only_running: bool = False) -> list[str]:
        """The names of the cluster's nodes."""
        options = ["--filter", f"label={_LABEL}={self.name}", "--format", "{{.Names}}"]
        return self.engine.run("ps", *([] if only_running else ["-a"]), *options).split()

    def gateway(self) -> str:
        """The host's address, as the nodes see it."""
        route = self.engine.run("exec", self.control_plane, "ip", "-4", "route", "show", "default")
        return route.split()[2]

    def exec(self, node: str, script: str) -> None:
        self.engine.run("exec", "-i", node, "sh", "-s", input=script.encode())

    def read(self, path: str) -> str:
        """The text of a file of the control plane's."""
        return self.engine.run("exec", self.control_plane, "cat", path)

    def delete(self) -> None:
        """Removes containers, volumes and the network, whatever there is of them, and podman's own mounts."""
        with podman_lock():
            with contextlib.suppress(UserError, subprocess.TimeoutExpired):
                self._run(["delete", "cluster", *self._named()], lambda seconds: None)
            if left := self.containers():
                self.engine.run("rm", "--force", "--volumes", *left, timeout=_DELETE_SECONDS)
            self.engine.run("network", "rm", self.network, check=False)
            if self.engine.name == "podman" and not self.engine.run("ps", "-aq").strip():
                _unmount(Path(self.engine.env["CONTAINERS_CONF"]).parent)

    def _named(self) -> list[str]:
        return [f"--name={self.name}", f"--kubeconfig={self.kubeconfig}"]

    def _run(self, arguments: list[str], tick: Tick) -> tuple[int, str]:
        return run_group([str(self.binary), *arguments], cwd=None, env=self.engine.environment, tick=tick)


@contextlib.contextmanager
def podman_lock() -> Iterator[None]:
    """Nobody makes containers while somebody takes down what all of them share."""
    with lock(cache_dir() / "lock" / "kind-engine"):
        yield


def _unmount(home: Path) -> None:
    """What podman leaves mounted below its folder while there is no container; it mounts it again when it needs it."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    for point in sorted((line.split()[4] for line in mounts), reverse=True):
        if point.startswith((f"{home}/", f"{run_folder(home)}/")):
            subprocess.run(["umount", point], capture_output=True, check=False)
    shutil.rmtree(run_folder(home), ignore_errors=True)
