"""A server with the OpenAI API, as vLLM's: continuous batching, streaming, its errors and its metrics."""

from __future__ import annotations

import asyncio
import time
import uuid

from aiohttp import HttpVersion11, web

from gpu_inference.serving.engine import BLOCK, Sequence, StepResult
from gpu_inference.twin.contract import build_registry
from gpu_inference.twin.driver import Driver
from gpu_inference.twin.openai_wire import ApiError, Wanted, Writer, read_request
from gpu_inference.twin.server import HEADERS, Handler, Server, answer, answer_from
from gpu_inference.twin.spec import ServerSpec, token_engine

EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **HEADERS}


class Sink:
    """Where the tokens of one sequence go: straight into the socket when it streams, else they are only counted."""

    __slots__ = ("_chunked", "_frame", "_transport", "_writer", "done", "reason", "sequence", "wanted")

    def __init__(self, wanted: Wanted, writer: Writer) -> None:
        self.wanted = wanted
        self.reason = ""
        self.done = asyncio.get_running_loop().create_future()
        self.sequence = Sequence(uuid.uuid4().hex, wanted.prompt, wanted.output, owner=self)
        self._writer = writer
        self._transport: asyncio.WriteTransport | None = None
        self._chunked = False
        self._frame = b""

    def attach(self, transport: asyncio.WriteTransport, chunked: bool) -> None:
        """Stream into a connection whose headers are out."""
        self._transport, self._chunked = transport, chunked
        self._frame = self._framed(self._writer.token())
        self._send(self._framed(self._writer.opening()))

    def token(self) -> None:
        self._send(self._frame)

    def finish(self, reason: str, text: bool = True) -> None:
        """The last token, or an abort between tokens."""
        if self.done.done():
            return
        self.reason = reason
        pieces = {} if text else {"text": ""}
        self._send(self._framed(self._writer.closing(reason, self.sequence.generated, **pieces)))
        self.done.set_result(None)

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    def _send(self, data: bytes) -> None:
        # Past aiohttp's writer: one call a token, no task is woken. What a slow client has not read is bounded by its
        # answer.
        if self._transport is not None and data and not self._transport.is_closing():
            self._transport.write(data)


