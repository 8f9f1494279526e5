"""The process that owns a cluster: it starts every component, watches them, and leaves nothing behind.

Started by a SupervisedCluster as `python -m <its module>`. On its standard input it reads one line, the options as
JSON. On its standard output it writes one JSON object a line: {"event": …}, at the end {"ready": …} or {"error": …}.
It stops the cluster on SIGTERM and, unless detached, when its standard input closes: that is how it learns of an owner
that was killed. The components die with it by PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import ssl
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from gpu_inference.cluster import state
from gpu_inference.cluster.direct import opener
from gpu_inference.cluster.process import die_with_parent, start_time
from gpu_inference.cluster.progress import Event
from gpu_inference.cluster.state import State
from gpu_inference.errors import UserError

_POLL_SECONDS = 0.05
_FIX = "free disk space or memory if the message says so, then try again"


@dataclass(frozen=True)
class Component:
    """A process. ready_url: answers 200 when it is ready ("" for one that is watched only for being alive)."""

    name: str
    command: Sequence[str]
    ready_url: str = ""


class Stopped(BaseException):
    """The owner is gone or asked for the end."""


class Supervisor(ABC):
    """One cluster, with what belongs to it in `state_dir`. `run` returns after the cluster is gone."""

    provider: str
    ready_timeout_seconds = 90.0

    def __init__(self, state_dir: Path, detached: bool) -> None:
        self.state_dir = state_dir
        self.detached = detached
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.log_dir = state_dir / "log"

    def run(self) -> None:
        with state.claim(self.state_dir):
            try:
                (self.state_dir / "provider").write_text(self.provider, encoding="utf-8")
                self._redirect_stderr()
                content = self._up()
                state.save(self.state_dir, content)
                _say("ready", dataclasses.asdict(content))
                if self.detached:
                    _silence_stdout()
                while True:
                    self._pause(1.0)
                    self._watch()
            finally:
                for stop in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(stop, signal.SIG_IGN)  # the end is on its way already
                self._down()

    @abstractmethod
    def _up(self) -> State:
        """Starts the cluster; returns when it is ready for pods."""

    def _watch(self) -> None:  # noqa: B027
        """Called about once a second while the cluster is up."""

    def processes(self) -> dict[str, state.Process]:
        """The components by pid and start time."""
        return {name: (child.pid, start_time(child.pid) or 0) for name, child in self.children.items()}

    def _start(self, component: Component) -> Component:
        with (self.log_dir / f"{component.name}.log").open("ab") as log:
            self.children[component.name] = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.state_dir,
                preexec_fn=die_with_parent,
            )
        return component

    def _ready(self, component: Component, context: ssl.SSLContext) -> None:
        if component.ready_url:
            self._wait(lambda: "" if _answers(component.ready_url, context) else "no answer yet", component.name)

    def _wait(self, pending: Callable[[], str], what: str) -> None:
        """Until `pending` says "" (else: what is missing); raises UserError when a component ends or time is up."""
        deadline = time.monotonic() + self.ready_timeout_seconds
        missing = "not asked yet"
        while missing:
            self._check_components()
            if time.monotonic() > deadline:
                raise UserError(
                    f"{what} was not ready after {self.ready_timeout_seconds:.0f} s ({missing}): {self._tail(what)}",
                    fix="try again when the machine is less busy",
                    exit_code=1,
                )
            self._pause(_POLL_SECONDS)
            missing = pending()

    def _check_components(self) -> None:
        for name, child in self.children.items():
            if child.poll() is not None:
                raise UserError(
                    f"{name} ended with code {child.returncode} while the cluster started: {self._tail(name)}",
                    fix=_FIX,
                    exit_code=1,
                )

    def _tail(self, name: str, lines: int = 3) -> str:
        log = self.log_dir / f"{name}.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:]) or "its log is empty"

    def _pause(self, seconds: float) -> None:
        if self.detached:
            time.sleep(seconds)
            return
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], seconds)
        if readable and not os.read(sys.stdin.fileno(), 1024):
            raise Stopped

    def _down(self) -> None:
        # SIGKILL at once: nothing of the state is wanted any more.
        for child in self.children.values():
            child.kill()
        for child in self.children.values():
            child.wait()

    def _redirect_stderr(self) -> None:
        self.log_dir.mkdir(parents=True)
        with (self.log_dir / "supervisor.log").open("ab") as log:
            os.dup2(log.fileno(), sys.stderr.fileno())


def _answers(url: str, context: ssl.SSLContext) -> bool:
    try:
        with opener(context).open(url, timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def _say(kind: str, content: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({kind: content}), flush=True)


def report(event: Event) -> None:
    _say("event", dataclasses.asdict(event))


def _silence_stdout() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _stop(*_: object) -> NoReturn:
    raise Stopped


def me() -> state.Process:
    """This process, as it stands in the state."""
    return os.getpid(), start_time(os.getpid()) or 0


def main(make: Callable[[dict[str, Any]], Supervisor]) -> int:
    """Runs the supervisor that `make` makes of the options on standard input. Returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's: it closes our standard input
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as unbuffered:  # select() must see what follows
        raw = unbuffered.readline()
    if not raw:
        return 0
    try:
        make(json.loads(raw)).run()
    except Stopped:
        return 0
    except UserError as error:
        _say("error", {"message": error.message, "fix": error.fix, "exit_code": error.exit_code})
        return 1
    except OSError as error:
        _say("error", {"message": f"the cluster cannot run: {error}", "fix": _FIX, "exit_code": 1})
        return 1
    return 0
