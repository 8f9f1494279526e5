"""Many files at once: over processes where there are enough of them, with a progress bar on a terminal.

What comes out is in the order of the files, whatever the number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from gpu_inference.inputs import File, subjects_of
from gpu_inference.validate.engine import Judged, Subject, judge

# Shorter work needs no bar.
_PATIENCE_SECONDS = 1.0


Judge = Callable[[Subject], Judged]


def judge_all(files: Sequence[File], how: Judge = judge, processes: int | None = None, worth: int = 16) -> list[Judged]:
    """What `how` says of every subject of the files. `worth`: the files a process must have to be worth its start.
    UserError for the first file that cannot be read."""
    wanted = min(processes or _cores(), len(files) // worth)
    chunk = max(1, worth // 4)
    # A child's standard input is empty.
    if wanted < 2 or any(str(file.path) == "-" for file in files):
        return _collect((_judge_file(file, how) for file in files), len(files))
    with _pool(wanted) as pool:
        # Not pool.map: it cancels what is left, which the pool's own thread trips over when the children are gone.
        chunks = [pool.submit(_judge_files, files[n : n + chunk], how) for n in range(0, len(files), chunk)]
        return _collect((judged for done in chunks for judged in done.result()), len(files))


def _cores() -> int:
    """Those this process may use, which in a container can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _judge_file(file: File, how: Judge) -> list[Judged]:
    return [how(subject) for subject in subjects_of(file)]


def _judge_files(files: Sequence[File], how: Judge) -> list[list[Judged]]:
    return [_judge_file(file, how) for file in files]


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Children inherit what is imported and read where the system can fork safely. Ctrl-C ends them without a word."""
    fork = sys.platform == "linux"
    if fork:
        _read_chart()
    context = multiprocessing.get_context("fork" if fork else "spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_die_on_interrupt)
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        pool.shutdown()
        raise
    pool.shutdown()


def _die_on_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _read_chart() -> None:
    """Reads the chart's schema, presets and defaults, once for all children."""
    judge(Subject([]))


def _collect(results: Iterable[list[Judged]], total: int) -> list[Judged]:
    collected: list[Judged] = []
    with _bar(total) as advance:
        for judged in results:
            collected += judged
            advance()
    return collected


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Counts files on standard error if that is a terminal and the work takes long; the bar goes when it is done."""
    started, done = time.monotonic(), 0
    progress = None

    def advance() -> None:
        nonlocal done, progress
        done += 1
        if progress is None and sys.stderr.isatty() and time.monotonic() - started > _PATIENCE_SECONDS:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            columns = ("validate", BarColumn(), MofNCompleteColumn(), "files", TimeRemainingColumn())
            progress = Progress(*columns, console=Console(stderr=True), transient=True)
            progress.add_task("", total=total)
            progress.start()
        if progress is not None:
            progress.update(progress.task_ids[0], completed=done)

    try:
        yield advance
    finally:
        if progress is not None:
            progress.stop()