class OpenAIServer(Server):
    """Completions and chat completions of one model."""

    def __init__(self, spec: ServerSpec) -> None:
        super().__init__(spec)
        built = token_engine(spec)
        self.engine, self.context = built.engine, built.context
        tokens = self.engine.limits.kv_tokens
        facts = {
            "contextLength": self.context,
            "memoryFraction": built.memory_fraction,
            "kvTokens": tokens,
            "kvBlocks": tokens // BLOCK,
            "kvConcurrency": round(tokens / self.context, 2),
        }
        self._life = spec.contract["lifecycle"]
        self._http = spec.contract.get("http", {})
        self._tokens = {"promptTokens": 0, "generatedTokens": 0}
        models = {spec.served_name: ""}
        self.registry = build_registry(spec.contract, spec.model_label, models, facts, self.started)
        self.registry.set("awake", 1.0)
        self.driver = Driver(self.engine, self._on_step)
        self._sinks: set[Sink] = set()
        self._requests = 0
        self._uncounted = set(self._http.get("uncounted", ()))
        self.early = frozenset(self._http["paths"].get("live", ()))
        health = [path for paths in self._http["paths"].values() for path in paths]
        self._routes: dict[tuple[str, str], Handler] = {
            **{("GET", path): self._health for path in health},
            **({("POST", "/ping"): self._health} if "/ping" in health else {}),
            ("GET", "/version"): self._version,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/completions"): self._generate,
            ("POST", "/v1/chat/completions"): self._generate,
        }
        self._paths = {path for _, path in self._routes}

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Route, and count what vLLM's HTTP middleware counts."""
        handler = self._routes.get((request.method, path))
        began = time.perf_counter()
        if handler:
            response = await handler(request, path)
        else:
            known = path in self._paths
            response = answer(405 if known else 404, {"detail": "Method Not Allowed" if known else "Not Found"})
        if path not in self._uncounted:
            self._count_http(request, path if path in self._paths else "none", response, time.perf_counter() - began)
        return response

    def load(self) -> dict[str, float]:
        return {
            "running": len(self.engine.running),
            "waiting": len(self.engine.waiting),
            "kvCacheUsage": round(self.engine.kv_usage, 4),
            **self._tokens,
        }

    def update_gauges(self) -> None:
        self.registry.set("running", float(len(self.engine.running)))
        self.registry.set("waiting", float(len(self.engine.waiting)))
        self.registry.set("kvCacheUsage", self.engine.kv_usage)
        self.registry.set("inFlight", float(self.in_flight))

    def abort_all(self) -> None:
        for sink in list(self._sinks):
            self.engine.abort(sink.sequence)
            sink.finish("abort", text=False)

    def halt(self) -> None:
        super().halt()
        self.driver.stop()

    async def _health(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        await asyncio.sleep(self._http.get("slow", {}).get(path, 0))
        if self.draining and path in self._life.get("unready", ()):
            return answer(503, b"", HEADERS)
        return answer_from(self._life.get("healthy", ""))

    async def _version(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        return answer(200, {"version": self.spec.contract["version"], "simulated": True})

    async def _models(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        card = {
            "id": self.spec.served_name,
            "object": "model",
            "created": int(self.started),
            "owned_by": "gpu-inference-twin",
            "root": self.spec.served_name,
            "parent": None,
            "max_model_len": self.context,
        }
        return answer(200, {"object": "list", "data": [card]})

    async def _generate(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        refusal = self._life.get("refusal")
        if self.draining and refusal:
            self.failed += 1
            return answer(refusal["status"], ApiError(refusal["status"], refusal["message"], refusal["type"]).body)
        self._requests += 1
        with self.tracked(request):
            chat = path.endswith("/chat/completions")
            try:
                raw = await request.read()
                served = "" if self._http.get("anyModel") else self.spec.served_name
                wanted = read_request(raw, chat, served, self.context, self._requests)
            except ApiError as error:
                self.failed += 1
                return answer(error.status, error.body)
            self.registry.add("arrived")
            writer = Writer(wanted, uuid.uuid4().hex, self.spec.served_name)
            sink = Sink(wanted, writer)
            self._sinks.add(sink)
            try:
                return await (self._stream(request, sink) if wanted.stream else self._whole(sink, writer))
            except asyncio.CancelledError:
                self.engine.abort(sink.sequence)
                sink.reason = "abort"
                raise
            finally:
                self._sinks.discard(sink)
                self._record(sink)

    async def _stream(self, request: web.BaseRequest, sink: Sink) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers=EVENTS)
        chunked = request.version >= HttpVersion11
        if chunked:
            response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"")  # headers now, not with the first token
        if request.transport is not None:
            sink.attach(request.transport, chunked)
        self.driver.submit(sink.sequence)
        await sink.done
        await response.write_eof()
        return response

    async def _whole(self, sink: Sink, writer: Writer) -> web.StreamResponse:
        self.driver.submit(sink.sequence)
        await sink.done
        return answer(200, writer.whole(sink.reason, sink.sequence.generated))

    def _on_step(self, result: StepResult) -> None:
        registry = self.registry
        gaps: dict[float, int] = {}
        for sequence in result.tokens:
            sink: Sink = sequence.owner
            if sequence.finished:
                sink.finish(sink.wanted.reason)
            else:
                sink.token()
            if sequence.generated > 1:
                gaps[sequence.gap] = gaps.get(sequence.gap, 0) + 1
        for gap, count in gaps.items():
            registry.observe("interToken", gap, count)
        for sequence in result.first:
            registry.observe("firstToken", sequence.first_token - sequence.arrival)
            self._count_tokens("promptTokens", sequence.prompt)
        self._count_tokens("generatedTokens", len(result.tokens))
        registry.add("steps")
        registry.observe("stepTokens", len(result.tokens) + result.prefill)
        if result.preemptions:
            registry.add("preemptions", result.preemptions)

    def _count_tokens(self, feed: str, tokens: int) -> None:
        self._tokens[feed] += tokens
        self.registry.add(feed, tokens)

    def _record(self, sink: Sink) -> None:
        """A request's own histograms, at its end."""
        sequence, registry = sink.sequence, self.registry
        registry.add(f"finished.{sink.reason}")
        if sink.reason == "abort":
            self.failed += 1
            return
        self.finished += 1
        registry.add("finished")
        end, first = sequence.last_token, sequence.first_token
        registry.observe("endToEnd", end - sequence.arrival)
        registry.observe("queue", sequence.started - sequence.arrival)
        registry.observe("prefill", first - sequence.started)
        registry.observe("decode", end - first)
        registry.observe("inference", end - sequence.started)
        registry.observe("timePerToken", (end - first) / max(1, sequence.generated - 1))
        registry.observe("requestPrompt", sequence.prompt)
        registry.observe("requestGenerated", sequence.generated)
        registry.observe("requestMaxTokens", sink.wanted.max_tokens)
        registry.observe("requestPreemptions", sequence.preemptions)
        registry.observe("requestN", 1)

    def _count_http(self, request: web.BaseRequest, path: str, response: web.StreamResponse, seconds: float) -> None:
        labels = {"handler": path, "method": request.method, "status": f"{response.status // 100}xx"}
        sizes = {"httpIn": request.content_length or 0, "httpOut": response.content_length or 0}
        for feed, value in {**sizes, "httpSeconds": seconds}.items():
            for series in self.registry.dynamic(feed, labels):
                series.observe(value)
        for series in self.registry.dynamic("http", labels):
            series.add(1)
        self.registry.observe("httpFine", seconds)
