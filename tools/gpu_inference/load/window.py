"""A part of a trace, at another rate: what one run replays."""

from __future__ import annotations

import random
from bisect import bisect_left

from gpu_inference.errors import UserError
from gpu_inference.load.traces import Arrival, Trace

STEP = 5.0  # s between the candidate starts of a window
JITTER = 2.0  # s a replicated arrival is moved by at most


def rising_start(trace: Trace, duration: float) -> float:
    """Start (s) of the window of `duration` whose second half has most arrivals more than its first; the earliest such.

    A replay of it gives an autoscaler a slope to follow, instead of a level.
    """
    times = [a.time for a in trace.arrivals]

    def count(begin: float, end: float) -> int:
        return bisect_left(times, end) - bisect_left(times, begin)

    last = max(trace.duration - duration, 0.0)
    starts = [i * STEP for i in range(int(last / STEP) + 1)]
    half = duration / 2
    return max(starts, key=lambda s: (count(s + half, s + duration) - count(s, s + half), -s))


def cut(trace: Trace, start: float, duration: float) -> list[Arrival]:
    """Arrivals of [start, start + duration), times counted from `start`."""
    return [a._replace(time=a.time - start) for a in trace.arrivals if start <= a.time < start + duration]


def scale(arrivals: list[Arrival], rate: float, duration: float, seed: int) -> list[Arrival]:
    """`rate` times as many arrivals: the whole part as copies moved by up to 2 s, the fraction by chance; seeded."""
    rng = random.Random(seed)
    out = []
    for arrival in arrivals:
        copies = int(rate) + (rng.random() < rate % 1)
        for copy in range(copies):
            moved = arrival.time + (rng.uniform(-JITTER, JITTER) if copy else 0.0)
            out.append(arrival._replace(time=min(max(moved, 0.0), duration)))
    return sorted(out)


def clip(arrivals: list[Arrival], context: int) -> tuple[list[Arrival], int]:
    """Requests shortened to a context of `context` tokens (prompt first), and how many were."""
    out, clipped = [], 0
    for a in arrivals:
        output = min(a.output, context - 1)
        fitted = a._replace(input=min(a.input, context - output), output=output)
        clipped += fitted != a
        out.append(fitted)
    return out, clipped


def select(
    trace: Trace, duration: float, rate: float = 1.0, start: float | None = None, seed: int = 0
) -> list[Arrival]:
    """The arrivals one run replays; `start` None chooses the rising window. Raises UserError when nothing is left."""
    if start is None:
        start = rising_start(trace, duration)
    chosen = scale(cut(trace, start, duration), rate, duration, seed)
    if not chosen:
        raise UserError(
            f"no request of the trace {trace.name} in the {duration:g} s from {start:g} s, at {rate:g} times its rate",
            fix=f"the trace is {trace.duration:.0f} s long: choose --start, --duration and --rate accordingly",
        )
    return chosen
