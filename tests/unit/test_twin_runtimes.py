"""What tells one emulated runtime from another: its paths, its start and its end, its gauges."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from runtimes.twin_client import InFlight, ask, free_port
from runtimes.twin_support import EMULATED, Live, eventually, live, resolved, work

from gpu_inference.twin import contract
from gpu_inference.twin.generic import GenericServer, filled
from gpu_inference.twin.replica import APIS, SIGNALS
from gpu_inference.values.presets import load_presets

PRESETS = load_presets("runtimes")
GENERIC = [runtime for runtime in EMULATED if APIS[PRESETS[runtime]["api"]] is GenericServer]
TOKENS = {"prompt": "a", "max_tokens": 400, "ignore_eos": True, "stream": True}  # 0.3 s or more
LOADING = 1.5


def needs(runtime: str) -> Any:
    return pytest.mark.skipif(runtime not in EMULATED, reason=f"chart/runtimes has no preset {runtime}")


def on(spec: dict[str, Any], check: Callable[[Live], Awaitable[None]]) -> None:
    async def run() -> None:
        async with live(spec) as server:
            await check(server)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_every_preset_has_a_contract_of_its_own_kind() -> None:
    """A contract that listens while loading belongs to a preset that says so, and a signal has what it reads."""
    assert set(PRESETS) <= set(contract.known())
    for runtime in EMULATED:
        life, preset = contract.load(runtime)["lifecycle"], PRESETS[runtime]["lifecycle"]
        assert ("loading" in life) == preset.get("bindsBeforeLoad", False), runtime
        assert life["pastDeadline"] in {"drop", "hang", "wait"}
        assert preset["sigterm"] in SIGNALS
        assert ("pastDeadlineExit" in life) == (life["pastDeadline"] == "drop"), runtime


@pytest.mark.parametrize("runtime", GENERIC)
def test_a_request_gets_the_contracts_answer(runtime: str) -> None:
    async def check(server: Live) -> None:
        path, body = work(runtime)
        paths = filled(contract.load(runtime)["paths"], "tiny")
        expected = paths["answer"]
        if "items" in paths:
            expected = {name: [value] for name, value in expected.items()}
        for _ in range(3):
            assert await server.post(path, **body) == (200, expected)
        status = server.replica.status()
        assert (status["finished"], status["failed"], status["inFlight"]) == (3, 0, 0)
        for path, answer in paths["health"].items():
            code, text = await server.get(path)
            assert (code, text if isinstance(answer, str) else json.loads(text)) == (200, answer)
        assert (await server.get("/nowhere"))[0] == (404 if paths["infer"] else 200)

    on(resolved(runtime), check)


@needs("tf-serving")
def test_instances_are_a_batch() -> None:
    async def check(server: Live) -> None:
        path = "/v1/models/tiny:predict"
        assert await server.post(path, instances=[1, 2, 3]) == (200, {"predictions": [0.5] * 3})
        for body, message in (
            ({"inputs": [1]}, "Missing 'instances'"),
            ({"instances": 7}, "Missing 'instances'"),
            ({"instances": []}, "between 1 and 32"),
            ({"instances": [0] * 33}, "between 1 and 32"),
        ):
            code, answer = await server.post(path, **body)
            assert (code, message in answer["error"]) == (400, True)
        text = await server.scrape()
        assert ':tensorflow:serving:request_count{model_name="tiny",status="OK"} 1.0' in text
        assert ':tensorflow:serving:request_count{model_name="tiny",status="INVALID_ARGUMENT"} 4.0' in text
        micros = next(line for line in text.splitlines() if line.startswith(":tensorflow:serving:request_latency_sum"))
        assert float(micros.rsplit(" ", 1)[1]) == pytest.approx(30_000)  # 15 ms + 3 * 5 ms

    on(resolved("tf-serving"), check)


@needs("bentoml")
def test_bentoml_counts_every_endpoint_and_what_is_in_progress() -> None:
    async def check(server: Live) -> None:
        await server.get("/readyz")
        tasks = [asyncio.create_task(server.post("/predict", x=1)) for _ in range(8)]
        labels = 'endpoint="/predict",runner_name="twin",service_name="tiny",service_version="not available"'
        series = f"bentoml_service_request_in_progress{{{labels}}}"
        await asyncio.sleep(0.05)
        assert await server.metric(series) > 4
        await asyncio.gather(*tasks)
        assert await server.metric(series) == 0
        assert await server.metric('bentoml_service_request_total{endpoint="/readyz",http_response_code="200"') == 1
        assert await server.metric('bentoml_service_request_total{endpoint="/predict",http_response_code="200"') == 8
        assert await server.metric("bentoml_service_last_request_timestamp_seconds{") == pytest.approx(
            time.time(), abs=5
        )

    on(resolved("bentoml"), check)


@needs("torchserve")
def test_latencies_move_when_a_request_ends_and_hold_its_time_in_the_queue() -> None:
    async def check(server: Live) -> None:
        tasks = [asyncio.create_task(server.post("/predictions/tiny")) for _ in range(5)]
        arrived, latency = "ts_inference_requests_total{", "ts_inference_latency_microseconds{"
        await eventually(lambda: server.replica.status()["inFlight"] == 5)
        assert await server.metric(arrived, "metrics") == 5
        await asyncio.gather(*tasks)
        # One after the other, 20 ms each.
        assert await server.metric(latency, "metrics") >= sum(range(1, 6)) * 20_000 * 0.95
        assert await server.metric("ts_queue_latency_microseconds{", "metrics") >= 200_000 * 0.9
        assert await server.metric("Requests2XX{", "metrics") == 5

    on(resolved("torchserve"), check)


@needs("lmdeploy")
def test_gauges_that_are_exported_by_the_clock_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an autoscaler sees: the value of the last tick, however busy the server is since."""
    monkeypatch.setitem(contract.load("lmdeploy")["metrics"], "gaugeSeconds", 1)

    async def check(server: Live) -> None:
        began = asyncio.get_running_loop().time()
        stream = asyncio.create_task(server.stream("/v1/completions", prompt="a", max_tokens=1000, ignore_eos=True))
        await eventually(lambda: server.replica.status()["running"] == 1)
        assert await server.metric("lmdeploy:num_requests_running") == 0

        async def told() -> bool:
            return await server.metric("lmdeploy:num_requests_running") == 1

        await eventually(told)
        assert asyncio.get_running_loop().time() - began > 0.5
        stream.cancel()

    on(resolved("lmdeploy", parametersBillion=8.03), check)


