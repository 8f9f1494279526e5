"""Starting the load process and following it. Nothing here imports locust: its patches stay in the other process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.load import records
from gpu_inference.load.traces import Arrival

STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Target:
    """Requests for one model: `api` is a key of client.APIS, `url` what its paths are appended to."""

    name: str
    api: str
    url: str
    model: str
    arrivals: Iterable[Arrival]


@dataclass(frozen=True)
class Progress:
    """State of a replay: s since its start, requests, s of TTFT so far and of the largest send lag."""

    time: float = 0.0
    planned: int = 0
    sent: int = 0
    done: int = 0
    failed: int = 0
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    tokens: int = 0
    lag: float = 0.0
    finished: bool = False
    fault: str | None = None

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered yet."""
        return self.sent - self.done


@dataclass
class LoadProcess:
    """A replay in a process of its own; use as a context manager. `progress` is its newest state."""

    targets: list[Target]
    progress: Progress = field(default_factory=Progress)
    began: float = 0.0  # time.monotonic() of the replay's start, known with the first progress

    def __enter__(self) -> LoadProcess:
        self._folder = tempfile.TemporaryDirectory(prefix="gpu-inference-load-")
        folder = Path(self._folder.name)
        self.records_path = folder / "requests.jsonl"
        self._log = folder / "log"
        try:
            self._start(folder)
        except OSError as error:
            self._folder.cleanup()
            raise UserError(f"cannot start the load in {folder}: {error.strerror}") from None
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()
        return self

    def _start(self, folder: Path) -> None:
        plan = folder / "plan.json"
        plan.write_text(json.dumps({"targets": [asdict(t) | {"arrivals": list(t.arrivals)} for t in self.targets]}))
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gpu_inference.load.worker", str(plan), str(self.records_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C reaches the caller alone, who ends this process in good order
            )

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.progress = Progress(**json.loads(line))
            self.began = self.began or time.monotonic() - self.progress.time

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end; whether it came."""
        self._reader.join(seconds)
        if self._reader.is_alive():
            return False
        self._process.wait()
        return True

    def stop(self) -> None:
        """Send no more requests; those on their way are waited for, and the replay ends as after its last one."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended by itself
            self._process.stdin.write("stop\n")
            self._process.stdin.flush()

    def results(self) -> list[records.Record]:
        """The records, after the end. Raises UserError (exit code 1) when the replay did not get to its end."""
        self._reader.join()
        if self.progress.fault or self._process.wait() != 0:
            tail = self._log.read_text().strip().splitlines()[-1:]
            raise UserError(f"the load broke off: {self.progress.fault or ' '.join(tail) or 'no message'}", exit_code=1)
        return records.read(self.records_path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_SECONDS)
        self._folder.cleanup()


def json_summary(found: list[records.Record], slo: records.SLO) -> dict[str, Any]:
    """The summary of each target by name, the service level only where there are streams."""
    names = sorted({r.target for r in found})
    by_name = {name: [r for r in found if r.target == name] for name in names}
    return {
        name: records.summarize(rows, slo if any(r.ttft is not None for r in rows) else None)
        for name, rows in by_name.items()
    }
