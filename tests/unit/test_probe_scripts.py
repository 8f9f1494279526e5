"""The scripts that probes run in a server's container, against servers that load, answer, hang, work and rest."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from runtimes.twin_support import EMULATED, eventually, live, resolved

from gpu_inference.paths import CHART
from gpu_inference.values.presets import load_presets

FILES = CHART / "files"
STALL = 180
FLAGS = "-ISB"  # as the chart's probes run it


class Engine:
    """A server whose health, metrics and answer a test sets; path -> (status, body), or None to say nothing."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str] | None] = {"/health": (200, ""), "/metrics": (200, "")}
        self.asked: list[str] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine.asked.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = engine.answers[self.path]
                if answer is None:
                    time.sleep(5)
                    return
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1].encode())))
                self.end_headers()
                self.wfile.write(answer[1].encode())

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def metrics(self, running: float, generated: float, prompts: float = 5) -> None:
        """As vLLM's, of two engines in one pod."""
        lines = ["# TYPE vllm:num_requests_running gauge"]
        for number, share in enumerate((1.0, 0.0)):
            labels = f'{{engine="{number}",model_name="a {{b}} \\"c\\" d"}}'
            lines += [
                f"vllm:num_requests_running{labels} {running * share}",
                f"vllm:generation_tokens_total{labels} {generated * share:e}",
                f"vllm:prompt_tokens_total{labels} {prompts} 1700000000000",
            ]
        self.answers["/metrics"] = (200, "\n".join(lines) + "\n")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def engine() -> Iterator[Engine]:
    found = Engine()
    yield found
    found.close()


class Probe:
    """Runs the script at times of the test's choosing, seconds since any moment."""

    def __init__(self, url: str, folder: Path, **told: Any) -> None:
        self.state = folder / "state.json"
        self.told = {
            "health": f"{url}/health",
            "metrics": f"{url}/metrics",
            "running": "vllm:num_requests_running",
            "progress": ["vllm:generation_tokens_total", "vllm:prompt_tokens_total"],
            "state": str(self.state),
            "stallSeconds": STALL,
            "gapSeconds": 60,
            "timeoutSeconds": 1,
            **told,
        }

    def command(self, at: float) -> list[str]:
        code = f"import runpy, sys, time; time.monotonic = lambda: {at}; sys.argv = ['progress.py', sys.argv[1]]; "
        code += f"runpy.run_path({str(FILES / 'progress.py')!r}, run_name='__main__')"
        return [sys.executable, FLAGS, "-c", code, json.dumps(self.told)]

    def at(self, second: float) -> int:
        done = subprocess.run(self.command(second), capture_output=True, text=True, timeout=30)
        assert "Traceback" not in done.stderr, done.stderr
        assert bool(done.stdout) == bool(done.returncode), "says why it fails, and nothing else"
        return done.returncode


@pytest.fixture
def probe(engine: Engine, tmp_path: Path) -> Probe:
    return Probe(engine.url, tmp_path)


def test_a_hung_engine_is_found_after_the_stall_and_not_before(engine: Engine, probe: Probe) -> None:
    engine.metrics(running=3, generated=700)
    assert [probe.at(second) for second in range(0, 271, 45)] == [0, 0, 0, 0, 1, 1, 1]
    engine.metrics(running=3, generated=701)
    assert probe.at(290) == 0, "it goes on"
    assert probe.at(330) == 0


