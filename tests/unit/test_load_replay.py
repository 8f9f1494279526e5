"""The load process against a small server: open loop, exact token counts, failures seen, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from aiohttp import web

from gpu_inference.cli import main
from gpu_inference.errors import UserError
from gpu_inference.load.command import served_model
from gpu_inference.load.process import LoadProcess, Target
from gpu_inference.load.traces import Arrival


class Server:
    """An OpenAI and Triton endpoint with a fixed first-token delay and gap; keeps what it was asked."""

    def __init__(self) -> None:
        self.ttft, self.gap = 0.05, 0.01
        self.missing_tokens = 0
        self.status = 200
        self.cut = False
        self.requests: list[dict] = []
        self.times: list[float] = []

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.times.append(time.monotonic())
        if self.status != 200:
            return web.json_response({"error": "told to"}, status=self.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        tokens = body["max_tokens"] - self.missing_tokens
        for i in range(tokens):
            await asyncio.sleep(self.gap if i else self.ttft)
            await response.write(b"data: " + json.dumps({"choices": [{"text": f"t{i} "}]}).encode() + b"\n\n")
        if not self.cut:
            usage = {"choices": [], "usage": {"completion_tokens": tokens}}
            await response.write(b"data: " + json.dumps(usage).encode() + b"\n\ndata: [DONE]\n\n")
        return response

    async def infer(self, request: web.Request) -> web.Response:
        self.requests.append(await request.json())
        return web.json_response({"outputs": []})

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "max_model_len": 50}]})


@pytest.fixture
def server():
    state = Server()
    app = web.Application()
    app.router.add_post("/base/v1/completions", state.completions)
    app.router.add_post("/base/v2/models/rank/infer", state.infer)
    app.router.add_get("/base/v1/models", state.models)
    loop = asyncio.new_event_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    state.url = f"http://127.0.0.1:{listener.getsockname()[1]}/base"
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)

    async def start() -> None:
        await runner.setup()
        await web.SockSite(runner, listener).start()

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield state
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def replay(server: Server, arrivals: list[Arrival], api: str = "openai", model: str = "m"):
    with LoadProcess([Target("t", api, server.url, model, arrivals)]) as load:
        assert load.wait(60), "the replay did not end"
        return load.results()


def test_slow_answers_delay_no_request(server):
    server.ttft = 4
    found = replay(server, [Arrival(i * 0.05, 20, 2) for i in range(20)])
    # Every request was sent while the first was still unanswered.
    assert server.times[-1] - server.times[0] < server.ttft
    assert [r.error for r in found] == [None] * 20
    assert all(r.ttft >= server.ttft for r in found)


def test_tokens_and_times_are_exact(server):
    found = replay(server, [Arrival(0, 37, 12), Arrival(0.1, 1, 1)])
    assert [len(r["prompt"]) for r in server.requests] == [37, 1]
    assert [r["max_tokens"] for r in server.requests] == [12, 1]
    assert all(r["ignore_eos"] and r["stream"] for r in server.requests)
    long = next(r for r in found if r.input == 37)
    assert (long.output, len(long.gaps)) == (12, 11)
    # How much later than it slept the server answers, the machine decides.
    assert long.ttft >= server.ttft
    assert sum(long.gaps) + long.ttft >= server.ttft + 11 * server.gap
    assert long.tpot == pytest.approx(sum(long.gaps) / 11)
    assert long.e2e >= long.ttft + sum(long.gaps)


def test_a_stopped_replay_sends_no_more_and_waits_for_what_it_sent(server):
    server.ttft = 1.5
    arrivals = [Arrival(i * 0.1, 5, 2) for i in range(3000)]
    with LoadProcess([Target("t", "openai", server.url, "m", arrivals)]) as load:
        while len(server.times) < 5:
            assert not load.wait(0.05)
        load.stop()
        assert load.wait(10)
        found = load.results()
    assert 5 <= len(found) == len(server.times) < 100
    assert {r.error for r in found} == {None}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"missing_tokens": 1}, "fewer"),
        ({"status": 500}, "HTTP 500"),
        ({"cut": True}, "stream ended early"),
    ],
)
def test_every_fault_is_a_failed_request(server, fault, message):
    for name, value in fault.items():
        setattr(server, name, value)
    (record,) = replay(server, [Arrival(0, 5, 3)])
    assert message in record.error


def test_refused_connections_are_failed_requests(server):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with LoadProcess([Target("t", "openai", f"http://127.0.0.1:{port}", "m", [Arrival(0, 5, 3)])]) as load:
        load.wait(30)
        (record,) = load.results()
    assert "refused" in record.error
    assert load.progress.failed == 1


def test_triton_requests(server):
    (record,) = replay(server, [Arrival(0, 6, 1)], api="triton", model="rank")
    assert record.error is None
    assert server.requests[0]["inputs"][0]["shape"] == [6, 1]


def test_leaving_early_ends_the_process(server):
    server.ttft = 30
    with LoadProcess([Target("t", "openai", server.url, "m", [Arrival(0, 5, 3), Arrival(60, 5, 3)])]) as load:
        assert not load.wait(2)
        process, folder = load._process, load.records_path.parent
    assert process.returncode is not None
    assert not folder.exists()


def test_a_load_that_died_is_said_so(server):
    with LoadProcess([Target("t", "no-such-api", server.url, "m", [Arrival(30, 5, 3)])]) as load:
        load._process.kill()
        load.wait(10)
        with pytest.raises(UserError, match="the load broke off"):
            load.results()


def test_command_reports_and_judges(server, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text("time,input,output\n0,20,5\n0.2,400,5\n")
    kept = tmp_path / "requests.jsonl"
    arguments = ["load", "--url", server.url, "--trace", str(trace), "-o", "json", "--records", str(kept)]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["requests"] == {"total": 2, "ok": 2, "failed": 0}
    assert result["plan"]["clipped"] == 1  # the server's context is 50 tokens
    assert result["slo"]["met"]
    assert len(kept.read_text().splitlines()) == 2
    assert main([*arguments, "--slo-ttft", "0.001"]) == 1
    server.status = 503
    assert main(arguments) == 1


def test_unreachable_server_is_a_usage_error():
    with pytest.raises(UserError, match=r"cannot use http://127.0.0.1:9/v1/models"):
        served_model("http://127.0.0.1:9", None)


def test_unknown_model_lists_the_known(server):
    with pytest.raises(UserError, match="no model 'x' there: m"):
        served_model(server.url, "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_records_that_do_not_fit_are_said(server, tmp_path):
    plan = tmp_path / "plan.json"
    target = {"name": "t", "api": "openai", "url": server.url, "model": "m", "arrivals": [[0, 5, 3]]}
    plan.write_text(json.dumps({"targets": [target]}))
    command = [sys.executable, "-m", "gpu_inference.load.worker", str(plan), "/dev/full"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        last = worker.stdout.read().splitlines()[-1]
        assert worker.wait(30) == 1
        assert worker.stderr.read() == b""
    assert json.loads(last)["fault"] == "cannot write the records: No space left on device"