@needs("tgi")
def test_a_server_that_ignores_the_models_name() -> None:
    async def check(server: Live) -> None:
        code, answer = await server.post("/v1/completions", model="another", prompt="a", max_tokens=1)
        assert (code, answer["model"]) == (200, "tiny")

    on(resolved("tgi"), check)


@contextmanager
def launched(runtime: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A process that is loading: it, its port, and that of its metrics."""
    port = free_port()
    main = "http" if PRESETS[runtime]["metrics"]["port"] == "http" else ""
    metrics = port if main else free_port()
    options = ["--preset", runtime, "--port", str(port), "--load-seconds", str(LOADING), "--served-name", "tiny"]
    options += [] if main else ["--metrics-port", str(metrics)]
    options += ["--accelerator", "nvidia-h100", "--parameters-billion", "8"]
    command = [sys.executable, "-c", "from gpu_inference.cli import main; raise SystemExit(main())", "twin", *options]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert "loading" in child.stdout.readline()
        yield child, port, metrics
    finally:
        child.kill()
        child.communicate()


def served(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert "listening" in child.stdout.readline()


def probe(runtime: str, which: str) -> str:
    path: str = PRESETS[runtime]["probes"][which]["path"]
    return path.replace("{servedName}", "tiny")


def while_loading(runtime: str, port: int) -> Callable[[], None]:
    """Checks a server that is loading; what it returns checks once it has loaded."""
    life = contract.load(runtime)["lifecycle"]
    if "loading" not in life:
        with pytest.raises(ConnectionRefusedError):
            ask(port, probe(runtime, "startup"))
        return lambda: None
    if life["loading"] != "wait":
        assert ask(port, probe(runtime, "startup"))[0] == life["loading"]["status"]
        return lambda: None
    path, body = work(runtime)
    if life.get("readyBeforeLoad"):
        assert ask(port, probe(runtime, "startup"))[0] == 200
    else:
        with pytest.raises(TimeoutError):
            ask(port, probe(runtime, "startup"), timeout=0.2)
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(port, path, body)[0]), daemon=True)
    waiting.start()
    time.sleep(0.1)
    assert answers == []

    def answered() -> None:
        waiting.join(5)
        assert answers == [200]

    return answered


@pytest.mark.parametrize("runtime", EMULATED)
def test_a_process_from_its_start_to_its_end(runtime: str) -> None:
    preset, life = PRESETS[runtime], contract.load(runtime)["lifecycle"]
    with launched(runtime) as (child, port, metrics):
        later = while_loading(runtime, port)
        served(child)
        later()
        for which in ("startup", "readiness", "liveness"):
            assert ask(port, probe(runtime, which))[0] == 200
        path, body = work(runtime)
        assert ask(port, path, body)[0] == 200
        code, text = ask(metrics, preset["metrics"]["path"])
        assert (code, b"gpu_inference_twin_simulated 1.0" in text) == (200, True)
        child.send_signal(signal.SIGTERM)
        if preset["lifecycle"]["sigterm"] == "ignore":
            time.sleep(0.5)
            assert ask(port, path, body)[0] == 200
            return
        if preset["lifecycle"]["sigterm"] == "closeListener":
            time.sleep(0.2)
            with pytest.raises(ConnectionRefusedError):
                ask(port, probe(runtime, "liveness"))
        aborts = preset["lifecycle"]["sigterm"] == "abort"
        left = life["abortSeconds"] if aborts else life["teardownSeconds"]
        if left > 3:  # slow to leave, and checked with quicker ones
            assert child.poll() is None
        else:
            assert child.wait(left + 5) == (life.get("abortExit", 0) if aborts else 0)


@needs("nim")
def test_a_proxy_in_front_is_alive_before_its_server_is_ready() -> None:
    with launched("nim") as (child, port, _):
        assert ask(port, "/v1/health/live")[0] == 200
        assert ask(port, "/v1/health/ready")[0] == 503
        served(child)
        assert ask(port, "/v1/health/ready")[0] == 200


@pytest.mark.parametrize("runtime", [pytest.param("bentoml", marks=needs("bentoml"))])
def test_a_signal_while_connections_wait_for_the_load_ends_them(runtime: str) -> None:
    with launched(runtime) as (child, port, _):
        request = InFlight(port, *work(runtime), wait_for_bytes=False)
        time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 0
        assert request.join().error


@needs("sglang")
def test_sglang_turns_unready_and_goes_on_serving() -> None:
    with launched("sglang") as (child, port, _):
        served(child)
        began = time.monotonic()
        assert ask(port, "/health")[0] == 200
        assert time.monotonic() - began >= 1
        stream = InFlight(port, "/v1/completions", TOKENS)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert ask(port, "/ready")[0] == 503
        assert ask(port, "/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200
        assert stream.join().data.count(b"data: ") == 401
        assert child.poll() is None  # through its teardown


@needs("lmdeploy")
def test_work_without_a_deadline_is_finished() -> None:
    """No drain time of the preset ends it: that takes the SIGKILL of the grace period."""
    with launched("lmdeploy") as (child, port, _):
        served(child)
        stream = InFlight(port, "/v1/completions", TOKENS)
        child.send_signal(signal.SIGTERM)
        assert stream.join().data.count(b"data: ") == 401
        assert child.wait(10) == 0


@needs("ray-serve")
def test_ray_serve_drops_what_is_in_flight() -> None:
    with launched("ray-serve") as (child, port, _):
        served(child)
        queue = [InFlight(port, "/", {"x": 1}, wait_for_bytes=False) for _ in range(30)]
        time.sleep(0.1)
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 15
        assert {request.join().error for request in queue} & {"ConnectionResetError", "RemoteDisconnected"}
