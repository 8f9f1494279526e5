"""Traces of LLM traffic: when requests arrive and how long they are.

Formats, recognised by their first line:
- Azure LLM inference CSV: TIMESTAMP, ContextTokens, GeneratedTokens (7-digit fractions, CRLF);
  https://github.com/Azure/AzurePublicDataset (CC-BY-4.0; Patel et al., Splitwise, ISCA 2024)
- Mooncake JSONL: timestamp (ms), input_length, output_length; what AIPerf and inference-perf replay;
  https://github.com/kvcache-ai/Mooncake
- BurstGPT CSV: Timestamp (s), Request tokens, Response tokens; https://github.com/HPMLL/BurstGPT
- plain CSV: time (s), input, output
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TextIO

from gpu_inference.errors import UserError
from gpu_inference.load import synthetic
from gpu_inference.paths import ROOT

CONVERSATION = "AzureLLMInferenceTrace_conv.csv"


class Arrival(NamedTuple):
    """A request: seconds since the trace's start, prompt tokens, tokens to generate."""

    time: float
    input: int
    output: int


@dataclass(frozen=True)
class Trace:
    """Arrivals in order of time, the first at 0 s; `source` says in one line where they come from."""

    name: str
    source: str
    arrivals: tuple[Arrival, ...]

    @property
    def duration(self) -> float:
        """Seconds from the first arrival to the last."""
        return self.arrivals[-1].time


def _datetime_seconds(text: str) -> float:
    # The epoch only cancels out; naive and aware stamps both occur (2023 and 2024 releases).
    stamp = datetime.fromisoformat(text)
    return (stamp - datetime(2000, 1, 1, tzinfo=stamp.tzinfo)).total_seconds()


# Columns of time, input and output, and how a time is read.
CSV_FORMATS: dict[tuple[str, str, str], Callable[[str], float]] = {
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"): _datetime_seconds,
    ("Timestamp", "Request tokens", "Response tokens"): float,
    ("time", "input", "output"): float,
}
MOONCAKE = ("timestamp", "input_length", "output_length")


def _read_csv(file: TextIO, path: Path) -> Iterator[tuple[int, float, int, int]]:
    reader = csv.DictReader(file, skipinitialspace=True)
    names = set(reader.fieldnames or ())
    columns = next((c for c in CSV_FORMATS if names.issuperset(c)), None)
    if columns is None:
        known = "; ".join(", ".join(c) for c in CSV_FORMATS)
        raise UserError(
            f"{path}:1: no known trace format: columns {', '.join(sorted(names)) or 'none'}",
            fix=f"name the columns as one of: {known}; or use Mooncake JSONL ({', '.join(MOONCAKE)})",
        )
    seconds, (time, input_, output) = CSV_FORMATS[columns], columns
    for row in reader:
        try:
            yield reader.line_num, seconds(row[time]), int(row[input_]), int(row[output])
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}:{reader.line_num}: not a row of this trace: {error}") from None


def _read_jsonl(file: TextIO, path: Path) -> Iterator[tuple[int, float, int, int]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield number, row[MOONCAKE[0]] / 1000, int(row[MOONCAKE[1]]), int(row[MOONCAKE[2]])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}:{number}: not a row of a Mooncake trace: {error!r}") from None


def read(path: Path) -> tuple[Arrival, ...]:
    """The arrivals of a trace file, sorted, the first at 0 s; without those that generated nothing (failed calls).

    Raises UserError with file and line for what cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            jsonl = file.read(1) == "{"
            file.seek(0)
            rows = list((_read_jsonl if jsonl else _read_csv)(file, path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the trace {path}: {getattr(error, 'strerror', None) or error}") from None
    for line, time, input_, output in rows:
        if not (abs(time) < float("inf") and input_ >= 0 and output >= 0):
            raise UserError(f"{path}:{line}: a time that is not finite or a negative number of tokens")
    return rebase(Arrival(time, max(input_, 1), output) for _, time, input_, output in rows if output > 0) or _empty(
        path
    )


def _empty(path: Path) -> tuple[Arrival, ...]:
    raise UserError(f"the trace {path} has no requests")


def rebase(arrivals: Iterable[Arrival]) -> tuple[Arrival, ...]:
    """Sorted by time and moved so that the first arrives at 0 s."""
    ordered = sorted(arrivals)
    return tuple(a._replace(time=a.time - ordered[0].time) for a in ordered)


def write_mooncake(arrivals: Iterable[Arrival], file: TextIO) -> None:
    """Write Mooncake JSONL, for AIPerf, inference-perf and this module."""
    for a in arrivals:
        file.write(json.dumps(dict(zip(MOONCAKE, (round(a.time * 1000), a.input, a.output), strict=True))) + "\n")


def recorded_conversation() -> Path | None:
    """The recorded conversation trace: in $GPU_INFERENCE_TRACES, else in ../shared/traces; None if absent."""
    folder = os.environ.get("GPU_INFERENCE_TRACES") or ROOT.parent / "shared" / "traces"
    path = Path(folder) / CONVERSATION
    return path if path.is_file() else None


def _conversation(path: Path) -> Trace:
    return Trace("conversation", "Azure LLM inference trace 2023, conversation (recorded)", read(path))


def _synthetic(seed: int) -> Trace:
    rows = synthetic.conversation(seed)
    return Trace("synthetic", "synthetic, fitted to the Azure conversation trace", rebase(Arrival(*r) for r in rows))


def choose(choice: str | None, seed: int = 0) -> Trace:
    """The trace named by `--trace`: a file, `conversation`, `synthetic`; None: recorded where it is, else synthetic."""
    recorded = recorded_conversation()
    if choice is None:
        return _conversation(recorded) if recorded else _synthetic(seed)
    if choice == "synthetic":
        return _synthetic(seed)
    if choice != "conversation":
        return Trace(Path(choice).stem, str(choice), read(Path(choice)))
    if recorded is None:
        raise UserError(
            f"the recorded conversation trace ({CONVERSATION}) is not on this machine",
            fix="set GPU_INFERENCE_TRACES to the folder that holds it, or use --trace synthetic",
        )
    return _conversation(recorded)
