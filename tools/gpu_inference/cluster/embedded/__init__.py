"""`embedded`: a real control plane on this machine without root or Docker; nodes and pods are KWOK's."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpu_inference.cluster import inventory
from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.embedded.components import BINARIES
from gpu_inference.cluster.embedded.state import State, claim, folder_of, load
from gpu_inference.cluster.process import is_running, stop
from gpu_inference.cluster.progress import Event, Progress, silent
from gpu_inference.cluster.provider import Capabilities, ComponentStatus, Provider
from gpu_inference.errors import UserError

__all__ = ["EmbeddedCluster"]

_STOP_SECONDS = 20.0


class EmbeddedCluster(Provider):
    """etcd, API server, controller manager, scheduler, KWOK, Prometheus and a metrics adapter, all on loopback.

    name: clusters of different names stand side by side. cloud: the inventory of nodes (inventory.known()), or a
    cluster profile's file. sync_period: the HPA's, in seconds. scrape_interval: Prometheus', in seconds. rules: a file
    of prometheus-adapter rules; without it there is no external metrics API. twin: whether a twin will serve the pods
    on `twin_port` (it then ends a deleted pod; without it a deleted pod is gone at once). detached: the cluster
    outlives this process. crds: the API server knows LeaderWorkerSet, PodMonitor, HTTPRoute and other kinds of optional
    APIs, without their controllers.

    Unless detached, everything ends with this process, however it ends.
    """

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
        self.name = name
        self.state_dir = folder_of(name)
        self.binaries: dict[str, Path] = {}
        self._settings: dict[str, Any] = {
            "cloud": cloud,
            "sync_period": sync_period,
            "rules": str(rules.resolve()) if rules else None,
            "scrape_interval": scrape_interval,
            "twin": twin,
            "detached": detached,
            "crds": crds,
        }
        self._progress = progress or silent
        self._supervisor: subprocess.Popen[str] | None = None
        self._state: State | None = None

    @classmethod
    def attach(cls, name: str) -> EmbeddedCluster:
        """The running cluster `name`. UserError when there is none."""
        cluster = cls(name)
        cluster._state = load(cluster.state_dir)
        if not cluster._state or not is_running(*cluster._state.supervisor):
            raise _not_running(name)
        return cluster

    @classmethod
    def remove(cls, name: str) -> None:
        """Ends the cluster `name`, also what is left of one that was killed. UserError when there is nothing of it."""
        cluster = cls(name)
        cluster._state = load(cluster.state_dir)
        if cluster._state:
            cluster.down()
        elif cluster.state_dir.exists():
            try:
                with claim(cluster.state_dir):
                    pass
            except UserError:
                fix = "wait, or end the command that starts it"
                raise UserError(f"the cluster {name!r} is still starting", fix=fix, exit_code=1) from None
        else:
            raise _not_running(name)

    @property
    def state(self) -> State:
        if self._state is None:
            raise UserError(f"the cluster {self.name!r} is not up", fix="call up() first", exit_code=1)
        return self._state

    @property
    def kubeconfig(self) -> Path:
        return Path(self.state.kubeconfig)

    @property
    def kubectl_path(self) -> Path:
        return Path(self.state.kubectl)

    @property
    def api_url(self) -> str:
        return self.state.api_url

    @property
    def prometheus_url(self) -> str:
        return self.state.prometheus_url

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

    def up(self) -> None:
        self.binaries = find_or_build(BINARIES, self._progress)
        options = {
            **self._settings,
            "name": self.name,
            "state_dir": str(self.state_dir),
            "binaries": {name: str(path) for name, path in self.binaries.items()},
        }
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "gpu_inference.cluster.embedded.supervisor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            start_new_session=True,  # a Ctrl-C on the terminal must reach this process alone
        )
        try:
            self._state = self._follow(self._supervisor, options)
        except BaseException:
            self.down()
            raise
        if self._settings["detached"]:
            _close(self._supervisor)
            self._supervisor = None

    def _follow(self, supervisor: subprocess.Popen[str], options: dict[str, Any]) -> State:
        assert supervisor.stdin and supervisor.stdout
        with contextlib.suppress(BrokenPipeError):
            supervisor.stdin.write(json.dumps(options) + "\n")
            supervisor.stdin.flush()
        for line in supervisor.stdout:
            message = json.loads(line)
            if "event" in message:
                self._progress(Event(**message["event"]))
            elif "error" in message:
                raise UserError(**message["error"])
            elif loaded := load(self.state_dir):
                return loaded
        raise UserError("the cluster's supervisor ended while it started", fix="try again", exit_code=1)

    def down(self) -> None:
        if self._supervisor:
            self._end_child(self._supervisor)
            self._supervisor = None
        elif self._state:
            self._end_stranger(self._state)
        self._state = None

    def _end_child(self, supervisor: subprocess.Popen[str]) -> None:
        if self._settings["detached"]:
            supervisor.terminate()
        _close(supervisor)  # the end of its standard input ends it
        try:
            supervisor.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def _end_stranger(self, running: State) -> None:
        stop(*running.supervisor, timeout=_STOP_SECONDS)
        for process in running.components.values():  # left only when the supervisor had to be killed
            stop(*process, timeout=0.0)
        shutil.rmtree(self.state_dir, ignore_errors=True)

    def status(self) -> list[ComponentStatus]:
        processes = {"supervisor": self.state.supervisor, **self.state.components}
        return [ComponentStatus(name, is_running(*process), process[0]) for name, process in processes.items()]


def _close(supervisor: subprocess.Popen[str]) -> None:
    for pipe in (supervisor.stdin, supervisor.stdout):
        with contextlib.suppress(BrokenPipeError):
            if pipe:
                pipe.close()


def _not_running(name: str) -> UserError:
    return UserError(
        f"no cluster named {name!r} is running", fix=f"gpu-inference cluster up --name {name}", exit_code=1
    )
