"""Synthetic traffic with the rates and lengths fitted to the Azure LLM inference conversation trace of 2023.

Arrivals are a Gamma renewal process in the time of a slow hump; lengths are lognormal through the published median and
99th percentile. Figures of the recorded hour (19,366 requests in 3,502 s): 5.53 requests/s, 3.2 to 8.5 a minute's mean,
coefficient of variation of the gaps 1.09; prompts p50 1020, p99 4142 tokens; answers p50 129, p99 601 tokens.
"""

from __future__ import annotations

import math
import random

SECONDS = 3502.0
MEAN_RATE = 5.53
# The hump over a level, fitted by eye to the recorded minutes: height relative to the level, middle and width in s.
HUMP, HUMP_MIDDLE, HUMP_WIDTH = 0.75, 1780.0, 400.0
# Of the renewal process alone; the hump adds the rest of the 1.09 measured over the hour.
GAP_CV = 1.06
P99 = 2.3263478740408408  # the standard normal's 99th percentile
LENGTHS = {"input": (1020, 4142, 14050), "output": (129, 601, 1000)}  # p50, p99, longest recorded


def hump(time: float) -> float:
    """Rate at `time` (s) relative to the level outside the hump."""
    return 1 + HUMP * math.exp(-(((time - HUMP_MIDDLE) / HUMP_WIDTH) ** 2) / 2)


def _length(rng: random.Random, p50: int, p99: int, longest: int) -> int:
    return min(longest, max(1, round(rng.lognormvariate(math.log(p50), math.log(p99 / p50) / P99))))


def conversation(seed: int = 0) -> list[tuple[float, int, int]]:
    """About 19,400 requests over 3,502 s: (time in s, prompt tokens, tokens to generate); seeded."""
    rng = random.Random(seed)
    level = MEAN_RATE * SECONDS / sum(hump(t + 0.5) for t in range(int(SECONDS)))
    shape = 1 / GAP_CV**2
    rows: list[tuple[float, int, int]] = []
    time = 0.0
    while True:
        # The hump changes over minutes, the gaps are fractions of a second: the rate is constant over one gap.
        time += rng.gammavariate(shape, 1 / shape) / (level * hump(time))
        if time >= SECONDS:
            return rows
        rows.append((time, _length(rng, *LENGTHS["input"]), _length(rng, *LENGTHS["output"])))
