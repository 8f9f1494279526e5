"""The demo as a user runs it: from nothing to a report, beside another one, and interrupted at any moment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpu_inference.paths import cache_dir

pytestmark = pytest.mark.slow

MARK = "GPU_INFERENCE_TEST_RUN"
UNDER_TRAFFIC = r"traffic: .*answered [1-9]"


class Run:
    """A demo in a process of its own; everything it starts inherits a mark in its environment."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.output, self.mark = folder / "report", uuid.uuid4().hex
        self.log = folder / "log"
        self.clusters = set((cache_dir() / "clusters").glob("demo-*"))
        command = [sys.executable, "-u", "-m", "gpu_inference.cli", "demo", "--output", str(self.output), *options]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, MARK: self.mark},
                start_new_session=True,
            )
        self.cluster = cache_dir() / "clusters" / f"demo-{self.process.pid}"

    def text(self) -> str:
        return self.log.read_text()

    def reach(self, moment: str, seconds: float = 120) -> None:
        """Wait until the demo has printed what `moment` matches."""
        deadline = time.monotonic() + seconds
        while not re.search(moment, self.text()):
            ended = self.process.poll() is not None
            assert not ended and time.monotonic() < deadline, f"it did not come to {moment!r}:\n{self.text()}"
            time.sleep(0.1)

    def wait(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the demo did not end in {seconds:.0f} s:\n{self.text()}")

    def descendants(self) -> list[str]:
        """Command lines of what still runs of it."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # ended meanwhile, or another user's
                continue
        return found

    def assert_nothing_left(self, wait_for: Callable) -> None:
        wait_for(lambda: not self.descendants(), 10, f"processes of the demo are left: {self.descendants()}")
        assert not self.cluster.exists()


@pytest.fixture
def demo(tmp_path_factory, cluster_binaries) -> Iterator[Callable[..., Run]]:
    """Starts demos; none outlives the test."""
    runs: list[Run] = []

    def start(*options: str) -> Run:
        runs.append(Run(tmp_path_factory.mktemp("demo"), *options))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGINT)
            run.wait(60)


def test_from_nothing_to_a_report_beside_another_demo(demo, wait_for):
    run = demo("--duration", "40")
    run.reach(UNDER_TRAFFIC)
    other = demo("--duration", "40")
    other.reach("installed:")
    other.process.send_signal(signal.SIGINT)
    assert other.wait(60) == 130
    other.assert_nothing_left(wait_for)

    assert run.wait(300) == 0, run.text()
    run.assert_nothing_left(wait_for)
    data = json.loads((run.output / "summary.json").read_text())
    assert data["passed"], data["checks"]
    assert data["scaling"]["peak_ready"] > data["scaling"]["min"]
    assert data["load"]["llama"]["requests"]["failed"] == 0
    assert data["load"]["llama"]["requests"]["total"] == data["traffic"]["requests"]
    assert data["load"]["llama"]["slo"]["attainment"] is not None
    assert data["gpu_hours"]["held"] > 0
    assert "https://" not in (run.output / "report.html").read_text()
    rows = [json.loads(line) for line in (run.output / "samples.jsonl").read_text().splitlines()]
    assert rows[-1]["pods"] == {"pending": 0, "loading": 0, "ready": 4, "terminating": 0}


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, r"start etcd"),
        (signal.SIGINT, r"wait for the nodes"),
        (signal.SIGINT, r"install llm"),
        (signal.SIGINT, UNDER_TRAFFIC),
        (signal.SIGTERM, r"install llm"),
    ],
    ids=["start", "nodes", "install", "traffic", "SIGTERM"],
)
def test_interrupted_at_any_moment_leaves_nothing(demo, wait_for, number, moment):
    run = demo("--duration", "60")
    run.reach(moment)
    run.process.send_signal(number)
    time.sleep(0.3)
    run.process.send_signal(number)  # an impatient user does not cut the cleaning short
    assert run.wait(60) == 130, run.text()
    assert "interrupted: everything the demo had started is gone again" in run.text()
    assert "Traceback" not in run.text()
    run.assert_nothing_left(wait_for)
    assert not run.output.exists()


def test_a_killed_demo_takes_everything_with_it(demo, wait_for):
    run = demo("--duration", "60")
    run.reach(UNDER_TRAFFIC)
    run.process.kill()
    run.process.wait()
    wait_for(lambda: not run.descendants(), 40, "everything ends with the demo")
    assert not run.cluster.exists()


def test_kept_cluster_serves_on(demo, wait_for, tmp_path):
    trace = tmp_path / "burst.csv"
    trace.write_text("time,input,output\n" + "".join(f"{i / 10},200,150\n" for i in range(120)))
    run = demo("--trace", str(trace), "--duration", "12", "--keep")
    assert run.wait(240) == 0, run.text()
    url, pid, name = re.search(
        r"load --url (\S+) .*kill (\d+); gpu-inference cluster down --name (\S+)", run.text(), re.S
    ).groups()
    try:
        more = gpu_inference("load", "--url", url, "--trace", "synthetic", "--duration", "3", "-o", "json")
        assert json.loads(more.stdout)["requests"]["failed"] == 0, more.stderr
    finally:
        os.kill(int(pid), signal.SIGTERM)
        gpu_inference("cluster", "down", "--name", name)
    run.assert_nothing_left(wait_for)


def gpu_inference(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpu_inference.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_values_without_a_node_end_with_the_schedulers_words(demo, wait_for, tmp_path):
    layer = tmp_path / "none.yaml"
    layer.write_text("models: {llama: {nodeSelector: {rack: none}, startup: {loadSeconds: 1, provisionSeconds: 0}}}\n")
    values = [Path(__file__).parents[2] / "values" / name for name in ("prod.yaml", "overlays/demo.yaml")]
    run = demo(*(word for path in [*values, layer] for word in ("-f", str(path))))
    assert run.wait(240) == 1
    assert re.search(r"error: not available after \d+ s: llm-llama\S*: 0/9 nodes are available", run.text()), run.text()
    run.assert_nothing_left(wait_for)
