"""The process that owns an embedded cluster: it starts every component, watches them, and leaves nothing behind.

Started by EmbeddedCluster as `python -m gpu_inference.cluster.embedded.supervisor`. On its standard input it reads one
line, the options as JSON. On its standard output it writes one JSON object a line: {"event": …}, at the end
{"ready": …} or {"error": …}. It stops the cluster on SIGTERM and, unless detached, when its standard input closes: that
is how it learns of an owner that was killed. The components die with it by PR_SET_PDEATHSIG.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from gpu_inference.cluster.direct import opener
from gpu_inference.cluster.embedded import bootstrap, components, state
from gpu_inference.cluster.embedded.components import Component, Options
from gpu_inference.cluster.embedded.pki import Pki
from gpu_inference.cluster.embedded.ports import Ports
from gpu_inference.cluster.process import die_with_parent, start_time
from gpu_inference.cluster.progress import Event, step
from gpu_inference.errors import UserError

READY_TIMEOUT_SECONDS = 90.0
_POLL_SECONDS = 0.05
_FIX = "free disk space or memory if the message says so, then try again"
_STEPS = ("start etcd", "start kube-apiserver", "start controllers, scheduler, nodes and metrics", "wait for the nodes")


class Stopped(BaseException):
    """The owner is gone or asked for the end."""


class Supervisor:
    """One cluster. `run` returns after the cluster is gone."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.log_dir = options.state_dir / "log"

    def run(self) -> None:
        with state.claim(self.options.state_dir):
            try:
                self._redirect_stderr()
                _say("ready", self._up())
                if self.options.detached:
                    _silence_stdout()
                while True:
                    self._pause(1.0)
            finally:
                for stop in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(stop, signal.SIG_IGN)  # the end is on its way already
                self._down()

    def _up(self) -> dict[str, Any]:
        options = self.options
        ports = Ports(components.PORTS)
        pki = Pki(
            options.state_dir / "pki", served=[f"{components.ADAPTER_SERVICE}.{components.ADAPTER_NAMESPACE}.svc"]
        )
        server = f"https://{ports.address('kube-apiserver')}"
        kubeconfig = pki.kubeconfig("admin", server, options.state_dir / "kubeconfig")
        context = ssl.create_default_context(cafile=str(pki.crt("ca")))
        with step(_report, _STEPS[0], 1, len(_STEPS)):
            self._start(components.etcd(options, ports, pki))
        with step(_report, _STEPS[1], 2, len(_STEPS)):
            self._ready(self._start(components.apiserver(options, ports, pki)), context)
        cluster = bootstrap.Bootstrap(kubeconfig, options, ports, pki)
        with step(_report, _STEPS[2], 3, len(_STEPS)):
            started = [self._start(component) for component in components.workers(options, ports, pki)]
            self._wait(cluster.create, "kube-apiserver")
            for component in started:
                self._ready(component, context)
        with step(_report, _STEPS[3], 4, len(_STEPS)):
            self._wait(cluster.pending, "the cluster")
        self._ports = ports  # held as long as the cluster lives
        return self._state(ports, server, kubeconfig)

    def _state(self, ports: Ports, server: str, kubeconfig: Path) -> dict[str, Any]:
        content = state.State(
            name=self.options.name,
            supervisor=(os.getpid(), start_time(os.getpid()) or 0),
            components={name: (child.pid, start_time(child.pid) or 0) for name, child in self.children.items()},
            kubeconfig=str(kubeconfig),
            api_url=server,
            prometheus_url=f"http://{ports.address('prometheus')}",
            twin_port=ports["twin"],
            kubectl=str(self.options.binaries["kubectl"]),
            cloud=self.options.cloud,
            detached=self.options.detached,
        )
        state.save(self.options.state_dir, content)
        return dataclasses.asdict(content)

    def _start(self, component: Component) -> Component:
        with (self.log_dir / f"{component.name}.log").open("ab") as log:
            self.children[component.name] = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.options.state_dir,
                preexec_fn=die_with_parent,
            )
        return component

    def _ready(self, component: Component, context: ssl.SSLContext) -> None:
        if component.ready_url:
            self._wait(lambda: "" if _answers(component.ready_url, context) else "no answer yet", component.name)

    def _wait(self, pending: Callable[[], str], what: str) -> None:
        """Until `pending` says "" (else: what is missing); raises UserError when a component ends or time is up."""
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        missing = "not asked yet"
        while missing:
            self._check_components()
            if time.monotonic() > deadline:
                raise UserError(
                    f"{what} was not ready after {READY_TIMEOUT_SECONDS:.0f} s ({missing}): {self._tail(what)}",
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
        if self.options.detached:
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


def _report(event: Event) -> None:
    _say("event", dataclasses.asdict(event))


def _silence_stdout() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _stop(*_: object) -> NoReturn:
    raise Stopped


def main() -> int:
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's: it closes our standard input
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as unbuffered:  # select() must see what follows
        raw = unbuffered.readline()
    if not raw:
        return 0
    try:
        Supervisor(Options.from_json(json.loads(raw))).run()
    except Stopped:
        return 0
    except UserError as error:
        _say("error", {"message": error.message, "fix": error.fix, "exit_code": error.exit_code})
        return 1
    except OSError as error:
        _say("error", {"message": f"the cluster cannot run: {error}", "fix": _FIX, "exit_code": 1})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
