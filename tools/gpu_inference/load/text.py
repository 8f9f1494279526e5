"""A replay in words, for a terminal."""

from __future__ import annotations

from typing import Any

from gpu_inference.load.process import Progress

ROWS = (("TTFT", "ttft_s"), ("ITL", "itl_s"), ("TPOT", "tpot_s"), ("end to end", "e2e_s"), ("send lag", "send_lag_s"))


def duration(seconds: float | None) -> str:
    """Seconds with a unit that leaves three significant digits."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def plan(what: dict[str, Any], model: str) -> str:
    """One line before the replay."""
    note = f"; {what['clipped']} shortened to the model's context" if what["clipped"] else ""
    rate = what["requests"] / what["duration_s"]
    requests = f"{what['requests']} requests to {model} in {what['duration_s']:.0f} s, {rate:.2f}/s"
    return f"traffic: {what['trace']}: {requests}{note}"


def progress(state: Progress) -> str:
    """One line while the replay runs."""
    return (
        f"{state.time:4.0f} s  {state.done}/{state.planned} answered, {state.in_flight} in flight,"
        f" {state.failed} failed, TTFT p50 {duration(state.ttft_p50)} p95 {duration(state.ttft_p95)}"
    )


def summary(result: dict[str, Any]) -> str:
    """The measured figures as lines."""
    counts, tokens = result["requests"], result["tokens"]
    lines = [
        f"{counts['total']} requests, {counts['failed']} failed, in {result['seconds']:.1f} s;"
        f" {tokens['input']} tokens in, {tokens['output']} out ({tokens['output_per_s']:.0f}/s)"
    ]
    lines += [f"  {number} x {error}" for error, number in result["errors"].items()]
    columns = ("mean", "p50", "p95", "p99", "max")
    lines.append(f"{'':12}" + "".join(f"{name:>10}" for name in columns))
    for name, key in ROWS:
        if stats := result[key]:
            lines.append(f"{name:12}" + "".join(f"{duration(stats[column]):>10}" for column in columns))
    if slo := result.get("slo"):
        verdict = "met" if slo["met"] else "missed"
        lines.append(
            f"service level {verdict}: {slo['attainment']:.1%} (wanted: {slo['statement']});"
            f" goodput {slo['goodput_rps']:.2f}/s"
        )
    if not result["generator_kept_up"]:
        lines.append(
            "the generator was too slow for this rate (see send lag): latencies are better than the traffic asked for"
        )
    return "\n".join(lines)
