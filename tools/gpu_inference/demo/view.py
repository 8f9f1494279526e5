"""The demo on the screen: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gpu_inference.demo.observe import Sample
from gpu_inference.load.text import duration

PLAIN_EVERY = 10.0  # s
SPARKS = "▁▂▃▄▅▆▇█"
COLOURS = {"pending": "yellow", "loading": "cyan", "ready": "green", "terminating": "magenta"}


def sparkline(values: list[float], width: int) -> str:
    """The last `width` values as bars from 0 to their maximum."""
    shown = values[-width:]
    top = max(shown, default=0) or 1
    return "".join(SPARKS[min(int(v / top * (len(SPARKS) - 1) + 0.5), len(SPARKS) - 1)] for v in shown)


def line(phase: str, s: Sample) -> str:
    """One sample on one line, without its time."""
    pods = ", ".join(f"{count} {name}" for name, count in s.pods.items() if count) or "none"
    return (
        f"{phase}: {s.nodes} nodes; pods {pods}; replicas {s.ready}/{s.desired};"
        f" in flight {s.in_flight}; answered {s.done}, failed {s.failed};"
        f" TTFT p50 {duration(s.ttft_p50)} p95 {duration(s.ttft_p95)}; GPU-hours {s.gpu_hours:.3f}"
    )


class View:
    """Plain lines: steps as they happen, a sample every 10 s."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.began = time.monotonic()
        self._printed = float("-inf")  # the clock's seconds of the last sample that was shown

    def __enter__(self) -> View:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.close()

    def clock(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self.began

    def close(self) -> None:
        """Nothing moves any more."""

    def step(self, text: str) -> None:
        """Something has happened."""
        print(f"{self.clock():5.0f} s  {text}", file=self.stream, flush=True)

    def show(self, phase: str, sample: Sample, planned: int) -> None:
        """The newest sample."""
        if self.clock() - self._printed >= PLAIN_EVERY:
            self._printed = self.clock()
            self.step(line(phase, sample))


class LiveView(View):
    """A table that is redrawn with each sample, under the steps."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self._live: Live | None = None
        self._history: dict[str, list[float]] = {"replicas": [], "in flight": []}

    def close(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def step(self, text: str) -> None:
        self.console.print(f"[dim]{self.clock():5.0f} s[/dim]  {text}", highlight=False)

    def show(self, phase: str, sample: Sample, planned: int) -> None:
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        self._history["replicas"].append(sample.ready)
        self._history["in flight"].append(sample.in_flight)
        self._live.update(self._panel(phase, sample, planned), refresh=True)

    def _panel(self, phase: str, s: Sample, planned: int) -> Panel:
        width = max(10, min(60, self.console.width - 50))
        table = Table.grid(padding=(0, 2))
        pods = Text("  ").join(Text(f"{s.pods[name]} {name}", style=colour) for name, colour in COLOURS.items())
        table.add_row("pods", pods, f"on {s.nodes} nodes")
        replicas = f"{s.ready} ready / {s.desired} desired"
        table.add_row("replicas", Text(replicas, style="bold"), sparkline(self._history["replicas"], width))
        metric = "" if s.metric is None else f" ({s.metric:.1f} a replica)"
        table.add_row("in flight", f"{s.in_flight}{metric}", sparkline(self._history["in flight"], width))
        table.add_row("TTFT", f"p50 {duration(s.ttft_p50)}   p95 {duration(s.ttft_p95)}", "")
        table.add_row("GPU-hours", f"{s.gpu_hours:.3f}", f"{s.gpus:.0f} GPUs held")
        failed = Text(f"{s.failed} failed", style="red" if s.failed else "green")
        table.add_row("requests", f"{s.done} of {planned} answered", failed)
        bar = ProgressBar(total=max(planned, 1), completed=s.done, width=width + 30)
        return Panel(Group(table, bar), title=f"{phase}  {self.clock():.0f} s", border_style="blue", expand=False)


def view() -> View:
    """The one that suits stdout."""
    console = Console()
    return LiveView(console) if console.is_terminal else View()
