"""The load process: replays a plan open loop with locust and writes one record a request.

Run as `python -m gpu_inference.load.worker PLAN RECORDS`. PLAN is JSON: {"targets": [{"name", "api", "url", "model",
"arrivals": [[s, input, output], …]}]}. Prints a line of JSON a second (process.Progress). A line on its stdin ends the
sending, and when stdin is closed it ends at once, so that no load outlives the process that asked for it. Locust's
statistics and events see every request.
"""

from __future__ import annotations

import json
import os
import sys
from bisect import insort
from pathlib import Path
from time import perf_counter
from typing import Any

# Locust patches the standard library for gevent when it is imported: it must come before whatever uses sockets.
from locust import User, task
from locust.env import Environment

import gevent  # isort: skip
from gevent.event import Event  # isort: skip
from gevent.socket import wait_read  # isort: skip

from gpu_inference.load.client import APIS  # isort: skip
from gpu_inference.load.records import Record, percentile, to_line  # isort: skip

Planned = tuple[float, dict[str, Any], int, int]


class Replay:
    """The state of one run: what is planned, what is on its way, what came back."""

    def __init__(self, plan: dict[str, Any], records: Any) -> None:
        self.planned: list[Planned] = sorted(
            (
                (time, target, input_, output)
                for target in plan["targets"]
                for time, input_, output in target["arrivals"]
            ),
            key=lambda planned: planned[0],
        )
        self.records = records
        self.began = perf_counter()
        self.sent = self.done = self.failed = self.tokens = 0
        self.ttfts: list[float] = []
        self.lag = 0.0
        self.fault: str | None = None
        self.stopped = Event()

    def now(self) -> float:
        return perf_counter() - self.began

    def run(self, environment: Environment) -> None:
        """Send every request at its time, whatever the answers do, until it is stopped; return when all have ended."""
        self.began = perf_counter()
        greenlets = []
        for planned in self.planned:
            if self.stopped.wait(max(0.0, planned[0] - self.now())):
                break
            greenlets.append(gevent.spawn(self.send, environment, planned))
        gevent.joinall(greenlets)

    def send(self, environment: Environment, planned: Planned) -> None:
        due, target, input_, output = planned
        record = Record(target["name"], due, self.now(), input_)
        self.sent += 1
        self.lag = max(self.lag, record.sent - due)
        error: Exception | None = None
        try:
            APIS[target["api"]](target["url"], target["model"], input_, output, record)
        except Exception as caught:  # whatever goes wrong with a request is a result of the test
            error, record.error = caught, str(caught) or type(caught).__name__
        record.e2e = self.now() - record.sent
        self.keep(record)
        environment.events.request.fire(
            request_type=target["api"],
            name=target["name"],
            response_time=record.e2e * 1000,
            response_length=record.output,
            exception=error,
            context={},
        )

    def keep(self, record: Record) -> None:
        self.done += 1
        self.failed += record.error is not None
        self.tokens += record.output
        if record.ttft is not None:
            insort(self.ttfts, record.ttft)
        line = f"{to_line(record)}\n".encode()
        try:
            if self.records.write(line) != len(line):
                self.fault = "cannot write the records: no room for all of them"
        except OSError as error:
            self.fault = f"cannot write the records: {error.strerror}"

    def progress(self, finished: bool = False) -> None:
        quantiles = {f"ttft_p{p}": percentile(self.ttfts, p) if self.ttfts else None for p in (50, 95)}
        counts = {"planned": len(self.planned), "sent": self.sent, "done": self.done, "failed": self.failed}
        rest = {"tokens": self.tokens, "lag": self.lag, "finished": finished, "fault": self.fault}
        print(json.dumps({"time": self.now(), **counts, **quantiles, **rest}), flush=True)


class TraceUser(User):
    """One user that plays the whole trace: arrivals are the trace's, not a number of users' pace."""

    replay: Replay

    @task
    def play(self) -> None:
        self.replay.run(self.environment)
        self.environment.runner.quit()


def _report(replay: Replay) -> None:
    while True:
        gevent.sleep(1)
        replay.progress()


def _follow_parent(replay: Replay) -> None:
    descriptor = sys.stdin.fileno()
    wait_read(descriptor)
    while os.read(descriptor, 64):
        replay.stopped.set()
        wait_read(descriptor)
    sys.stdout.flush()
    # Nothing to unwind: the answers nobody waits for are dropped.
    sys.exit(3)


def main(plan: str, records: str) -> int:
    """Exit 0 when every planned request ended, however it ended; 1 when the records could not be written."""
    # Without a buffer nothing is left to fail when the file is closed.
    with Path(records).open("wb", buffering=0) as file:
        replay = Replay(json.loads(Path(plan).read_text()), file)
        TraceUser.replay = replay
        environment = Environment(user_classes=[TraceUser])
        runner = environment.create_local_runner()
        gevent.spawn(_follow_parent, replay)
        reporter = gevent.spawn(_report, replay)
        runner.start(1, spawn_rate=1)
        runner.greenlet.join()
        reporter.kill()
    replay.progress(finished=True)
    return 1 if replay.fault else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
