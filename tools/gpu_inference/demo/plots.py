"""The demo's plots. Time runs in seconds since the traffic began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gpu_inference.demo.result import Result, peak_gpus
from gpu_inference.load.records import percentile

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#2563eb", "#ea7317", "#15803d", "#dc2626", "#7c3aed", "#94a3b8"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#64748b",
    "axes.grid": True,
    "grid.color": "#e2e8f0",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.dpi": 110,
}
BIN = 5.0  # s over which rates are averaged
TREND = 10.0  # s of arrivals a point of the TTFT trend looks at


def _clock(result: Result) -> list[float]:
    return [s.time - result.traffic_at for s in result.samples]


def _legend(ax: Axes) -> None:
    # On the title's line, where no curve can be behind it.
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=4, borderaxespad=0.2, columnspacing=1.2, fontsize=9)


def traffic(ax: Axes, result: Result) -> None:
    """Arrivals of the autoscaled model's requests, and the tokens they asked for."""
    rows = [r for r in result.records if r.target == result.model]
    bins = [i * BIN for i in range(int(max((r.sent for r in rows), default=0) / BIN) + 1)]
    edges = [*bins, bins[-1] + BIN]
    ax.hist([r.sent for r in rows], bins=edges, weights=[1 / BIN] * len(rows), color=BLUE, alpha=0.85, rwidth=0.92)
    ax.set_ylabel("requests/s", color=BLUE)
    tokens = ax.twinx()
    sums = [sum(r.output for r in rows if b <= r.sent < b + BIN) / BIN for b in bins]
    tokens.plot([b + BIN / 2 for b in bins], sums, color=ORANGE)
    tokens.set_ylabel("output tokens/s asked for", color=ORANGE)
    tokens.set_ylim(bottom=0)
    tokens.grid(False)
    ax.set_title(f"Traffic: {result.traffic['trace']}")


def replicas(ax: Axes, result: Result) -> None:
    """What the autoscaler wanted and what was ready."""
    times = _clock(result)
    ax.step(times, [s.desired for s in result.samples], where="post", color=ORANGE, label="desired by the HPA")
    ready = [s.ready for s in result.samples]
    ax.step(times, ready, where="post", color=GREEN, label="ready")
    ax.fill_between(times, ready, step="post", color=GREEN, alpha=0.15)
    ax.axhline(result.minimum, color=GREY, linestyle=":", label="minimum, maximum")
    ax.axhline(result.maximum, color=GREY, linestyle=":")
    ax.set_ylim(0, result.maximum + 1)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel("replicas")
    _legend(ax)
    ax.set_title("Replicas")


def queue(ax: Axes, result: Result) -> None:
    """Requests in the servers, as Prometheus scraped them, beside the level the autoscaler aims at."""
    running, waiting = (result.series.get(name, []) for name in ("running", "waiting"))
    if running and waiting:
        held, behind = dict(running), dict(waiting)
        times = sorted(held.keys() & behind.keys())
        levels = [[held[t] for t in times], [behind[t] for t in times]]
        clock = [t - result.traffic_at for t in times]
        ax.stackplot(clock, *levels, labels=["running", "waiting"], colors=[BLUE, RED], alpha=0.75)
    clients = [s.in_flight for s in result.samples]
    ax.plot(_clock(result), clients, color=GREY, linewidth=1.2, label="seen by the client")
    wanted = [s.ready * result.target for s in result.samples]
    label = f"{result.target:g} a ready replica"
    ax.step(_clock(result), wanted, where="post", color=GREEN, linestyle="--", linewidth=1.2, label=label)
    ax.set_ylabel("requests")
    ax.set_ylim(bottom=0)
    _legend(ax)
    ax.set_title("Requests in flight")


def ttft(ax: Axes, result: Result) -> None:
    """Every request's time to first token, and the trend of its 95th percentile."""
    rows = [(r.sent, r.ttft) for r in result.records if r.target == result.model and r.ttft is not None]
    points = sorted(rows)
    ax.scatter(
        [t for t, _ in points], [v for _, v in points], s=7, color=BLUE, alpha=0.4, linewidths=0, label="a request"
    )
    trend = [
        (t, percentile(sorted(v for at, v in points if t - TREND < at <= t), 95))
        for t in range(5, int(result.duration) + 1, 2)
        if any(t - TREND < at <= t for at, _ in points)
    ]
    ax.plot([t for t, _ in trend], [v for _, v in trend], color=PURPLE, label=f"p95 of {TREND:g} s")
    ax.axhline(result.slo.ttft, color=RED, linestyle="--", linewidth=1.2, label=f"target {result.slo.ttft:g} s")
    ax.set_yscale("log")
    ax.set_ylabel("s")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _legend(ax)
    ax.set_title("Time to first token")


def gpu_hours(ax: Axes, result: Result) -> None:
    """GPU-hours held, beside a fleet that holds its peak."""
    times = _clock(result)
    peak = peak_gpus(result)
    fixed = [peak * (s.time - result.samples[0].time) / 3600 for s in result.samples]
    ax.plot(times, fixed, color=GREY, linestyle="--", label=f"fixed at the peak of {peak:.0f} GPUs")
    held = [s.gpu_hours for s in result.samples]
    ax.plot(times, held, color=GREEN, label="autoscaled")
    ax.fill_between(times, held, fixed, color=GREEN, alpha=0.12)
    ax.set_ylabel("GPU-hours")
    ax.set_ylim(bottom=0)
    _legend(ax)
    ax.set_title("GPU-hours held by the release")


PANELS: dict[str, Callable[[Axes, Result], None]] = {
    "traffic": traffic,
    "replicas": replicas,
    "queue": queue,
    "ttft": ttft,
    "gpu-hours": gpu_hours,
}


def _finish(ax: Axes, result: Result) -> None:
    ax.axvspan(0, result.duration, color=BLUE, alpha=0.04, linewidth=0)
    # The wait for the first pods says nothing; a little of it shows the state before.
    ax.set_xlim(-10, _clock(result)[-1])


def draw(result: Result, folder: Path) -> list[Path]:
    """Write <panel>.png for each panel and overview.png with all of them; the paths, the overview first."""
    paths = [folder / "overview.png"]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(PANELS), 1, figsize=(9.5, 2.5 * len(PANELS)), sharex=True, layout="constrained")
        for ax, panel in zip(axes, PANELS.values(), strict=True):
            panel(ax, result)
            _finish(ax, result)
        axes[-1].set_xlabel("seconds since the traffic began")
        figure.savefig(paths[0])
        plt.close(figure)
        for name, panel in PANELS.items():
            figure, ax = plt.subplots(figsize=(9.5, 3.4), layout="constrained")
            panel(ax, result)
            _finish(ax, result)
            ax.set_xlabel("seconds since the traffic began")
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1])
            plt.close(figure)
    return paths
