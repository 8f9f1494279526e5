"""One emulated server in its own process: real sockets, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from gpu_inference.errors import UserError
from gpu_inference.twin.replica import Refused, Replica
from gpu_inference.twin.spec import ServerSpec


def low_level_runner(handler: Callable) -> web.ServerRunner:
    """A server without routing or access log whose handlers are cancelled when their client goes away."""
    server = web.Server(handler, access_log=None, handler_cancellation=True)  # type: ignore[arg-type]
    return web.ServerRunner(server, shutdown_timeout=0.0)


async def listen(runner: web.ServerRunner, host: str, port: int) -> web.TCPSite:
    """Bind a port. UserError when it is taken."""
    site = web.TCPSite(runner, host, port, backlog=1024)
    try:
        await site.start()
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", fix="choose another --port"
        ) from error
    return site


def bound_port(site: web.TCPSite) -> int:
    """The port a site listens on, also when it was asked for port 0."""
    server = site._server
    assert isinstance(server, asyncio.Server)
    return int(server.sockets[0].getsockname()[1])


class Process:
    """A replica with a socket for each of its ports. `before` may answer a request in the server's place."""

    def __init__(self, spec: ServerSpec, host: str, ports: Mapping[str, int], report: Callable[[str], None]) -> None:
        self.spec, self.host, self.ports = spec, host, ports
        self.replica = Replica(spec, self._close_sites)
        self._report = report
        self._sites: dict[str, web.TCPSite] = {}
        self._runners: list[web.ServerRunner] = []
        self._terminated = asyncio.Event()
        self.before: Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]] | None = None

    async def run(self) -> int:
        """Load, serve, and end on SIGTERM as the preset says. Returns the exit code."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminated.set)
        try:
            return await self._live()
        finally:
            for runner in self._runners:
                await runner.cleanup()

    async def _live(self) -> int:
        early = self.replica.open()
        if early:
            await self._listen()
        if not await self._load():
            self.replica.kill()
            return 0
        self.replica.start()
        if not early:
            await self._listen()
        urls = " ".join(f"{name}=http://{self.host}:{bound_port(site)}" for name, site in self._sites.items())
        self._report(f"twin: listening on {urls} ({self.spec.runtime}, {self.spec.served_name}, simulated)")
        await self._terminated.wait()
        await self.replica.terminate()
        return self.replica.exit_code

    async def _listen(self) -> None:
        for name, port in self.ports.items():
            runner = low_level_runner(self._handler(name))
            await runner.setup()
            self._runners.append(runner)
            self._sites[name] = await listen(runner, self.host, port)

    async def _load(self) -> bool:
        """Wait for the model to load; False when a signal ended the process meanwhile."""
        loop = asyncio.get_running_loop()
        loaded = loop.time() + self.spec.load_seconds
        if self.spec.load_seconds:
            self._report(f"twin: loading {self.spec.served_name} for {self.spec.load_seconds:g} s")
        while (left := loaded - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._terminated.wait(), left)
            if self._terminated.is_set():
                if self.spec.contract["lifecycle"]["whileLoading"] == "exit":
                    return False
                self._terminated.clear()  # swallowed: the server comes up and serves until the next signal
        return True

    def _handler(self, port: str) -> Callable:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            try:
                early = await self.before(request) if self.before else None
                return early if early is not None else await self.replica.handle(request, port, request.path)
            except Refused:  # an idle connection from before the port closed
                if request.transport:
                    request.transport.abort()
                return web.Response(status=503)

        return handle

    def _close_sites(self, listening: set[str]) -> None:
        for name in set(self._sites) - listening:
            site = self._sites.pop(name)
            server = site._server
            if server is not None:
                server.close()  # stops accepting; connections with requests in flight live on
