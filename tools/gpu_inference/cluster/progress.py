"""Progress of long work: what is done, how far it is (n of m) and how long it has taken."""

from __future__ import annotations

import atexit
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.status import Status

_LINE_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Event:
    """One report: `what` is step `step` of `total` and has taken `seconds`; `finished`: it is over; `failed`: badly."""

    what: str
    step: int
    total: int
    seconds: float = 0.0
    finished: bool = False
    failed: bool = False

    def __str__(self) -> str:
        head = f"[{self.step}/{self.total}] {self.what}"
        if self.failed:
            return f"{head}: failed after {self.seconds:.1f} s"
        if self.finished:
            return f"{head}: {self.seconds:.1f} s"
        return f"{head} … {self.seconds:.0f} s" if self.seconds >= 1 else f"{head} …"


Progress = Callable[[Event], None]
Tick = Callable[[float], None]


def silent(event: Event) -> None:
    """A Progress that shows nothing."""


@contextlib.contextmanager
def step(progress: Progress, what: str, number: int, total: int) -> Iterator[Tick]:
    """Reports the block as one step. The block may call what it is given with the seconds passed so far."""
    event = Event(what, number, total)
    started = time.monotonic()
    progress(event)
    try:
        yield lambda seconds: progress(replace(event, seconds=seconds))
    except BaseException:
        progress(replace(event, seconds=time.monotonic() - started, finished=True, failed=True))
        raise
    progress(replace(event, seconds=time.monotonic() - started, finished=True))


def console_progress(stream: TextIO | None = None) -> Progress:
    """A Progress that shows a live line on a terminal, and plain lines (one a step, one each 30 s) elsewhere."""
    stream = stream or sys.stderr
    console = Console(file=stream, highlight=False)
    return _Live(console) if console.is_terminal else _Lines(stream)


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.last: tuple[str, float] = ("", 0.0)

    def __call__(self, event: Event) -> None:
        what, seconds = self.last
        if event.finished or event.what != what or event.seconds - seconds >= _LINE_EVERY_SECONDS:
            print(event, file=self.stream, flush=True)
            self.last = (event.what, event.seconds)


class _Live:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.status: Status | None = None
        atexit.register(self._stop)  # gives the cursor back whatever happens

    def __call__(self, event: Event) -> None:
        if event.finished:
            self._stop()
            self.console.print(str(event), markup=False)
        elif self.status:
            self.status.update(escape(str(event)))
        else:
            self.status = self.console.status(escape(str(event)))
            self.status.start()

    def _stop(self) -> None:
        if self.status:
            self.status.stop()
            self.status = None
