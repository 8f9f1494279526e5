"""What the emulated servers share: the metrics endpoint, requests in flight, and the answers every server gives."""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from gpu_inference.twin.exposition import Registry
from gpu_inference.twin.spec import ServerSpec

HEADERS = {"x-simulated": "gpu-inference-twin"}
JSON = {"content-type": "application/json", **HEADERS}
TEXT = {"content-type": "text/plain; version=0.0.4; charset=utf-8", **HEADERS}

Handler = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


def answer(status: int, body: bytes | dict[str, Any] = b"", headers: dict[str, str] = JSON) -> web.Response:
    """A whole response."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    return web.Response(status=status, body=raw, headers=headers)


def answer_from(body: Any, status: int = 200) -> web.Response:
    """A body as contracts write it: text as it is, anything else as JSON."""
    if isinstance(body, str):
        return web.Response(status=status, text=body, headers=HEADERS)
    return answer(status, json.dumps(body).encode())


class Server(ABC):
    """One emulated server process, once it has loaded. Subclasses emulate an API."""

    registry: Registry
    early: frozenset[str] = frozenset()  # paths that are answered while the model loads

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.transports: set[asyncio.Transport] = set()
        self.in_flight = self.finished = self.failed = 0
        self.draining = False  # SIGTERM has come
        self._idle = asyncio.Event()
        self._idle.set()
        self.started = time.time()
        self._held: float = spec.contract["metrics"].get("gaugeSeconds", 0)
        self._clock: asyncio.TimerHandle | None = None

    @abstractmethod
    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer a request to a serving port."""

    @abstractmethod
    def load(self) -> dict[str, float]:
        """running, waiting, kvCacheUsage, promptTokens, generatedTokens."""

    @abstractmethod
    def update_gauges(self) -> None:
        """Bring the registry's gauges up to date."""

    @abstractmethod
    def abort_all(self) -> None:
        """End what is in flight at once, as the runtime does when it is told to stop without draining."""

    def halt(self) -> None:
        """Stop working; what is in flight stays open and silent."""
        if self._clock:
            self._clock.cancel()

    def hold_gauges(self) -> None:
        """From now on, in a runtime that exports its gauges by the clock, scrapes see them as they were then."""
        if self._held:
            self.update_gauges()
            self._clock = asyncio.get_running_loop().call_later(self._held, self.hold_gauges)

    async def handle(self, request: web.BaseRequest, port: str, path: str) -> web.StreamResponse:
        """Answer a request that came in at a named port."""
        if port == self.spec.metrics_port and path == self.spec.metrics_path:
            if not self._held:
                self.update_gauges()
            return answer(200, self.registry.render(), TEXT)
        if port not in self.spec.serving_ports:
            return answer(404, {"error": "Not Found"})
        return await self.serve(request, path)

    @contextmanager
    def tracked(self, request: web.BaseRequest) -> Iterator[None]:
        """Counts a request as in flight; its connection is cut if the process crashes."""
        transport = request.transport
        self.in_flight += 1
        self._idle.clear()
        if transport:
            self.transports.add(transport)
        try:
            yield
        finally:
            self.in_flight -= 1
            self.transports.discard(transport)  # type: ignore[arg-type]
            if not self.in_flight:
                self._idle.set()

    async def idle(self) -> None:
        """Returns once nothing is in flight."""
        await self._idle.wait()

    def cut(self) -> None:
        """Reset every connection with a request in flight, as a killed process does."""
        for transport in list(self.transports):
            transport.abort()

    def status(self) -> dict[str, Any]:
        """The figures of /twin/status."""
        return {"inFlight": self.in_flight, "finished": self.finished, "failed": self.failed, **self.load()}
