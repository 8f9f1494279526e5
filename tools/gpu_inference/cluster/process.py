"""Processes: children that never outlive their owner, names for them that stay true, and locks among them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.1
_TICK_SECONDS = 1.0
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process when the thread that started it ends (Linux only)."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run_group(
    command: Sequence[str], cwd: Path | None, env: dict[str, str], tick: Callable[[float], None]
) -> tuple[int, str]:
    """Runs `command` in a process group of its own and returns its exit code and output (stdout and stderr).

    `tick` is called about once a second with the seconds passed. An exception (Ctrl-C among them) kills the group.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            next_tick = _TICK_SECONDS
            while child.poll() is None:
                time.sleep(_POLL_SECONDS)
                if time.monotonic() - started >= next_tick:
                    tick(time.monotonic() - started)
                    next_tick += _TICK_SECONDS
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        output.seek(0)
        return child.returncode, output.read()


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when there is no such process (or it is a zombie).

    With the pid it names a process for good: pids are used again, start times are not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_running(pid: int, started: int) -> bool:
    """Whether the process `pid` that started at `started` (see start_time) still runs."""
    return start_time(pid) == started


def stop(pid: int, started: int, timeout: float) -> bool:
    """SIGTERM, then SIGKILL after `timeout` seconds. True when the process had to be killed."""
    if not is_running(pid, started):
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while is_running(pid, started):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Holds `path` as a lock file among processes; it is freed when the process ends, however it ends.

    Gives whether it is held: with `wait` it always is, without it is not where somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
