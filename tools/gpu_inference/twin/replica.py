"""One emulated server process from start to exit: it loads, serves, drains as its preset says, and is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gpu_inference.errors import UserError
from gpu_inference.twin.generic import GenericServer
from gpu_inference.twin.openai import OpenAIServer
from gpu_inference.twin.server import Server, answer_from
from gpu_inference.twin.spec import ServerSpec
from gpu_inference.twin.triton import TritonServer

# A preset's `api` -> the server that speaks it.
APIS: dict[str, type[Server]] = {
    "openai": OpenAIServer,
    "triton": TritonServer,
    **dict.fromkeys(("bentoml", "custom", "ray-serve", "tf-serving", "torchserve"), GenericServer),
}


@dataclass(frozen=True)
class Signal:
    """What SIGTERM does: whether the process stops at all, drops or finishes its work, and closes its serving ports
    first."""

    stops: bool = True
    finishes: bool = True
    closes: bool = False


# A preset's lifecycle.sigterm.
SIGNALS = {
    "finishInFlight": Signal(),
    "closeListener": Signal(closes=True),
    "abort": Signal(finishes=False),
    "ignore": Signal(stops=False),
}


class Refused(Exception):
    """Nothing listens at this port: the connection would be refused."""


class Replica:
    """state: loading, serving, draining, exited. `on_ports` is told when the set of listening ports shrinks."""

    def __init__(self, spec: ServerSpec, on_ports: Callable[[set[str]], None] = lambda ports: None) -> None:
        if spec.api not in APIS:
            raise UserError(f"the twin does not speak the API {spec.api}", fix=f"use one of: {', '.join(sorted(APIS))}")
        self.spec = spec
        self.state = "loading"
        self.server: Server | None = None
        self.listening: set[str] = set()
        self.exit_code = 0
        self._on_ports = on_ports
        self._life = spec.contract["lifecycle"]
        self._loaded = asyncio.Event()  # or never will be

    def open(self) -> bool:
        """The process is up; True if it listens before the model is loaded. UserError when the model does not fit."""
        if "loading" in self._life:
            self._listen()
        return bool(self.listening)

    def start(self) -> Server:
        """The model is loaded: serve. UserError when the model does not fit."""
        server = self.server or self._listen()
        self.state = "serving"
        self._loaded.set()
        return server

    async def handle(self, request: web.BaseRequest, port: str, path: str) -> web.StreamResponse:
        """Answer a request to a named port. Raises Refused when nothing listens there."""
        if self.server is None or port not in self.listening:
            raise Refused(port)
        if self.state == "loading":
            early = await self._while_loading(self.server, port, path)
            if early is not None:
                return early
        return await self.server.handle(request, port, path)

    async def terminate(self) -> None:
        """SIGTERM, once serving. Returns when the process has exited; never, if the preset ignores the signal."""
        server, life = self.server, self._life
        signal = SIGNALS[self.spec.sigterm]
        if server is None or not signal.stops:
            await asyncio.Event().wait()
            return
        self.state, server.draining = "draining", True
        if signal.closes:
            self._close(self.spec.serving_ports)
        limit = None if life["pastDeadline"] == "wait" else self.spec.drain_seconds
        if signal.finishes and limit != 0:
            try:
                await asyncio.wait_for(server.idle(), limit)
            except TimeoutError:
                await self._past_deadline(server)
            await asyncio.sleep(life["teardownSeconds"])
        else:
            server.abort_all()
            self.exit_code = life.get("abortExit", 0)
            await asyncio.sleep(life["abortSeconds"])
        self.kill()

    def kill(self) -> None:
        """The process is gone: what was in flight is reset."""
        if self.server is not None:
            self.server.halt()
            self.server.cut()
        self.state = "exited"
        self._loaded.set()
        self._close(set(self.listening))

    def status(self) -> dict[str, Any]:
        """state, and the server's figures (0 before it serves)."""
        empty = {"inFlight": 0, "finished": 0, "failed": 0, "running": 0, "waiting": 0, "kvCacheUsage": 0.0}
        figures = self.server.status() if self.server else {**empty, "promptTokens": 0, "generatedTokens": 0}
        return {"state": self.state, **figures}

    async def _past_deadline(self, server: Server) -> None:
        """Work that outlasts the drain: dropped, or left hanging until the clients give up."""
        server.halt()
        self._close(self.spec.serving_ports)
        if self._life["pastDeadline"] == "drop":
            self.exit_code = self._life["pastDeadlineExit"]
            server.cut()
        await server.idle()

    def _listen(self) -> Server:
        self.server = APIS[self.spec.api](self.spec)
        self.server.hold_gauges()
        self.listening = set(self.spec.ports)
        return self.server

    async def _while_loading(self, server: Server, port: str, path: str) -> web.StreamResponse | None:
        """What the contract's `loading` says: an answer, or to wait; None when the request may go on as usual."""
        loading = self._life["loading"]
        metrics = port == self.spec.metrics_port and path == self.spec.metrics_path
        if path in server.early or (metrics and loading == "wait"):
            return None
        if loading != "wait":
            return answer_from(loading.get("body", ""), loading["status"])
        await self._loaded.wait()
        if self.state == "exited":
            raise Refused(port)
        return None

    def _close(self, ports: set[str]) -> None:
        self.listening -= ports
        self._on_ports(set(self.listening))
