"""What was measured: one record a request, their percentiles, and the service level they reached.

Terms, all in seconds as the client saw them:
- TTFT: from the moment the request was sent (connecting included) to the first token.
- ITL: time between two successive pieces of the stream, all of all requests; the first token's wait is not in it.
- TPOT: a request's mean time per token after the first: (last token - first token) / (tokens - 1).
- send lag: how much later than planned a request was sent. If it is not small, the generator was the bottleneck.
- attainment: the share of all requests, failed ones included, that succeeded with TTFT and TPOT within their targets.
- goodput: such requests per second of the replay (the definition of DistServe, OSDI 2024).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PERCENTILES = (50, 90, 95, 99)
# The 99th percentile above which the replay is not the traffic that was asked for: well below any TTFT target, well
# above what a busy machine's scheduler costs.
MAX_SEND_LAG = 0.25


@dataclass(slots=True)
class Record:
    """One request. Times in s: `due` and `sent` since the replay's start, the rest since `sent`."""

    target: str
    due: float
    sent: float
    input: int
    output: int = 0
    ttft: float | None = None
    e2e: float = 0.0
    gaps: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def tpot(self) -> float | None:
        """Mean seconds per token after the first; None for answers of one token."""
        return sum(self.gaps) / (self.output - 1) if self.gaps and self.output > 1 else None


@dataclass(frozen=True)
class SLO:
    """Targets in s and the share of requests that must meet both."""

    ttft: float = 2.0
    itl: float = 0.1
    share: float = 0.95

    def __str__(self) -> str:
        return (
            f"{self.share:.0%} of requests: first token within {self.ttft:g} s,"
            f" then {self.itl * 1000:g} ms a token or less on average"
        )

    def met_by(self, record: Record) -> bool:
        """Whether the request succeeded within both targets. One without a stream has no first token and cannot."""
        if record.error is not None or record.ttft is None:
            return False
        return record.ttft <= self.ttft and (record.tpot or 0.0) <= self.itl


def to_line(record: Record) -> str:
    """One line of JSON; times rounded to 10 µs."""
    row = asdict(record)
    for key in ("due", "sent", "ttft", "e2e"):
        row[key] = None if row[key] is None else round(row[key], 5)
    row["gaps"] = [round(gap, 5) for gap in record.gaps]
    return json.dumps(row, separators=(",", ":"))


def read(path: Path) -> list[Record]:
    """The records of a file, in the order in which the requests ended."""
    with path.open() as file:
        return [Record(**json.loads(line)) for line in file]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of sorted values, with linear interpolation (numpy's default)."""
    position = (len(ordered) - 1) * percent / 100
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def distribution(values: Iterable[float]) -> dict[str, float] | None:
    """{mean, p50, p90, p95, p99, max}, None without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    stats = {"mean": sum(ordered) / len(ordered)}
    stats |= {f"p{p}": percentile(ordered, p) for p in PERCENTILES}
    return {name: round(value, 5) for name, value in (stats | {"max": ordered[-1]}).items()}


def attainment(records: Sequence[Record], slo: SLO, seconds: float) -> dict[str, Any]:
    """The service level reached by streamed requests over a replay of `seconds`."""
    good = sum(slo.met_by(r) for r in records)
    total = len(records)
    return {
        "statement": str(slo),
        "ttft_target_s": slo.ttft,
        "itl_target_s": slo.itl,
        "share_target": slo.share,
        "attainment": round(good / total, 5) if total else None,
        "ttft_attainment": round(sum(r.ttft is not None and r.ttft <= slo.ttft for r in records) / total, 5)
        if total
        else None,
        "met": bool(total) and good / total >= slo.share,
        "goodput_rps": round(good / seconds, 4) if seconds else None,
    }


def summarize(records: Sequence[Record], slo: SLO | None = None) -> dict[str, Any]:
    """Counts, distributions and, with `slo`, the service level. Seconds run from the first send to the last answer."""
    ok = [r for r in records if r.error is None]
    begin = min((r.sent for r in records), default=0.0)
    seconds = max((r.sent + r.e2e for r in records), default=0.0) - begin
    tokens = sum(r.output for r in records)
    lag = distribution(r.sent - r.due for r in records)
    summary: dict[str, Any] = {
        "requests": {"total": len(records), "ok": len(ok), "failed": len(records) - len(ok)},
        "errors": dict(Counter(r.error for r in records if r.error is not None).most_common()),
        "seconds": round(seconds, 3),
        "tokens": {
            "input": sum(r.input for r in records),
            "output": tokens,
            "output_per_s": round(tokens / seconds, 2) if seconds else 0.0,
        },
        "ttft_s": distribution(r.ttft for r in records if r.ttft is not None),
        "itl_s": distribution(gap for r in records for gap in r.gaps),
        "tpot_s": distribution(r.tpot for r in records if r.tpot is not None),
        "e2e_s": distribution(r.e2e for r in ok),
        "send_lag_s": lag,
        "generator_kept_up": lag is None or lag["p99"] <= MAX_SEND_LAG,
    }
    if slo is not None:
        summary["slo"] = attainment(records, slo, seconds)
    return summary
