"""How long whoever installs a release waits for its pods, against how long they may take."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.report import Finding
from gpu_inference.resolve import resolve_values
from gpu_inference.values.tree import Path, Position, format_path

# Kinds that Helm waits for.
_AWAITED = ("Deployment", "StatefulSet")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, slots=True)
class Wait:
    """seconds, and where a manifest says so, or would; duration: it is written as 5m, not as a number."""

    seconds: float
    path: Path
    at: Position
    duration: bool = True


def seconds(duration: object) -> float | None:
    """Of a number, or a duration as Go writes it, 1h30m; None for anything else."""
    if isinstance(duration, int | float) and not isinstance(duration, bool):
        return float(duration)
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", str(duration))
    whole = "".join(number + unit for number, unit in parts)
    if not parts or whole != duration or any(number.count(".") > 1 or number == "." for number, _ in parts):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def impatient(waits: tuple[Wait, ...], values: Mapping[str, Any]) -> Iterator[Finding]:
    """values: merged, of a release that nothing else is wrong with, or nothing is said of it."""
    try:
        specs = resolve_values(values)["models"]
    except UserError:
        return
    awaited = [(spec["startup"]["budgetSeconds"], name) for name, spec in specs.items() if spec["workload"] in _AWAITED]
    for wait in waits if awaited else ():
        budget, name = max(awaited)
        if wait.seconds < budget:
            message = (
                f"waits {wait.seconds:g} s for all pods, and the startup probe of {name} allows {budget} s: "
                "the release counts as failed while the model still loads"
            )
            minutes = math.ceil((budget + specs[name]["startup"]["provisionSeconds"]) / 60)
            fix = f"set it to {f'{minutes}m' if wait.duration else 60 * minutes}"
            at = (wait.at.file, wait.at.line, wait.at.column)
            yield Finding(*at, "deploy-timeout", format_path(wait.path), message, fix, "warning")
