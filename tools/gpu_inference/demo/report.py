"""Writing the report: summary.json, samples and records, plots, and one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from gpu_inference.demo.result import Result, summary
from gpu_inference.errors import UserError
from gpu_inference.load import records, text

CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #0f172a; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; border-bottom: 1px solid #cbd5e1; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem 1rem .25rem 0; vertical-align: top; }
th { color: #475569; font-weight: 600; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.ok { color: #15803d; font-weight: 600; } .bad { color: #dc2626; font-weight: 600; }
.note { color: #475569; } img { max-width: 100%; }
"""
LATENCIES = {"Time to first token": "ttft_s", "Between tokens": "itl_s", "Per token, a request's mean": "tpot_s"}
COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    def cell(value: Any) -> str:
        markup = value if isinstance(value, Markup) else escape(str(value))
        return f'<td class="n">{markup}</td>' if isinstance(value, int | float) else f"<td>{markup}</td>"

    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


class Markup(str):
    """HTML that is not to be escaped."""


def _verdict(passed: bool) -> Markup:
    return Markup('<span class="ok">passed</span>' if passed else '<span class="bad">failed</span>')


def _latency_rows(load: dict[str, Any]) -> list[list[str]]:
    rows = {**LATENCIES, "Whole answer": "e2e_s", "Generator's send lag": "send_lag_s"}
    return [[name, *(text.duration(load[key][c]) for c in COLUMNS)] for name, key in rows.items() if load[key]]


def _loads(loads: dict[str, Any]) -> str:
    parts = []
    for name, load in loads.items():
        counts = load["requests"]
        parts.append(f"<h2>Requests to {escape(name)}</h2>")
        tokens = f"; {load['tokens']['output']:,} tokens out" if load["tokens"]["output"] else ""
        parts.append(f"<p>{counts['total']} requests, {counts['failed']} failed{tokens}.</p>")
        parts.append(_table(["", *COLUMNS], _latency_rows(load)))
        if level := load.get("slo"):
            share = "-" if level["attainment"] is None else f"{level['attainment']:.1%}"
            parts.append(
                f"<p>Service level: {escape(level['statement'])}. Reached: <b>{share}</b>;"
                f" goodput {level['goodput_rps']:.2f} requests/s.</p>"
            )
    return "".join(parts)


def _facts(data: dict[str, Any]) -> list[list[Any]]:
    cluster, scale, gpu = data["cluster"], data["scaling"], data["gpu_hours"]
    objects = ", ".join(f"{count} {kind}" for kind, count in data["chart"]["objects"].items())
    return [
        ["Cluster", f"{cluster['nodes']} nodes of {cluster['cloud']}, Kubernetes {cluster['kubernetes']}"],
        ["Values", ", ".join(data["chart"]["layers"])],
        ["Objects", objects],
        ["Traffic", text.plan(data["traffic"], scale["model"]).removeprefix("traffic: ")],
        ["Replicas", f"{scale['min']} to {scale['peak_ready']} and back; allowed {scale['min']} to {scale['max']}"],
        ["First scale-up", _seconds(scale["first_scale_up_s"], "after the traffic began")],
        ["Back at the minimum", _seconds(scale["back_at_min_s"], "after the traffic began")],
        [
            "GPU-hours",
            f"{gpu['held']:.3f}; a fleet fixed at the peak of {scale['peak_ready']} replicas:"
            f" {gpu['fixed_at_peak']:.3f}; {gpu['saved']:.0%} saved",
        ],
        ["Phases", ", ".join(f"{name} {seconds:.0f} s" for name, seconds in data["seconds"].items())],
    ]


def _seconds(value: float | None, what: str) -> str:
    return "never" if value is None else f"{value:.0f} s {what}"


def html(data: dict[str, Any], images: list[Path]) -> str:
    """The page: verdict, facts, plots, latencies. Images are inside it."""
    pictures = "".join(
        f'<img alt="{image.stem}" src="data:image/png;base64,{base64.b64encode(image.read_bytes()).decode()}">'
        for image in images
    )
    checks = [[c["name"], _verdict(c["passed"]), c["detail"]] for c in data["checks"]]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>gpu-inference demo</title>'
        f"<style>{CSS}</style></head><body><h1>gpu-inference demo: {_verdict(data['passed'])}</h1>"
        f'<p class="note">{escape(data["started"])}. {escape(data["simulated"])}.</p>'
        f"{_table(['Check', '', 'Seen'], checks)}<h2>What ran</h2>{_table(['', ''], _facts(data))}"
        f"<h2>What happened</h2>{pictures}{_loads(data['load'])}</body></html>"
    )


def make_folder(wanted: Path | None, base: Path, stamp: str) -> Path:
    """The report's folder, made now: what cannot be written should be known before anything starts.

    `wanted` must be new or empty; without it a new base/demo-<stamp>. Raises UserError.
    """
    try:
        if wanted is not None:
            wanted.mkdir(parents=True, exist_ok=True)
            if any(wanted.iterdir()):
                raise UserError(f"{wanted} is not empty", fix="name a new folder with --output")
            return wanted
        for number in range(1, 100):
            folder = base / (f"demo-{stamp}" if number == 1 else f"demo-{stamp}-{number}")
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise UserError(
            f"cannot make the report's folder {error.filename}: {error.strerror}", fix="use --output"
        ) from None
    raise UserError(f"{base} has too many reports of {stamp}", fix="use --output")


def remove_if_empty(folder: Path) -> None:
    """Of a run that did not come to its report."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def write(result: Result, folder: Path) -> dict[str, Any]:
    """Write everything into `folder`; the summary. Raises UserError (exit code 1), and leaves no half of a report."""
    data = summary(result)
    try:
        _write(result, data, folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(
            f"cannot write the report into {folder}: {error.strerror}",
            fix="make room, or name another place with --output",
            exit_code=1,
        ) from None
    return data


def _write(result: Result, data: dict[str, Any], folder: Path) -> None:
    from gpu_inference.demo import plots  # a second of imports that no usage error should wait for

    images = plots.draw(result, folder)
    (folder / "summary.json").write_text(json.dumps(data, indent=2) + "\n")
    (folder / "samples.jsonl").write_text("".join(json.dumps(s.row()) + "\n" for s in result.samples))
    (folder / "requests.jsonl").write_text("".join(records.to_line(r) + "\n" for r in result.records))
    (folder / "report.html").write_text(html(data, images[:1]))
