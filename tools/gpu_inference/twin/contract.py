"""What a runtime looks like from outside: contracts/<runtime>.yaml, and the metrics registry built from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.errors import UserError
from gpu_inference.twin.exposition import Family, Registry

FOLDER = Path(__file__).parent / "contracts"
SIMULATED = "gpu_inference_twin_simulated"


def known() -> list[str]:
    """Runtimes with a contract."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def load(runtime: str) -> dict[str, Any]:
    """The contract of a runtime. UserError names the known ones."""
    path = FOLDER / f"{runtime}.yaml"
    if not path.is_file():
        raise UserError(f"the twin has no contract of runtime {runtime}", fix=f"use one of: {', '.join(known())}")
    contract: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return contract


def one_two_five(limit: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20 … up to `limit`."""
    bounds: list[float] = []
    power = 1
    while True:
        for mantissa in (1, 2, 5):
            if mantissa * power > limit:
                return tuple(bounds)
            bounds.append(float(mantissa * power))
        power *= 10


def build_registry(
    contract: Mapping[str, Any],
    model_label: str,
    models: Mapping[str, str],
    facts: Mapping[str, Any],
    created: float,
) -> Registry:
    """All families of the contract, at 0.

    models: name -> prefix of its feeds ("" for the model itself); facts: values for `buckets` that name a fact and for
    placeholders of info labels; created: Unix time of the start.
    """
    registry = Registry()
    metrics = contract["metrics"]
    for entry in contract["families"]:
        bounds = _bounds(metrics["buckets"], entry.get("buckets"), facts)
        stamp = created if metrics["created"] else 0.0
        family = Family(entry["name"], entry["type"], entry["help"], bounds, stamp)
        registry.families.append(family)
        if "dynamic" in entry:
            registry.connect_dynamic(entry["feed"], family, entry["dynamic"])
            continue
        constant = metrics["labels"]
        wanted = entry.get("labels", ["model", *constant])
        for model, prefix in (models if "model" in wanted else {"": ""}).items():
            labels = {name: constant[name] for name in wanted if name != "model"}
            if model:
                labels[model_label] = model
            _add_series(registry, family, entry, labels, prefix, facts)
    honest = Family(SIMULATED, "gauge", "1: no GPU and no model is behind this server, it is simulated.")
    honest.add((), 1.0)
    registry.families.append(honest)
    return registry


def _add_series(
    registry: Registry,
    family: Family,
    entry: Mapping[str, Any],
    labels: dict[str, str],
    prefix: str,
    facts: Mapping[str, Any],
) -> None:
    if "info" in entry:
        filled = {name: value.format(**facts) for name, value in entry["info"].items()}
        family.add(tuple({**labels, **filled}.items()), 1.0)
        return
    by = entry.get("by")
    feeds = {(by["label"], value): feed for value, feed in by["feeds"].items()} if by else {(): entry.get("feed", "")}
    for extra, feed in feeds.items():
        pairs = (*labels.items(), extra) if extra else tuple(labels.items())
        series = family.add(pairs, float(entry.get("value", 0)))
        if feed:
            registry.connect(prefix + feed, series)


def _bounds(buckets: Mapping[str, Any], name: str | None, facts: Mapping[str, Any]) -> tuple[float, ...]:
    if name is None:
        return ()
    value = buckets[name]
    return one_two_five(int(facts[value])) if isinstance(value, str) else tuple(float(bound) for bound in value)
