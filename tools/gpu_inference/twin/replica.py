"""One emulated server process from start to exit: it loads, serves, drains as its preset says, and is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gpu_inference.errors import UserError
from gpu_inference.twin.openai import OpenAIServer
from gpu_inference.twin.server import Server
from gpu_inference.twin.spec import ServerSpec
from gpu_inference.twin.triton import TritonServer

# A preset's `api` -> the server that speaks it.
APIS: dict[str, type[Server]] = {"openai": OpenAIServer, "triton": TritonServer}


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

    def start(self) -> Server:
        """The model is loaded: listen. UserError when the model does not fit."""
        self.server = APIS[self.spec.api](self.spec)
        self.state, self.listening = "serving", set(self.spec.ports)
        return self.server

    async def handle(self, request: web.BaseRequest, port: str, path: str) -> web.StreamResponse:
        """Answer a request to a named port. Raises Refused when nothing listens there."""
        if self.server is None or port not in self.listening:
            raise Refused(port)
        return await self.server.handle(request, port, path)

    async def terminate(self) -> None:
        """SIGTERM, once serving. Returns when the process has exited; never, if the preset ignores the signal."""
        server, life = self.server, self.spec.contract["lifecycle"]
        signal = SIGNALS[self.spec.sigterm]
        if server is None or not signal.stops:
            await asyncio.Event().wait()
            return
        self.state, server.refusing = "draining", True
        if signal.closes:
            self._close(self.spec.serving_ports)
        if signal.finishes and self.spec.drain_seconds > 0:
            try:
                await asyncio.wait_for(server.idle(), self.spec.drain_seconds)
            except TimeoutError:
                await self._past_deadline(server)
            await asyncio.sleep(life["teardownSeconds"])
        else:
            server.abort_all()
            await asyncio.sleep(life["abortSeconds"])
        self.kill()

    def kill(self) -> None:
        """The process is gone: what was in flight is reset."""
        if self.server is not None:
            self.server.halt()
            self.server.cut()
        self.state = "exited"
        self._close(set(self.listening))

    def status(self) -> dict[str, Any]:
        """state, and the server's figures (0 before it serves)."""
        empty = {"inFlight": 0, "finished": 0, "failed": 0, "running": 0, "waiting": 0, "kvCacheUsage": 0.0}
        figures = self.server.status() if self.server else {**empty, "promptTokens": 0, "generatedTokens": 0}
        return {"state": self.state, **figures}

    async def _past_deadline(self, server: Server) -> None:
        """Work that outlasts the drain: dropped, or left hanging until the clients give up."""
        life = self.spec.contract["lifecycle"]
        server.halt()
        self._close(self.spec.serving_ports)
        if life["pastDeadline"] == "drop":
            self.exit_code = life["pastDeadlineExit"]
            server.cut()
        await server.idle()

    def _close(self, ports: set[str]) -> None:
        self.listening -= ports
        self._on_ports(set(self.listening))
