"""A comparison as text, JSON, or a comment on a pull request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gpu_inference.diff.cost import Prices
from gpu_inference.diff.model import EFFECTS, Change, Comparison, Fleet
from gpu_inference.report import count

_SIGN = {"invalid": "❌", "fails": "❌", "deletes-data": "❌", "restarts": "🔄", "removes": "➖", "adds": "➕"}
# Fields of an object that a person still reads.
_MOST = 6


def text(comparisons: Sequence[Comparison], prices: Prices) -> str:
    lines = []
    for comparison in comparisons:
        lines.append(f"{comparison.name}: {_headline(comparison)}")
        for change in _sorted(comparison.changes):
            # What nobody acts on is counted in the headline.
            if change.effect != "cosmetic":
                lines.append(f"  {change.effect:<12} {change.object}{_note(change)}")
                lines += [f"  {'':<12}   {line}" for line in _fields(change)]
        if comparison.effects - {"cosmetic"}:
            lines.append(f"  {'GPUs':<12} {_gpus(comparison)}")
            lines += [f"  {'cost':<12} {line}" for line in _cost(comparison, prices)]
    return "\n".join([*lines, ""])


def markdown(comparisons: Sequence[Comparison], prices: Prices) -> str:
    changed = [comparison for comparison in comparisons if comparison.changes]
    lines = [f"### {count(len(changed), 'release')} of {len(comparisons)} would change", ""]
    for comparison in changed:
        lines += [f"<details open><summary><b>{comparison.name}</b>: {_headline(comparison)}</summary>", ""]
        lines += [f"GPUs: {_gpus(comparison)}", *(f"<br>{line}" for line in _cost(comparison, prices)), ""]
        lines += ["| | object | effect | fields |", "|---|---|---|---|"]
        for change in _sorted(comparison.changes):
            fields = "<br>".join(f"`{line}`" for line in _fields(change)).replace("|", "\\|")
            effect = f"{EFFECTS[change.effect]}{_note(change)}".replace("|", "\\|")
            lines.append(f"| {_SIGN.get(change.effect, '')} | `{change.object}` | {effect} | {fields} |")
        lines += ["", "</details>", ""]
    return "\n".join(lines)


def as_json(comparisons: Sequence[Comparison], prices: Prices) -> str:
    return json.dumps([_plain(comparison, prices) for comparison in comparisons], indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Comparison], Prices], str]] = {
    "text": text,
    "json": as_json,
    "markdown": markdown,
}


def _plain(comparison: Comparison, prices: Prices) -> dict[str, Any]:
    def fleet(fleet: Fleet) -> dict[str, Any]:
        gpus = [
            {"accelerator": kind[0], "capacity": kind[1], "least": fleet.least[kind], "most": fleet.most[kind]}
            for kind in sorted(fleet.least)
        ]
        return {"gpus": gpus, "costPerMonth": {"least": prices.month(fleet.least), "most": prices.month(fleet.most)}}

    return {
        "name": comparison.name,
        "changes": [
            {
                "object": change.object,
                "effect": change.effect,
                "detail": change.detail,
                "pods": change.pods,
                "gpuMinutes": round(change.gpu_minutes, 1),
                "fields": [{"path": d.path, "old": d.old, "new": d.new} for d in change.differences],
            }
            for change in _sorted(comparison.changes)
        ],
        "before": fleet(comparison.before),
        "after": fleet(comparison.after),
        "prices": {"date": prices.date, "currency": prices.currency},
    }


def _sorted(changes: Sequence[Change]) -> list[Change]:
    order = list(EFFECTS)
    return sorted(changes, key=lambda change: (order.index(change.effect), change.object))


def _headline(comparison: Comparison) -> str:
    if not comparison.changes:
        return "no change"
    effects = [change.effect for change in comparison.changes]
    return ", ".join(f"{effects.count(effect)} {effect}" for effect in EFFECTS if effect in effects)


def _note(change: Change) -> str:
    if change.effect == "restarts":
        return f" ({count(change.pods, 'pod')} or more, {change.gpu_minutes:.0f} GPU-minutes of loading)"
    return f" ({change.detail})" if change.detail else ""


def _fields(change: Change) -> Iterator[str]:
    for difference in change.differences[:_MOST]:
        old, new = (_short(value) for value in (difference.old, difference.new))
        yield f"{difference.path}: {old} -> {new}"
    if len(change.differences) > _MOST:
        yield f"… {len(change.differences) - _MOST} more"


def _short(value: str | None) -> str:
    if value is None:
        return "(none)"
    one_line = value.replace("\n", "⏎")
    return one_line if len(one_line) <= 60 else f"{one_line[:57]}…"


def _gpus(comparison: Comparison) -> str:
    before, after = (_fleet(fleet) for fleet in (comparison.before, comparison.after))
    return before if before == after else f"{before} -> {after}"


def _fleet(fleet: Fleet) -> str:
    parts = []
    for kind in sorted(fleet.least):
        few, many = fleet.least[kind], fleet.most[kind]
        number = str(few) if few == many else f"{few}-{many}"
        parts.append(f"{number} {kind[0]}" + (f" ({kind[1]})" if kind[1] != "onDemand" else ""))
    return ", ".join(parts) or "none"


def _cost(comparison: Comparison, prices: Prices) -> Iterator[str]:
    """A line with a month's cost before and after, at the least; which price is missing; or nothing without GPUs."""
    fleets = (comparison.before.least, comparison.after.least)
    if not any(number for fleet in fleets for number in fleet.values()):
        return
    missing = sorted({kind for fleet in fleets for kind in fleet if kind not in prices.hours})
    if missing:
        yield "not known: no price of " + ", ".join(f"{name} ({capacity})" for name, capacity in missing)
        return
    before, after = (prices.month(fleet) or 0.0 for fleet in fleets)
    change = f"{before:,.0f}" if before == after else f"{before:,.0f} -> {after:,.0f} ({after - before:+,.0f})"
    yield f"{change} {prices.currency} a month at the least (list prices of {prices.date})"
