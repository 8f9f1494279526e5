"""`gpu-inference demo`: one command from nothing to an autoscaled service under real traffic, and a report of it."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from gpu_inference.cluster import inventory
from gpu_inference.cluster.progress import console_progress
from gpu_inference.demo import report
from gpu_inference.demo.environment import NAMESPACE
from gpu_inference.demo.result import Result, checks, gpu_hours
from gpu_inference.demo.scenario import Demo, Plan, autoscaled
from gpu_inference.demo.view import View, view
from gpu_inference.load import text, traces, window
from gpu_inference.load.command import add_slo_arguments, add_traffic_arguments
from gpu_inference.load.records import SLO
from gpu_inference.paths import VALUES
from gpu_inference.resolve import resolve

DURATION = 100.0  # s of traffic
LAYERS = ("prod.yaml", "overlays/demo.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Start a cluster, install the chart, replay traffic, watch the autoscaler, write a report."
    layers = " ".join(f"-f values/{name}" for name in LAYERS)
    parser.add_argument(
        "-f", "--values", action="append", type=Path, metavar="FILE", help=f"values (default: {layers})"
    )
    parser.add_argument("--cloud", choices=inventory.known(), help="whose nodes (default: what the values say)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster and the twin running")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the report (default: out/demo-<time>)")
    add_traffic_arguments(parser, DURATION)
    add_slo_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when every check passed, 1 when one did not, 2 for usage, 130 when interrupted; nothing is left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(args)
    except KeyboardInterrupt:
        _deaf()
        print("\ninterrupted: everything the demo had started is gone again", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    now = datetime.now().astimezone()
    folder = report.make_folder(args.output, Path("out"), now.strftime("%Y%m%d-%H%M%S"))
    with ExitStack() as stack:
        stack.callback(report.remove_if_empty, folder)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu-inference-demo-")))
        result, plan = _prepare(args, _layers(args, work), now)
        screen = stack.enter_context(view())
        screen.step(text.plan(result.traffic, result.model))
        screen.step(f"service level: {result.slo}")
        with _undone(screen) as started:
            demo = Demo(plan, result, screen, console_progress(), started)
            demo.run()
            demo.finish()
        data = report.write(result, folder)
    _tell(result, folder)
    if plan.keep:
        _tell_kept(demo)
    return 0 if data["passed"] else 1


def _layers(args: argparse.Namespace, work: Path) -> list[Path]:
    """The layers for helm; --cloud is one more, the last."""
    layers = list(args.values or (VALUES / name for name in LAYERS))
    if args.cloud:
        layers.append(work / "cloud.yaml")
        layers[-1].write_text(f"cloud: {args.cloud}\n")
    return layers


def _prepare(args: argparse.Namespace, layers: list[Path], now: datetime) -> tuple[Result, Plan]:
    """What will run. Raises UserError for everything that can be known to be wrong by now."""
    release = resolve(layers)
    model = autoscaled(release["models"])
    spec = release["models"][model]
    trace = traces.choose(args.trace, args.seed)
    start = window.rising_start(trace, args.duration) if args.start is None else args.start
    arrivals = window.select(trace, args.duration, args.rate, start, args.seed)
    context, clipped = spec["model"].get("contextLength"), 0
    if context:
        arrivals, clipped = window.clip(arrivals, context)
    scaling = spec["autoscaling"]
    result = Result(
        model=model,
        minimum=scaling["minReplicas"],
        maximum=scaling["maxReplicas"],
        target=scaling["target"]["requestsInFlight"],
        slo=SLO(args.slo_ttft, args.slo_itl),
        cluster={"provider": "embedded", "cloud": release["cloud"]},
        layers=[path.name for path in layers],
        traffic={
            "trace": trace.source,
            "start_s": start,
            "duration_s": args.duration,
            "rate": args.rate,
            "requests": len(arrivals),
            "clipped": clipped,
        },
        started=now.isoformat(timespec="seconds"),
    )
    name = f"demo-{os.getpid()}"
    return result, Plan(release["models"], layers, release["cloud"], arrivals, name, args.keep)


def _deaf() -> dict[signal.Signals, Any]:
    """From now on Ctrl-C and SIGTERM do nothing; the handlers they had."""
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}


@contextmanager
def _undone(screen: View) -> Iterator[ExitStack]:
    """A stack whose unwinding no second Ctrl-C cuts short."""
    started = ExitStack()
    try:
        yield started
    except KeyboardInterrupt:
        screen.close()
        print("\ninterrupted: cleaning up", file=sys.stderr, flush=True)
        raise
    finally:
        before = _deaf()
        screen.close()
        started.close()
        if sys.exc_info()[0] is not KeyboardInterrupt:
            for number, handler in before.items():
                signal.signal(number, handler)


def _tell(result: Result, folder: Path) -> None:
    found = checks(result)
    width = max(len(check.name) for check in found)
    print()
    for check in found:
        print(f"  {'ok    ' if check.passed else 'FAILED'}  {check.name:{width}}  {check.detail}")
    print()
    print(text.summary(result.load[result.model]))
    hours = gpu_hours(result)
    print(f"GPU-hours {hours['held']:.3f}, {hours['saved']:.0%} less than a fleet fixed at the peak")
    print(f"report: {folder / 'report.html'}")


def _tell_kept(demo: Demo) -> None:
    config = shlex.quote(str(demo.cluster.kubeconfig))
    print(f"""
kept, with the release in namespace {NAMESPACE}. To look:
  export KUBECONFIG={config}
  {demo.cluster.kubectl_path} -n {NAMESPACE} get deploy,hpa,pods
  Prometheus: {demo.cluster.prometheus_url}   twin: {demo.cluster.twin_url}/twin/status
For more traffic:
  gpu-inference load --url {demo.url(demo.result.model)} --duration 60
To stop it:
  kill {demo.twin.process.pid}; gpu-inference cluster down --name {demo.plan.name}""")
