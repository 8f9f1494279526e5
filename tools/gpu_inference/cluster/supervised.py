"""Clusters of ours: a supervisor of their own process owns everything of them, this side starts and ends it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from gpu_inference.cluster.process import is_running, stop
from gpu_inference.cluster.progress import Event, Progress, silent
from gpu_inference.cluster.provider import ComponentStatus, Provider
from gpu_inference.cluster.state import State, claim, folder_of, load
from gpu_inference.errors import UserError


class SupervisedCluster(Provider):
    """What the embedded and the kind cluster have in common.

    name: clusters of different names stand side by side. detached: the cluster outlives this process. Unless detached,
    everything ends with this process, however it ends.
    """

    PROVIDER: ClassVar[str]  # as in State.provider
    SUPERVISOR: ClassVar[str]  # the module that runs
    STOP_SECONDS: ClassVar[float]  # how long an orderly end may take

    def __init__(self, name: str, detached: bool = False, progress: Progress | None = None) -> None:
        self.name = name
        self.state_dir = folder_of(name)
        self.binaries: dict[str, Path] = {}
        self._detached = detached
        self._progress = progress or silent
        self._supervisor: subprocess.Popen[str] | None = None
        self._state: State | None = None

    @classmethod
    def attach(cls, name: str) -> Self:
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
                    cluster._clean()
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

    @abstractmethod
    def _prepare(self) -> dict[str, Any]:
        """What the supervisor is told, after everything it needs (binaries, images) is there."""

    def _clean(self) -> None:
        """Removes what a supervisor that was killed has left outside of the state folder and its processes."""

    def up(self) -> None:
        options = {
            **self._prepare(),
            "name": self.name,
            "state_dir": str(self.state_dir),
            "detached": self._detached,
            "binaries": {name: str(path) for name, path in self.binaries.items()},
        }
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", self.SUPERVISOR],
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
        if self._detached:
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
        if self._detached:
            supervisor.terminate()
        _close(supervisor)  # the end of its standard input ends it
        try:
            supervisor.wait(self.STOP_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
            self._clean()
            shutil.rmtree(self.state_dir, ignore_errors=True)

    def _end_stranger(self, running: State) -> None:
        orderly = is_running(*running.supervisor) and not stop(*running.supervisor, timeout=self.STOP_SECONDS)
        for process in running.components.values():  # left only when the supervisor had to be killed
            stop(*process, timeout=0.0)
        if not orderly:
            self._clean()
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
