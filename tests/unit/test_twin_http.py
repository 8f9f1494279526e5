"""The emulated HTTP APIs over loopback: lengths, errors, queueing, clients that leave."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import runpy
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from runtimes.twin_support import EMULATED, Live, eventually, live, resolved

from gpu_inference.errors import UserError
from gpu_inference.paths import CHART
from gpu_inference.serving.model import shape_of
from gpu_inference.twin.openai_wire import FINGERPRINT, STOP_MEDIAN, read_request
from gpu_inference.twin.replica import SIGNALS, Replica
from gpu_inference.twin.spec import server_spec
from gpu_inference.values.presets import load_presets


def on(spec: dict[str, Any], check: Callable[[Live], Awaitable[None]]) -> None:
    """Run a check against a live server."""

    async def run() -> None:
        async with live(spec) as server:
            await check(server)

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_streams_have_exactly_the_tokens_asked_for(path: str) -> None:
    async def check(server: Live) -> None:
        chat = "chat" in path
        prompt = {"messages": [{"role": "user", "content": "x" * 400}]} if chat else {"prompt": [7] * 100}
        events = await server.stream(
            path, max_tokens=37, ignore_eos=True, stream_options={"include_usage": True}, **prompt
        )
        assert events.pop() == "[DONE]"
        usage = events.pop()
        assert usage["choices"] == []
        assert usage["usage"] == {
            "prompt_tokens": 104 if chat else 100,
            "total_tokens": 141 if chat else 137,
            "completion_tokens": 37,
        }
        if chat:
            assert events.pop(0)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        choices = [event["choices"][0] for event in events]
        texts = [choice["delta"]["content"] if chat else choice["text"] for choice in choices]
        assert [len(text) for text in texts] == [4] * 37
        assert [choice["finish_reason"] for choice in choices] == [None] * 36 + ["length"]
        assert {event["system_fingerprint"] for event in events} == {FINGERPRINT}
        assert len({event["id"] for event in events}) == 1

    on(resolved(), check)


def test_whole_answers_count_the_same() -> None:
    async def check(server: Live) -> None:
        status, body = await server.post(
            "/v1/completions", model="tiny", prompt="x" * 41, max_tokens=9, ignore_eos=True
        )
        assert (status, body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (200, 11, 9)
        assert len(body["choices"][0]["text"]) == 36
        status, body = await server.post(
            "/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], max_tokens=2
        )
        assert (status, body["object"], body["system_fingerprint"]) == (200, "chat.completion", FINGERPRINT)
        assert body["choices"][0]["message"]["role"] == "assistant"

    on(resolved(), check)


@pytest.mark.parametrize("runtime", EMULATED)
def test_the_presets_canaries_pass(runtime: str) -> None:
    """What `helm test` will send, with the answer it expects, as it judges it."""
    problem = runpy.run_path(str(CHART / "files" / "canary.py"))["problem"]

    async def check(server: Live) -> None:
        canary = server.replica.spec.resolved["runtimePreset"]["canary"]
        body = json.dumps(canary.get("body")).replace("{servedName}", "tiny") if "body" in canary else None
        url = server.urls["http"] + canary["path"].replace("{servedName}", "tiny")
        async with server.client.request(canary["method"], url, data=body) as response:
            assert problem(canary["expect"], response.status, await response.text()) is None

    on(resolved(runtime), check)


@pytest.mark.parametrize("runtime", EMULATED)
def test_probes_of_the_presets_answer_200(runtime: str) -> None:
    async def check(server: Live) -> None:
        for probe in server.replica.spec.resolved["runtimePreset"]["probes"].values():
            assert (await server.get(probe["path"].replace("{servedName}", "tiny"), probe["port"]))[0] == 200

    on(resolved(runtime), check)


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        ({"model": "other", "prompt": "a"}, 404, "NotFoundError", "`other` does not exist"),
        ({"prompt": [1] * 1000, "max_tokens": 25}, 400, "BadRequestError", "maximum context length is 1024 tokens"),
        ({"prompt": [1] * 1024}, 400, "BadRequestError", "requested 1025 tokens"),
        ({"prompt": "a", "max_tokens": 0}, 400, "BadRequestError", "max_tokens must be at least 1"),
        ({"prompt": "a", "max_tokens": "many"}, 400, "BadRequestError", "max_tokens must be at least 1"),
        ({"prompt": []}, 400, "BadRequestError", "non-empty"),
        ({"prompt": ["a", "b"]}, 400, "BadRequestError", "one prompt"),
        ({"prompt": "a", "n": 2}, 400, "BadRequestError", "n must be 1"),
        ({"prompt": "a", "n": 2, "stream": True}, 400, "BadRequestError", "n must be 1"),
    ],
)
def test_errors_have_the_openai_body(body: dict[str, Any], status: int, kind: str, message: str) -> None:
    async def check(server: Live) -> None:
        found, answer = await server.post("/v1/completions", **body)
        assert (found, answer["error"]["type"], answer["error"]["code"]) == (status, kind, status)
        assert message in answer["error"]["message"]
        assert await server.metric('http_requests_total{handler="/v1/completions",method="POST",status="4xx"}') == 1

    on(resolved(), check)


def test_nonsense_gets_an_error_and_the_server_lives() -> None:
    async def check(server: Live) -> None:
        for raw in (b"", b"{", b"[]", b"\xff\xfe", b'{"prompt": {}}'):
            async with server.client.post(server.urls["http"] + "/v1/completions", data=raw) as response:
                assert response.status == 400
        assert (await server.post("/v1/chat/completions", messages="hello"))[0] == 400
        assert (await server.get("/nowhere"))[0] == 404
        assert (await server.get("/v1/completions"))[0] == 405
        assert (await server.get("/health"))[0] == 200
        assert (await server.get("/version")) == (200, json.dumps({"version": "0.32.0", "simulated": True}))
        _, models = await server.get("/v1/models")
        assert json.loads(models)["data"][0]["max_model_len"] == 1024

    on(resolved(), check)


def test_token_times_follow_the_serving_model() -> None:
    """A step of 8B parameters in fp8 on an H100 takes 4.4 ms: the live server keeps that mean, whatever one timer
    does."""

    async def check(server: Live) -> None:
        engine = server.replica.server.engine  # type: ignore[union-attr]
        step = engine.times.decode(1, 100)
        began = time.perf_counter()
        await server.stream("/v1/completions", prompt=[1] * 10, max_tokens=200, ignore_eos=True)
        measured = (time.perf_counter() - began) / 200
        assert step == pytest.approx(4.4e-3, rel=0.05)
        assert measured > step * 0.95
        count = await server.metric("vllm:inter_token_latency_seconds_count")
        total = await server.metric("vllm:inter_token_latency_seconds_sum")
        assert count == 199
        assert total / count == pytest.approx(step, rel=0.02)

    on(resolved(parametersBillion=8.03, servedName="llama-3.1-8b"), check)


def test_overload_waits_in_the_queue_and_everybody_is_served() -> None:
    async def check(server: Live) -> None:
        body = {"prompt": [1] * 4, "max_tokens": 60, "ignore_eos": True}
        tasks = [asyncio.create_task(server.stream("/v1/completions", **body)) for _ in range(8)]

        async def busy() -> bool:
            running = await server.metric("vllm:num_requests_running")
            waiting = await server.metric("vllm:num_requests_waiting{")
            reason = await server.metric(
                'vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"}'
            )
            return (running, waiting, reason) == (2, 6, 6)

        await eventually(busy)
        assert (await server.get("/health"))[0] == 200
        assert server.replica.status()["inFlight"] == 8
        assert {len(events) for events in await asyncio.gather(*tasks)} == {61}
        assert await server.metric("vllm:num_requests_running") == 0
        assert await server.metric("vllm:kv_cache_usage_perc") == 0
        assert await server.metric("vllm:generation_tokens_total") == 480
        assert await server.metric("vllm:request_queue_time_seconds_sum") > 0.1

    on(resolved(maxConcurrentRequests=2), check)


def test_a_client_that_leaves_frees_its_place() -> None:
    async def check(server: Live) -> None:
        url = server.urls["http"] + "/v1/completions"
        body = {"prompt": [1] * 4, "max_tokens": 1000, "ignore_eos": True, "stream": True}
        async with server.client.post(url, json=body) as response:
            await response.content.readline()
            response.close()
        await eventually(lambda: server.replica.status()["running"] == 0)
        assert server.replica.status()["kvCacheUsage"] == 0
        aborted = 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"}'
        assert await server.metric(aborted) == 1

    on(resolved(), check)


def test_http_1_0_clients_get_an_unchunked_stream() -> None:
    async def check(server: Live) -> None:
        port = int(server.urls["http"].rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"prompt": "a", "max_tokens": 3, "ignore_eos": True, "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.0\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        raw = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        events = raw.split(b"\r\n\r\n", 1)[1].split(b"\n\n")
        assert [event[:6] for event in events] == [b"data: "] * 4 + [b""]

    on(resolved(), check)


def test_answers_may_stop_by_themselves_at_the_traces_lengths() -> None:
    wanted = [read_request(b'{"prompt": "a", "max_tokens": 900}', False, "m", 1024, number) for number in range(400)]
    assert statistics.median(request.output for request in wanted) == pytest.approx(STOP_MEDIAN, rel=0.15)
    assert {request.reason for request in wanted} == {"stop", "length"}
    seeded = [
        read_request(b'{"prompt": "a", "max_tokens": 900, "seed": 4}', False, "m", 1024, n).output for n in (1, 2)
    ]
    assert seeded[0] == seeded[1]


def test_triton_infers_counts_and_queues() -> None:
    async def check(server: Live) -> None:
        infer = {"name": "QUERY", "shape": [30, 1], "datatype": "BYTES", "data": ["x"] * 30}
        tasks = [asyncio.create_task(server.post("/v2/models/tiny/infer", inputs=[infer], id=str(i))) for i in range(5)]

        async def waiting() -> bool:
            pending = 'nv_inference_pending_request_count{model="%s",version="1"}'
            return await server.metric(pending % "encoder", "metrics") == 4

        await eventually(waiting)
        assert await server.metric('nv_inference_pending_request_count{model="tiny",version="1"}', "metrics") == 0
        assert await server.metric('nv_inference_queue_duration_us{model="tiny",version="1"}', "metrics") == 0
        answers = await asyncio.gather(*tasks)
        assert {status for status, _ in answers} == {200}
        assert [body["id"] for _, body in answers] == ["0", "1", "2", "3", "4"]
        assert answers[0][1]["outputs"][0]["shape"] == [30, 1]
        sizes = {}
        for name in ("request_success", "count", "exec_count", "request_duration_us", "queue_duration_us"):
            sizes[name] = await server.metric(f'nv_inference_{name}{{model="tiny",version="1"}}', "metrics")
        # A batch takes 15 ms + 30 * 5 ms; the five run one after the other.
        assert (sizes["request_success"], sizes["count"], sizes["exec_count"]) == (5, 150, 5)
        assert sizes["request_duration_us"] >= sum(range(1, 6)) * 165_000 * 0.95
        assert sizes["queue_duration_us"] >= sum(range(5)) * 165_000 * 0.95
        assert sizes["request_duration_us"] - sizes["queue_duration_us"] >= 5 * 165_000 * 0.95

    on(resolved("triton"), check)


def test_triton_names_models_and_refuses_what_it_must() -> None:
    async def check(server: Live) -> None:
        assert (await server.get("/v2/models/tiny/versions/1/ready"))[0] == 200
        status, body = await server.post("/v2/models/other/infer", inputs=[])
        assert (status, body["error"]) == (400, "Request for unknown model: 'other' is not found")
        assert (await server.post("/v2/models/tiny/infer"))[0] == 400
        too_many = [{"name": "Q", "shape": [33], "datatype": "BYTES", "data": []}]
        assert "batch-size must be <= 32" in (await server.post("/v2/models/tiny/infer", inputs=too_many))[1]["error"]
        rejected = 'nv_inference_request_failure{model="tiny",reason="REJECTED",version="1"}'
        assert await server.metric(rejected, "metrics") == 2
        assert (await server.get("/metrics"))[0] == 404  # the metrics have a port of their own
        status, body = await server.post("/v2/models/tiny/generate", text_input="hello")
        assert (status, body["model_name"]) == (200, "tiny")
        events = await server.stream("/v2/models/tiny/generate_stream", text_input="hello")
        assert "simulated" in events[0]["text_output"]
        assert json.loads((await server.get("/v2"))[1])["version"] == "2.51.0"

    on(resolved("triton"), check)


def test_triton_reads_the_binary_data_extension() -> None:
    async def check(server: Live) -> None:
        head = json.dumps(
            {"inputs": [{"name": "Q", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}
        )
        headers = {"Inference-Header-Content-Length": str(len(head))}
        url = server.urls["http"] + "/v2/models/tiny/infer"
        async with server.client.post(url, data=head.encode() + b"\0" * 8, headers=headers) as response:
            assert (response.status, (await response.json())["outputs"][0]["shape"]) == (200, [2, 1])

    on(resolved("triton"), check)


@pytest.mark.parametrize(
    ("accelerator", "model", "message"),
    [
        ("nvidia-t4", {"parametersBillion": 8.03, "weightsDtype": "bf16"}, "does not fit 1 x nvidia-t4"),
        (
            "nvidia-l4",
            {"parametersBillion": 8.03, "weightsDtype": "bf16", "contextLength": 131072},
            "a request may need 131072",
        ),
        ("nvidia-l4", {"parametersBillion": None}, "has no parametersBillion"),
    ],
)
def test_what_would_not_start_is_a_clear_error(accelerator: str, model: dict[str, Any], message: str) -> None:
    async def start() -> None:
        Replica(server_spec(resolved("vllm", accelerator, **model))).start()

    with pytest.raises(UserError, match=message) as caught:
        asyncio.run(start())
    assert caught.value.fix


def test_every_preset_has_what_the_twin_reads() -> None:
    """Each runtime preset whose API the twin speaks: a signal behaviour it knows, and a contract."""
    for name, preset in load_presets("runtimes").items():
        assert preset["lifecycle"]["sigterm"] in SIGNALS
        assert server_spec(resolved(name)).api == preset["api"]


def test_parallel_gpus_and_the_catalogue_reach_the_engine() -> None:
    async def check(server: Live) -> None:
        times = server.replica.server.engine.times  # type: ignore[union-attr]
        assert (times.tensor, times.model.layers, times.model.kv_bytes) == (2, shape_of("llama-3.1-70b").layers, 1.0)

    spec = copy.deepcopy(resolved(source="hf://meta-llama/Llama-3.1-70B", parametersBillion=70.55, kvCacheDtype="fp8"))
    spec["parallelism"]["tensor"] = 2
    on(spec, check)


def test_a_killed_server_resets_its_connections() -> None:
    async def check(server: Live) -> None:
        tasks = [
            asyncio.create_task(server.stream("/v1/completions", prompt="a", max_tokens=900, ignore_eos=True))
            for _ in itertools.repeat(None, 3)
        ]
        await eventually(lambda: server.replica.status()["running"] == 3)
        server.replica.kill()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, aiohttp.ClientError)
        assert server.replica.status()["state"] == "exited"

    on(resolved(), check)
