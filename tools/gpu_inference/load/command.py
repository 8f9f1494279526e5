"""`gpu-inference load`: replay a trace against any OpenAI-compatible endpoint and judge what came back."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gpu_inference.errors import UserError
from gpu_inference.load import text, traces, window
from gpu_inference.load.process import LoadProcess, Target, json_summary
from gpu_inference.load.process import Progress as State
from gpu_inference.load.records import SLO

PLAIN_EVERY = 10.0  # s between two lines of progress where there is no terminal


def positive(name: str) -> Any:
    """An argparse type: a finite number above zero."""

    def parse(value: str) -> float:
        number = float(value)
        if not 0 < number < float("inf"):
            raise ValueError
        return number

    parse.__name__ = name
    return parse


def add_traffic_arguments(parser: argparse.ArgumentParser, duration: float | None) -> None:
    """The options that choose the traffic; `load` and `demo` share them."""
    group = parser.add_argument_group("traffic")
    group.add_argument(
        "--trace",
        metavar="FILE|conversation|synthetic",
        help="what to replay: Azure CSV, Mooncake JSONL, BurstGPT CSV or CSV with time,input,output;"
        " default: the recorded Azure conversation trace where it is found (GPU_INFERENCE_TRACES), else synthetic",
    )
    whole = "the whole trace" if duration is None else f"{duration:g} s"
    number = positive("positive number")
    group.add_argument(
        "--duration", type=number, default=duration, metavar="S", help=f"seconds of it (default: {whole})"
    )
    group.add_argument(
        "--rate", type=number, default=1.0, metavar="X", help="times its rate: thinned or replicated (default: 1)"
    )
    group.add_argument(
        "--start",
        type=float,
        metavar="S",
        help="second of the trace to start at (default: where --duration seconds of it rise most)",
    )
    group.add_argument("--seed", type=int, default=0, help="of everything drawn by chance (default: 0)")


def add_slo_arguments(parser: argparse.ArgumentParser) -> None:
    """The service level; its defaults are SLO's."""
    group = parser.add_argument_group("service level")
    number = positive("positive number")
    group.add_argument(
        "--slo-ttft", type=number, default=SLO.ttft, metavar="S", help=f"time to first token (default: {SLO.ttft:g} s)"
    )
    group.add_argument(
        "--slo-itl", type=number, default=SLO.itl, metavar="S", help=f"time per token after it (default: {SLO.itl:g} s)"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Replay traffic open loop (a slow answer delays no request) and measure TTFT, ITL and the service level."
    )
    parser.add_argument("--url", required=True, help="the endpoint, as far as what stands before /v1/completions")
    parser.add_argument("--model", help="served model name (default: the only one of /v1/models)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("--records", type=Path, metavar="FILE", help="also keep every request's record, JSON lines")
    add_traffic_arguments(parser, duration=None)
    add_slo_arguments(parser)


def served_model(url: str, wanted: str | None) -> tuple[str, int | None]:
    """Name and context length (tokens, None where the server does not say) of a model of /v1/models."""
    address = url.rstrip("/") + "/v1/models"
    try:
        with urlopen(address, timeout=10) as response:
            models = {m["id"]: m.get("max_model_len") for m in json.load(response)["data"]}
    except HTTPError as error:
        raise UserError(
            f"{address} answers {error.code} {error.reason}", fix="name the root of an OpenAI-compatible server"
        ) from None
    except (URLError, OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"cannot use {address}: {reason}", fix="check --url; is the server ready?") from None
    if wanted is None and len(models) == 1:
        return next(iter(models.items()))
    if wanted is None or wanted not in models:
        what = f"no model {wanted!r} there" if wanted else "more than one model there" if models else "no model there"
        raise UserError(f"{what}: {', '.join(models) or 'none'}", fix="name one of them with --model")
    return wanted, models[wanted]


def _follow(load: LoadProcess, quiet: bool) -> None:
    """Show the progress on stderr until the load has ended."""
    if sys.stderr.isatty() and not quiet:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        from rich.console import Console

        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("requests", total=None)
            while not load.wait(0.5):
                bar.update(
                    task,
                    description=text.progress(load.progress),
                    completed=load.progress.done,
                    total=load.progress.planned,
                )
        return
    while not load.wait(PLAIN_EVERY):
        if not quiet and load.progress != State():
            print(text.progress(load.progress), file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
    """Exit 0: every request answered and the service level met; 1: not so; 2: usage."""
    trace = traces.choose(args.trace, args.seed)
    duration = args.duration or trace.duration + 1
    model, context = served_model(args.url, args.model)
    arrivals = window.select(trace, duration, args.rate, args.start, args.seed)
    clipped = 0
    if context:
        arrivals, clipped = window.clip(arrivals, context)
    plan = {
        "trace": trace.source,
        "requests": len(arrivals),
        "duration_s": duration,
        "rate": args.rate,
        "clipped": clipped,
    }
    print(text.plan(plan, model), file=sys.stderr)
    with LoadProcess([Target(model, "openai", args.url.rstrip("/"), model, arrivals)]) as load:
        _follow(load, quiet=False)
        found = load.results()
        if args.records:
            _keep(load.records_path, args.records)
    summary = {"plan": plan, "url": args.url, "model": model} | json_summary(found, SLO(args.slo_ttft, args.slo_itl))[
        model
    ]
    print(json.dumps(summary, indent=2) if args.output == "json" else text.summary(summary))
    return 0 if summary["requests"]["failed"] == 0 and summary.get("slo", {}).get("met") else 1


def _keep(source: Path, target: Path) -> None:
    try:
        target.write_bytes(source.read_bytes())
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}", exit_code=1) from None
