"""Traffic through a disruption: an open-loop replay beside it, and what became of every request.

Streams of seconds and many short requests, a connection each, to a port of a node: kube-proxy chooses the pod, as it
does for everybody. A port-forward would not do, it stays with one pod.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpu_inference.load.process import LoadProcess, Target
from gpu_inference.load.records import Record
from gpu_inference.load.traces import Arrival
from gpu_inference.paths import ROOT

OUT = ROOT / "out" / "disruptions"
LONGEST = 600  # s a scenario may take
BLIND = 5.0  # s until the kubelet, the endpoints and every proxy know of a server that has died
PATIENCE = 180.0  # s after which what is waited for counts as never: a busy machine is not what is tested
ENDS_WITHIN = 150.0  # s for the last answers: the client gives up after 120


@dataclass(frozen=True)
class Mix:
    """Requests a second. A short one is two tokens, a stream `tokens` at 34 ms each on the emulated GPU."""

    shorts: float = 20.0
    streams: float = 1.0
    tokens: int = 240
    prompt: int = 16  # tokens; of servers that answer whole requests, items
    until: float = LONGEST  # s the streams last; the short requests go on

    def arrivals(self) -> list[Arrival]:
        """Evenly spaced: what is tested is that nothing is lost, not how queues grow."""
        short = [Arrival(n / self.shorts, self.prompt, 2) for n in range(int(LONGEST * self.shorts))]
        streams = [Arrival(n / self.streams, self.prompt, self.tokens) for n in range(int(self.until * self.streams))]
        return sorted(short + streams)


@dataclass
class Result:
    """One scenario. failed: without those that were lost; lost: failures inside of the windows in which requests cannot
    but be lost, with the server that had them; slowest: s of the slowest answer; recovered: s from the disruption until
    all was as wanted again, None where that is not part of the scenario."""

    scenario: str
    about: str
    sent: int = 0
    failed: int = 0
    lost: int = 0
    slowest: float = 0.0
    restarts: int = 0
    replaced: int = 0
    recovered: float | None = None
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    events: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Run:
    """A replay that goes on while a test disturbs what answers it. Times are s since the replay's start."""

    def __init__(self, result: Result, load: LoadProcess, pods: Callable[[], list[dict[str, Any]]]) -> None:
        self.result = result
        self.load = load
        self._pods = pods
        self._windows: list[tuple[float, float]] = []
        self._disrupted: float | None = None
        self._before = {pod["metadata"]["uid"]: _restarts(pod) for pod in pods()}

    def now(self) -> float:
        return time.monotonic() - self.load.began

    def mark(self, event: str) -> float:
        """Notes when something happened."""
        self.result.events[event] = round(self.now(), 2)
        return self.now()

    def disrupt(self, event: str) -> None:
        """What follows is the disruption: its recovery is counted from here."""
        self._disrupted = self.mark(event)

    def recovered(self) -> None:
        """All is as wanted again."""
        assert self._disrupted is not None
        self.result.recovered = round(self.now() - self._disrupted, 1)

    def on(self, seconds: float) -> None:
        """Let the traffic go on."""
        time.sleep(seconds)

    def lose(self, begin: float, end: float) -> None:
        """Requests under way between two times may be lost: no chart can keep them."""
        self._windows.append((begin, end))

    def count(self) -> None:
        """Pods that were replaced, and containers that were restarted, so far."""
        pods = {pod["metadata"]["uid"]: _restarts(pod) for pod in self._pods()}
        self.result.replaced = len(pods.keys() - self._before.keys())
        self.result.restarts = sum(count - self._before.get(uid, 0) for uid, count in pods.items())

    def judge(self, records: list[Record]) -> None:
        """Counts every request of the replay."""
        result = self.result
        bad = [r for r in records if r.error is not None]
        lost = [r for r in bad if any(r.sent <= end and r.sent + r.e2e >= begin for begin, end in self._windows)]
        result.sent, result.lost, result.failed = len(records), len(lost), len(bad) - len(lost)
        result.slowest = round(max((r.e2e for r in records if r.error is None), default=0.0), 2)
        result.seconds = round(max((r.sent + r.e2e for r in records), default=0.0), 1)
        result.errors = dict(Counter(str(r.error)[:60] for r in bad).most_common(5))


def _restarts(pod: dict[str, Any]) -> int:
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))


@contextmanager
def traffic(
    result: Result, url: str, model: str, mix: Mix, pods: Callable[[], list[dict[str, Any]]], api: str = "openai"
) -> Iterator[Run]:
    """Requests at a server from before the block until after it; at the end `result` is filled and the records kept."""
    with LoadProcess([Target(result.scenario, api, url, model, mix.arrivals())]) as load:
        deadline = time.monotonic() + 30
        while load.progress.done < 10:
            assert not load.wait(0.1), load.progress.fault
            assert time.monotonic() < deadline, "no answers"
        run = Run(result, load, pods)
        try:
            yield run
        finally:
            run.count()
            load.stop()
            ended = load.wait(ENDS_WITHIN)
            OUT.mkdir(parents=True, exist_ok=True)
            shutil.copy(load.records_path, OUT / f"{result.scenario}.jsonl")
            if ended:
                run.judge(load.results())
        assert ended, f"requests have been without an answer for {ENDS_WITHIN} s"


def keep(path: Path, text: str) -> None:
    """An artifact of the run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
