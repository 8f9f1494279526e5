"""One process behind all pods of a cluster whose pods have no sockets, reached through the API server's proxy URLs.

/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy/{path}   a random ready endpoint
/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{path}           that pod
/twin/status                                                            JSON, for live views
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from gpu_inference.twin.endpoints import Endpoints
from gpu_inference.twin.kube import KubeClient
from gpu_inference.twin.pods import Pods, Specs
from gpu_inference.twin.replica import Refused
from gpu_inference.twin.server import answer
from gpu_inference.twin.standalone import bound_port, listen, low_level_runner

SUMMED = ("inFlight", "running", "waiting", "finished", "failed", "promptTokens", "generatedTokens")


def status_error(code: int, reason: str, message: str) -> web.Response:
    """An error as the API server writes it."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return answer(code, body | {"message": message, "reason": reason, "code": code})


def unavailable(message: str) -> web.Response:
    return status_error(503, "ServiceUnavailable", message)


class Router:
    """Finds the emulated server of a request."""

    def __init__(self, pods: Pods, endpoints: Endpoints) -> None:
        self.pods, self.endpoints = pods, endpoints
        self.unroutable = 0
        self._kinds = {"pods": self._to_pod, "services": self._to_service}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request to the twin."""
        parts = request.path.split("/", 8)  # "", api, v1, namespaces, NS, KIND, NAME:PORT, proxy, PATH
        if len(parts) >= 8 and parts[1:4] == ["api", "v1", "namespaces"] and parts[7] == "proxy":
            forward = self._kinds.get(parts[5])
            if forward:
                name, port = self._target(parts[6])
                return await forward(request, parts[4], name, port, "/" + (parts[8] if len(parts) > 8 else ""))
        if request.path == "/twin/status":
            return answer(200, self.status())
        return status_error(
            404, "NotFound", f"the twin serves pod and service proxy URLs and /twin/status, not {request.path}"
        )

    def status(self) -> dict[str, Any]:
        """The figures of every pod and their sums."""
        pods = [pod.status() for pod in self.pods.by_name.values()]
        totals = {key: sum(pod.get(key, 0) for pod in pods) for key in SUMMED}
        return {"simulated": True, "pods": pods, "totals": {"pods": len(pods), **totals, "unroutable": self.unroutable}}

    @staticmethod
    def _target(text: str) -> tuple[str, str]:
        """name, port of `name`, `name:port` or `scheme:name:port`."""
        pieces = text.split(":")
        return (pieces[1], pieces[2]) if len(pieces) == 3 else (pieces[0], pieces[1] if len(pieces) == 2 else "")

    async def _to_service(
        self, request: web.BaseRequest, namespace: str, name: str, port: str, path: str
    ) -> web.StreamResponse:
        found = self.endpoints.pick(namespace, name, port)
        if isinstance(found, str):
            self.unroutable += 1
            return unavailable(found)
        return await self._to_pod(request, namespace, found[0], str(found[1]), path)

    async def _to_pod(
        self, request: web.BaseRequest, namespace: str, name: str, port: str, path: str
    ) -> web.StreamResponse:
        pod = self.pods.by_name.get((namespace, name))
        if pod is None:
            return status_error(404, "NotFound", f'pods "{name}" not found')
        if pod.replica is None:
            return unavailable(f"pod {name} cannot be emulated: {pod.problem}")
        if not port and pod.ports:
            port = next(iter(pod.ports.values()))
        try:
            return await pod.replica.handle(request, pod.port_name(port), path)
        except Refused:
            return unavailable(
                f"error trying to reach pod {name} ({pod.replica.state}): port {port}: connection refused"
            )


async def run(kubeconfig: Path, resolved: Path, host: str, port: int, report: Callable[[str], None]) -> int:
    """Serve until SIGTERM or SIGINT. UserError when a file or the cluster cannot be read or the port is taken."""
    async with KubeClient(kubeconfig) as client:
        await client.check()
        pods, endpoints = Pods(client, Specs(resolved), report), Endpoints(client)
        runner = low_level_runner(Router(pods, endpoints).handle)
        await runner.setup()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            site = await listen(runner, host, port)
            report(f"twin: listening on http://{host}:{bound_port(site)} (embedded)")
            # What lives now lives to the end; the rest is small and short-lived.
            gc.freeze()
            gc.set_threshold(50_000, 20, 50)
            await _until(stop, pods.follow(), endpoints.follow_services(), endpoints.follow_slices())
        finally:
            pods.close()
            await runner.cleanup()
    return 0


async def _until(stop: asyncio.Event, *followers: Any) -> None:
    """Run the followers until `stop`; a follower that fails ends everything with its error."""
    tasks = [asyncio.create_task(follower) for follower in followers]
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)