def test_a_busy_engine_is_left_alone(engine: Engine, probe: Probe) -> None:
    for second in range(0, 451, 45):
        engine.metrics(running=256, generated=700 + second // 90)  # a token now and then
        assert probe.at(second) == 0
    for second in range(500, 951, 45):  # long prompts, one after the other
        engine.metrics(running=1, generated=700, prompts=second // 90)
        assert probe.at(second) == 0


def test_an_idle_engine_is_left_alone(engine: Engine, probe: Probe) -> None:
    engine.metrics(running=0, generated=700)
    assert [probe.at(second) for second in range(0, 361, 60)] == [0] * 7
    # What was idle for long has not been hanging for long.
    engine.metrics(running=2, generated=700)
    assert [probe.at(390), probe.at(435)] == [0, 0]


def test_requests_that_come_and_go_between_pauses_are_no_stall(engine: Engine, probe: Probe) -> None:
    for second in range(0, 361, 30):
        engine.metrics(running=(second // 30) % 3, generated=700)
        assert probe.at(second) == 0


def test_after_a_gap_it_begins_anew(engine: Engine, probe: Probe) -> None:
    """Whatever happened while nobody looked, and with a clock that starts again."""
    engine.metrics(running=3, generated=700)
    assert [probe.at(second) for second in (1000, 1050, 1100, 1300, 1350, 5)] == [0] * 6


def test_a_new_container_begins_anew(engine: Engine, probe: Probe) -> None:
    """The folder in memory outlives it, and counters of zero look like counters of zero."""
    engine.metrics(running=3, generated=0)
    assert [probe.at(second) for second in (0, 60, 120)] == [0, 0, 0]
    left = json.loads(probe.state.read_text())
    probe.state.write_text(json.dumps({**left, "process": "another"}))
    assert [probe.at(second) for second in (180, 240, 300, 360)] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "answer",
    [(500, "vllm:num_requests_running 3"), (200, ""), (200, "<html>"), (200, "vllm:num_requests_running x\n"), None,
     (200, "vllm:num_requests_running 3\nvllm:generation_tokens 7\n")],
    ids=["error", "empty", "no metrics", "no number", "no answer", "other names"],
)  # fmt: skip
def test_what_is_not_known_is_no_reason_to_fail(engine: Engine, probe: Probe, answer: Any) -> None:
    engine.answers["/metrics"] = answer
    assert [probe.at(second) for second in (0, 60, 120, 180, 240)] == [0] * 5


@pytest.mark.parametrize("left", ["", "[]", "null", "{}", '{"since": 0}'])
def test_a_damaged_memory_is_no_reason_to_fail(engine: Engine, probe: Probe, left: str) -> None:
    engine.metrics(running=3, generated=700)
    probe.state.write_text(left)
    assert probe.at(0) == 0
    assert [probe.at(second) for second in (60, 120, 180)] == [0, 0, 1]


def test_without_a_place_to_remember_it_looks_at_health_only(engine: Engine, tmp_path: Path) -> None:
    engine.metrics(running=3, generated=700)
    probe = Probe(engine.url, tmp_path, state=str(tmp_path / "nowhere" / "state.json"))
    assert [probe.at(second) for second in (0, 60, 120, 180, 240)] == [0] * 5
    engine.answers["/health"] = (503, "")
    assert probe.at(300) == 1


@pytest.mark.parametrize("answer", [(503, "loading"), (404, ""), None], ids=["not ready", "not there", "no answer"])
def test_health_comes_first(engine: Engine, probe: Probe, answer: Any) -> None:
    engine.metrics(running=0, generated=700)
    engine.answers["/health"] = answer
    assert probe.at(0) == 1


def test_nobody_there(engine: Engine, probe: Probe) -> None:
    engine.close()
    assert probe.at(0) == 1


# Warm-up: canary.py as the startup probe runs it.

EXPECT = {"path": "usage.completion_tokens", "equals": 1}
RIGHT = (200, '{"usage": {"completion_tokens": 1}}')


def warm_up(engine: Engine, **told: Any) -> tuple[int, str]:
    request = {
        "url": f"{engine.url}/answer", "method": "POST", "body": {"prompt": "a"}, "expect": EXPECT,
        "attempts": 1, "timeoutSeconds": 1, "health": {"url": f"{engine.url}/health", "timeoutSeconds": 1}, **told,
    }  # fmt: skip
    command = [sys.executable, FLAGS, str(FILES / "canary.py"), json.dumps(request)]
    # A proxy, as servers are given one to download their models, is not for the server itself.
    proxied = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(command, env=proxied, capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def test_a_server_that_loads_is_not_asked_for_an_answer(engine: Engine) -> None:
    engine.answers |= {"/health": (503, ""), "/answer": RIGHT}
    code, said = warm_up(engine)
    assert code == 1 and "not healthy" in said
    assert engine.asked == ["GET /health"]


def test_a_server_that_answers_has_started(engine: Engine) -> None:
    engine.answers["/answer"] = RIGHT
    assert warm_up(engine)[0] == 0
    assert engine.asked == ["GET /health", "POST /answer"]


@pytest.mark.parametrize("answer", [(200, "{}"), (500, RIGHT[1]), None], ids=["garbage", "error", "nothing in time"])
def test_a_healthy_server_that_does_not_answer_has_not_started(engine: Engine, answer: Any) -> None:
    engine.answers["/answer"] = answer
    assert warm_up(engine)[0] == 1


# The emulated servers.


def scripted(runtime: str) -> bool:
    preset = load_presets("runtimes")[runtime]
    return "progress" in preset["metrics"] and preset["api"] == "openai"


@pytest.mark.parametrize("runtime", [name for name in EMULATED if scripted(name)])
def test_emulated_engines_at_rest_at_work_and_frozen(runtime: str, tmp_path: Path, engine: Engine) -> None:
    """With the preset's own names; the last exposition of a working server, served again and again, is a hung one's."""
    preset = load_presets("runtimes")[runtime]
    metrics = preset["metrics"]
    names = {"running": metrics["names"]["running"], "progress": metrics["progress"]}

    async def check() -> str:
        async with live(resolved(runtime)) as server:
            probe = Probe("", tmp_path, gapSeconds=10_000, timeoutSeconds=5, **names)
            probe.told["health"] = server.urls["http"] + preset["probes"]["liveness"]["path"]
            probe.told["metrics"] = server.urls[metrics["port"]] + metrics["path"]

            async def at(second: float) -> int:
                child = await asyncio.create_subprocess_exec(*probe.command(second), stdout=subprocess.DEVNULL)
                return await child.wait()

            async def work() -> None:
                while True:
                    await server.stream("/v1/completions", prompt="a" * 40, max_tokens=900, ignore_eos=True)

            async def running() -> bool:
                lines = (await server.scrape()).splitlines()
                return any(float(line.split()[-1]) for line in lines if line.startswith(names["running"]))

            assert [await at(0), await at(500)] == [0, 0]
            assert json.loads(probe.state.read_text())["counters"] == {}, "at rest"
            tasks = [asyncio.create_task(work()) for _ in range(8)]
            await eventually(running)
            codes = [await at(1000 + 500 * step) for step in range(3)]
            seen = json.loads(probe.state.read_text())["counters"]
            text = await server.scrape()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert codes == [0, 0, 0], "at work"
            assert sum(value or 0 for value in seen.values()) > 0, "the series are there, and move"
            return text

    engine.answers["/metrics"] = (200, asyncio.run(check()))
    frozen = Probe(engine.url, tmp_path, state=str(tmp_path / "frozen.json"), **names)
    assert [frozen.at(second) for second in (0, 60, 120, 180)] == [0, 0, 0, 1]
