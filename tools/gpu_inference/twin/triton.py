"""A server with Triton's HTTP API (KServe v2): an ensemble whose batches take the contract's service times."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from gpu_inference.serving.batch import BatchResult, Job
from gpu_inference.twin.batching import MICRO, BatchServer
from gpu_inference.twin.contract import build_registry
from gpu_inference.twin.openai_wire import FINGERPRINT
from gpu_inference.twin.server import HEADERS, answer
from gpu_inference.twin.spec import ServerSpec

VERSION = "1"


class TritonServer(BatchServer):
    """One ensemble; its members have metrics of their own, and requests wait in the batching member's queue."""

    def __init__(self, spec: ServerSpec) -> None:
        super().__init__(spec)
        service = spec.contract["service"]
        self.members: dict[str, float] = service["members"]
        self.batching: str = service["batching"]
        models = {spec.served_name: "", **{member: f"{member}." for member in self.members}}
        self.registry = build_registry(spec.contract, spec.model_label, models, {}, self.started)
        self._paths = {
            "infer": self._infer,
            "generate": self._generate,
            "generate_stream": self._generate_stream,
        }

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """/v2, /v2/health/{live,ready}, /v2/models/<model>[/versions/<v>][/ready|/infer|/generate|/generate_stream]."""
        parts = path.strip("/").split("/")
        if parts[0] != "v2":
            return answer(404, b"", HEADERS)
        if parts[1:] in (["health", "live"], ["health", "ready"]):
            return answer(200, b"", HEADERS)
        if len(parts) == 1:
            return answer(200, self._metadata())
        if parts[1] == "models" and len(parts) > 2:
            return await self._model(request, parts[2], parts[3:])
        return answer(404, b"", HEADERS)

    def update_gauges(self) -> None:
        self.registry.set(f"{self.batching}.pending", float(len(self.engine.waiting)))

    def _metadata(self) -> dict[str, Any]:
        extensions = ["classification", "model_repository", "schedule_policy", "statistics"]
        version = self.spec.contract["version"]
        return {"name": "triton", "version": version, "extensions": extensions, "simulated": FINGERPRINT}

    async def _model(self, request: web.BaseRequest, model: str, rest: list[str]) -> web.StreamResponse:
        if model != self.spec.served_name and model not in self.members:
            return answer(400, {"error": f"Request for unknown model: '{model}' is not found"})
        if rest[:1] == ["versions"]:
            if rest[1:2] != [VERSION]:
                return answer(400, {"error": f"Request for unknown model: '{model}' version is not found"})
            rest = rest[2:]
        if rest == ["ready"]:
            return answer(200, b"", HEADERS)
        if not rest:
            card = {"name": model, "versions": [VERSION], "platform": "ensemble", "inputs": [], "outputs": []}
            return answer(200, card)
        handler = self._paths.get("/".join(rest))
        if handler is None or request.method != "POST":
            return answer(404 if handler is None else 405, b"", HEADERS)
        with self.tracked(request):
            body = self._body(await request.read(), request.headers.get("Inference-Header-Content-Length"))
            if body is None:
                return self._reject("failed to parse the request JSON buffer")
            return await handler(request, body)

    @staticmethod
    def _body(raw: bytes, header_length: str | None) -> dict[str, Any] | None:
        """The JSON of a request; with the binary data extension it is the first part of the body."""
        try:
            body = json.loads(raw[: int(header_length)] if header_length else raw)
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    def _reject(self, message: str) -> web.Response:
        self.failed += 1
        self.registry.add("rejected")
        return answer(400, {"error": message})

    async def _infer(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or not inputs or not isinstance(inputs[0], dict):
            return self._reject("Unable to parse 'inputs': attempt to access non-existing object member 'inputs'")
        shape = inputs[0].get("shape")
        if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
            return self._reject("Unable to parse 'shape': attempt to access non-existing object member 'shape'")
        items = shape[0] if shape else 1
        failure = await self._work(items)
        if failure:
            return failure
        output = {"name": "OUTPUT", "datatype": "FP32", "shape": [items, 1], "data": [0.5] * items}
        reply = {"model_name": self.spec.served_name, "model_version": VERSION, "outputs": [output]}
        if "id" in body:
            reply["id"] = body["id"]
        return answer(200, reply)

    async def _generate(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        failure = await self._work(1)
        return failure or answer(200, self._text(body))

    async def _generate_stream(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        failure = await self._work(1)
        event = b"data: " + json.dumps(self._text(body)).encode() + b"\n\n"
        return failure or answer(200, event, {"content-type": "text/event-stream; charset=utf-8", **HEADERS})

    def _text(self, body: dict[str, Any]) -> dict[str, Any]:
        text = f"simulated answer to {len(str(body.get('text_input', '')))} characters"
        return {"model_name": self.spec.served_name, "model_version": VERSION, "text_output": text}

    async def _work(self, items: int) -> web.Response | None:
        """Queue a request of `items` items and wait for it; the answer to give instead when it did not work."""
        try:
            done = await self.work(items)
        except ValueError as error:
            limit = self.engine.service.max_items
            model = self.spec.served_name
            message = f"inference request batch-size must be <= {limit} for '{model}'" if items > limit else str(error)
            return self._reject(message)
        if done:
            return None
        stopping = "Server is stopping, scheduler for model has stopped accepting new inference requests"
        return answer(503, {"error": stopping})

    def count(self, result: BatchResult) -> None:
        busy = (result.end - result.started) * MICRO
        for member in self.members:
            self.registry.add(f"{member}.executions")
        for job in result.finished:
            queued = (job.started - job.arrival) * MICRO
            self._count("", job, busy, queued)
            for member, share in self.members.items():
                self._count(f"{member}.", job, busy * share, queued if member == self.batching else 0.0)
            self.registry.add("executions")

    def _count(self, prefix: str, job: Job, busy: float, queued: float) -> None:
        add = self.registry.add
        add(f"{prefix}success")
        add(f"{prefix}items", job.items)
        add(f"{prefix}inferUs", round(busy))
        add(f"{prefix}queueUs", round(queued))
        add(f"{prefix}requestUs", round(busy) + round(queued))
