"""A server whose API fits in its contract: paths that tell its health, and one that does the work.

`paths` of the contract, with {servedName} in paths and bodies:
    health   {path: body}
    infer    the path of requests; "" takes every other path
    items    the list in a request's body that is its batch; without it a request is one item and its body is not read
    answer   what a request gets, whole; with `items` a map whose values come once an item
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gpu_inference.serving.batch import BatchResult
from gpu_inference.twin.batching import MICRO, BatchServer
from gpu_inference.twin.contract import build_registry
from gpu_inference.twin.server import answer, answer_from
from gpu_inference.twin.spec import ServerSpec


def filled(paths: Mapping[str, Any], served_name: str) -> dict[str, Any]:
    """The contract's paths of one model."""
    name = json.dumps(served_name)[1:-1]
    result: dict[str, Any] = json.loads(json.dumps(paths).replace("{servedName}", name))
    return result


class GenericServer(BatchServer):
    """One model behind one path."""

    def __init__(self, spec: ServerSpec) -> None:
        super().__init__(spec)
        paths = filled(spec.contract["paths"], spec.served_name)
        self._health: dict[str, Any] = paths["health"]
        self._infer: str = paths["infer"]
        self._items: str = paths.get("items", "")
        self._answer: Any = paths["answer"]
        if spec.contract["lifecycle"].get("readyBeforeLoad"):
            self.early = frozenset(self._health)
        models = {spec.served_name: ""}
        self.registry = build_registry(spec.contract, spec.model_label, models, {}, self.started)

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer, and count what the server counts of every request it has a path for."""
        began = time.perf_counter()
        known = path in self._health or self._works(path)
        labels = {"endpoint": path}
        running = self.registry.dynamic("http.running", labels) if known else []
        for series in running:
            series.add(1)
        try:
            response = await self._route(request, path)
        finally:
            for series in running:
                series.add(-1)
        self.registry.set("lastRequest", time.time())
        if known:
            labels["http_response_code"] = str(response.status)
            self._count_http("http", labels, 1)
            self._count_http("httpSeconds", labels, time.perf_counter() - began)
        self._count_http(f"http{response.status // 100}xx", {}, 1)
        return response

    def update_gauges(self) -> None:
        self.registry.set("running", float(len(self.engine.running)))
        self.registry.set("waiting", float(len(self.engine.waiting)))
        self.registry.set("inFlight", float(self.in_flight))

    def abort_all(self) -> None:
        self.cut()

    def count(self, result: BatchResult) -> None:
        record = self.registry.record
        busy = result.end - result.started
        for job in result.finished:
            queued = job.started - job.arrival
            record("success", 1)
            record("inferUs", busy * MICRO)
            record("queueUs", queued * MICRO)
            record("requestUs", (busy + queued) * MICRO)
            record("requestMs", (busy + queued) * 1e3)
            self.registry.set("lastInferMs", busy * 1e3)
            self.registry.set("lastQueueMs", queued * 1e3)

    async def _route(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path in self._health:
            return answer_from(self._health[path])
        if not self._works(path):
            return answer(404, {"error": "Not Found"})
        with self.tracked(request):
            self.registry.add("arrived")
            raw = await request.read()
            try:
                items = self._count_items(raw) if self._items else 1
                done = await self.work(items)
            except ValueError as error:
                self.failed += 1
                self.registry.add("rejected")
                return answer(400, {"error": str(error)})
        if not done:
            return answer(503, {"error": "the server is stopping"})
        if self._items:
            return answer_from({name: [value] * items for name, value in self._answer.items()})
        return answer_from(self._answer)

    def _works(self, path: str) -> bool:
        return path == self._infer or not self._infer

    def _count_items(self, raw: bytes) -> int:
        """The length of the body's list. ValueError without one."""
        try:
            body = json.loads(raw)
        except ValueError:
            raise ValueError("JSON parse error") from None
        items = body.get(self._items) if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise ValueError(f"Missing '{self._items}' key")
        return len(items)

    def _count_http(self, feed: str, labels: Mapping[str, str], value: float) -> None:
        for series in self.registry.dynamic(feed, labels):
            series.record(value)
