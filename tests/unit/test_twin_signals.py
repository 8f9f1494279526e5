"""SIGTERM, seen from outside: real processes with a request in flight."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtimes.twin_client import InFlight, ask, free_port
from runtimes.twin_support import process, resolved

from gpu_inference.twin.contract import load

# 4 ms a token: 250 tokens are about a second.
BODY = {"prompt": "a", "max_tokens": 250, "ignore_eos": True, "stream": True}


def spec_file(folder: Path, runtime: str = "vllm", **preset: Any) -> list[str]:
    """Options for a server of a resolved spec whose lifecycle is changed."""
    spec = resolved(runtime, parametersBillion=8.03)
    spec["runtimePreset"]["lifecycle"] |= preset
    path = folder / "resolved.json"
    path.write_text(json.dumps({"llm": {"tiny": spec}}), encoding="utf-8")
    ports = ["--port", "0"] + (["--metrics-port", "0"] if "metrics" in spec["runtimePreset"]["ports"] else [])
    return ["--resolved", str(path), "--release", "llm", "--model", "tiny", *ports]


def events(data: bytes) -> list[Any]:
    lines = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


@contextlib.contextmanager
def terminated(
    options: list[str], body: dict[str, Any] = BODY
) -> Iterator[tuple[subprocess.Popen[str], int, InFlight]]:
    """A server with a stream in flight, just after SIGTERM."""
    with process(*options) as (child, ports):
        stream = InFlight(ports["http"], "/v1/completions", body)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        yield child, ports["http"], stream


def test_finish_in_flight_as_vllm_with_a_shutdown_timeout(tmp_path: Path) -> None:
    with terminated(spec_file(tmp_path)) as (child, port, stream):
        status, body = ask(port, "/v1/completions", {"prompt": "a", "max_tokens": 1})
        assert (status, json.loads(body)["error"]["message"]) == (500, load("vllm")["lifecycle"]["refusal"]["message"])
        assert ask(port, "/health")[0] == 200
        found = events(stream.join().data)
        assert (len(found), found[-2]["choices"][0]["finish_reason"]) == (251, "length")
        assert ask(port, "/health")[0] == 200  # all through its teardown
        assert child.wait(10) == 0
        # The client hears of the last byte a moment after the server sent it.
        assert time.monotonic() - stream.ended >= load("vllm")["lifecycle"]["teardownSeconds"] - 0.5


@pytest.mark.parametrize("how", ["abort", "no drain"])
def test_abort_cuts_streams_short(tmp_path: Path, how: str) -> None:
    """The preset's `abort`, and vLLM without a shutdown timeout."""
    options = spec_file(tmp_path, sigterm="abort") if how == "abort" else [*spec_file(tmp_path), "--drain-seconds", "0"]
    with terminated(options) as (child, _, stream):
        found = events(stream.join().data)
        assert found[-1] == "[DONE]"
        assert found[-2]["choices"][0]["finish_reason"] == "abort"
        assert len(found) < 250
        assert child.wait(5) == 0


def test_ignored_signals_change_nothing(tmp_path: Path) -> None:
    with terminated(spec_file(tmp_path, sigterm="ignore")) as (child, port, stream):
        assert len(events(stream.join().data)) == 251
        assert ask(port, "/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200
        assert child.poll() is None


def test_work_past_the_deadline_hangs_until_the_client_leaves(tmp_path: Path) -> None:
    """Observed on vLLM: silence on an open connection, nothing listens, and the process stays."""
    with terminated([*spec_file(tmp_path), "--drain-seconds", "0.4"]) as (child, port, stream):
        time.sleep(0.6)
        assert stream.alive
        before = stream.data
        with pytest.raises(ConnectionRefusedError):
            ask(port, "/health")
        time.sleep(0.5)
        assert stream.alive
        assert stream.data == before
        assert child.poll() is None


def test_close_listener_as_triton(tmp_path: Path) -> None:
    infer = {"inputs": [{"name": "Q", "shape": [32], "datatype": "BYTES", "data": []}]}
    with process(*spec_file(tmp_path, "triton")) as (child, ports):
        work = [InFlight(ports["http"], "/v2/models/tiny/infer", infer, wait_for_bytes=False) for _ in range(6)]
        time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.15)
        with pytest.raises(ConnectionRefusedError):
            ask(ports["http"], "/v2/health/live")
        assert b'nv_inference_count{model="tiny",version="1"}' in ask(ports["metrics"], "/metrics")[1]
        for request in work:
            assert json.loads(request.join().data)["outputs"][0]["shape"] == [32, 1]
        assert child.wait(5) == 0


def test_past_its_exit_timeout_triton_drops_and_crashes(tmp_path: Path) -> None:
    infer = {"inputs": [{"name": "Q", "shape": [32], "datatype": "BYTES", "data": []}]}
    with process(*spec_file(tmp_path, "triton"), "--drain-seconds", "0.2") as (child, ports):
        work = [InFlight(ports["http"], "/v2/models/tiny/infer", infer, wait_for_bytes=False) for _ in range(30)]
        time.sleep(0.5)  # they have arrived, and are 5 s of work
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 139
        assert {request.join().error for request in work} & {"ConnectionResetError", "RemoteDisconnected"}


def test_nothing_listens_while_loading_and_sigterm_is_swallowed() -> None:
    port = free_port()
    options = ["--preset", "vllm", "--port", str(port), "--load-seconds", "1.5"]
    command = [sys.executable, "-c", "from gpu_inference.cli import main; raise SystemExit(main())", "twin", *options]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert "loading" in child.stdout.readline()
        with pytest.raises(ConnectionRefusedError):
            ask(port, "/health")
        child.send_signal(signal.SIGTERM)
        assert "listening" in child.stdout.readline()
        assert ask(port, "/health")[0] == 200
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "vlm"], "no preset vlm"),
        (["--preset", "vllm", "--accelerator", "nvidia-h1000"], "no preset nvidia-h1000"),
        ([], "say what to emulate"),
        (["--embedded"], "needs --kubeconfig and --resolved"),
        (["--embedded", "--kubeconfig", "/nonexistent", "--resolved", "/nonexistent"], "cannot read the kubeconfig"),
        (["--resolved", "/nonexistent"], "cannot read /nonexistent"),
    ],
)
def test_bad_options_are_one_clear_line(options: list[str], message: str) -> None:
    command = [sys.executable, "-c", "from gpu_inference.cli import main; raise SystemExit(main())", "twin", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert message in done.stderr
    assert "fix:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = ["twin", "--preset", "vllm", "--port", str(taken.getsockname()[1])]
        command = [sys.executable, "-c", "from gpu_inference.cli import main; raise SystemExit(main())", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
