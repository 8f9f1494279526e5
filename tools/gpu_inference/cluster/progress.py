"""Progress of long work: what is done, how far it is (n of m) and how long it has taken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.status import Status

_LINE_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Event:
    """One report. `what` is running as step `step` of `total` since `seconds`; `finished` says that it is over."""

    what: str
    step: int
    total: int
    seconds: float = 0.0
    finished: bool = False

    def __str__(self) -> str:
        end = f" in {self.seconds:.1f} s" if self.finished else f" ({self.seconds:.0f} s)" if self.seconds >= 1 else ""
        return f"[{self.step}/{self.total}] {self.what}{end}"


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """A Progress that shows nothing."""


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

    def __call__(self, event: Event) -> None:
        if event.finished:
            if self.status:
                self.status.stop()
                self.status = None
            self.console.print(str(event), markup=False)
        elif self.status:
            self.status.update(str(event).replace("[", "\\["))
        else:
            self.status = self.console.status(str(event).replace("[", "\\["))
            self.status.start()
