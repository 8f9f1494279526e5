"""One cluster for all workers of a test run: who comes first makes it, and ends it once the others have done."""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_inference.cluster.kind import KindCluster

LONGEST = 3600.0  # s that an owner waits for the others; a worker that was killed never says that it has done


class Shared:
    """What the processes of one test run share: a folder named after the run."""

    def __init__(self, run: str) -> None:
        self.name = f"disruption-{run[:8]}"
        self._folder = Path(tempfile.gettempdir()) / f"gpu-inference-{self.name}"
        self._folder.mkdir(exist_ok=True)

    @contextmanager
    def made_once(self, cluster: KindCluster) -> Iterator[KindCluster]:
        """The cluster of the run, up: `cluster` itself, or what another worker has made of the same name."""
        with self._lock("cluster"):
            owner = not self._users()
            if owner:
                cluster.up()
            self._count(1)
        try:
            yield cluster if owner else KindCluster.attach(cluster.name)
        finally:
            with self._lock("cluster"):
                self._count(-1)
            if owner:
                deadline = time.monotonic() + LONGEST
                while self._users() and time.monotonic() < deadline:
                    time.sleep(1)
                cluster.down()
                self.remove()

    def remove(self) -> None:
        """Nobody uses it any more."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def turn(self, alone: bool) -> Iterator[None]:
        """Beside others, or alone."""
        with self._lock("turn", fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
            yield

    def _users(self) -> int:
        try:
            return int(json.loads((self._folder / "users").read_text()))
        except (OSError, ValueError):
            return 0

    def _count(self, change: int) -> None:
        (self._folder / "users").write_text(json.dumps(self._users() + change))

    @contextmanager
    def _lock(self, name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        with (self._folder / name).with_suffix(".lock").open("w") as file:
            fcntl.flock(file, how)
            yield
