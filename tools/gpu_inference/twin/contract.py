"""What a runtime looks like from outside: contracts/<runtime>.yaml, and the metrics registry built from it.

lifecycle, beside the preset's own:
    teardownSeconds, abortSeconds, abortExit   from the last answer, or the abort, to the exit; its code if not 0
    drainSeconds      for work in flight after SIGTERM, where the server is told no limit; without it none
    pastDeadline      work that outlasts the drain is dropped (drop, with pastDeadlineExit) or left hanging (hang), or
                      there is no deadline (wait)
    whileLoading      SIGTERM ends a process that loads (exit) or not (ignore)
    loading           listens while it loads: {status, body} for every request, or they wait; else it does not listen
    readyBeforeLoad   with `loading`: health paths are answered as ever
    healthy, unready  the body of health paths; those that are 503 after SIGTERM
    refusal           {status, message, type} for requests after SIGTERM; without it they are served
engine (openai): memoryFraction by default, memoryFractionOf (see estimate/memory.py), hostCacheMiB beside the GPU's;
    measured          memory and start-up were fitted to this server, which refuses to start where a request of the
                      whole context does not fit; others are taken to be like it
    hostArguments     flag or variable -> {mib, perGpu}: MiB of the host's memory for 1 of its value, which replaces
                      hostCacheMiB
    leastCapability   format of the weights -> compute capability below which it does not load them
http (openai): paths {live, ready}; `live` ones are 200 while loading; slow {path: least seconds}; uncounted; anyModel
metrics: labels that are constant; buckets by name; gaugeSeconds: gauges are exported in this interval
leftOut: families and labels of the real server that are not emulated
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.errors import UserError
from gpu_inference.twin.exposition import Family, Registry

FOLDER = Path(__file__).parent / "contracts"
SIMULATED = "gpu_inference_twin_simulated"


@cache
def known() -> tuple[str, ...]:
    """Runtimes with a contract."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def load(runtime: str) -> dict[str, Any]:
    """The contract of a runtime. UserError names the known ones."""
    path = FOLDER / f"{runtime}.yaml"
    if not path.is_file():
        raise UserError(f"the twin has no contract of runtime {runtime}", fix=f"use one of: {', '.join(known())}")
    # The C parser, where PyYAML has it, takes a tenth of the time.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    contract: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), loader)
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

    model_label: the label that names the model, "" when none does; models: name -> prefix of its feeds ("" for the
    model itself, which comes first); facts: values for `buckets` that name a fact and for placeholders of labels;
    created: Unix time of the start.
    """
    registry = Registry()
    metrics = contract["metrics"]
    facts = {**facts, "servedName": next(iter(models))}
    for entry in contract["families"]:
        bounds = _bounds(metrics["buckets"], entry.get("buckets"), facts)
        stamp = created if metrics["created"] else 0.0
        family = Family(entry["name"], entry["type"], entry["help"], bounds, stamp)
        registry.families.append(family)
        for labels, prefix in _label_sets(entry, metrics["labels"], model_label, models, facts):
            if "dynamic" in entry:
                feed = prefix + entry["feed"]
                registry.connect_dynamic(feed, family, tuple(labels.items()), entry["dynamic"])
            else:
                _add_series(registry, family, entry, labels, prefix, facts)
    honest = Family(SIMULATED, "gauge", "1: no GPU and no model is behind this server, it is simulated.")
    honest.add((), 1.0)
    registry.families.append(honest)
    return registry


def _label_sets(
    entry: Mapping[str, Any],
    constant: Mapping[str, str],
    model_label: str,
    models: Mapping[str, str],
    facts: Mapping[str, Any],
) -> Iterator[tuple[dict[str, str], str]]:
    """The labels of each of a family's series, with the prefix of its feeds.

    `labels` of a family: names of the contract's constant labels, `model` among them for the model's; or a map of
    labels that are this family's own.
    """
    wanted = entry.get("labels", ["model", *constant])
    if isinstance(wanted, Mapping):
        yield {name: value.format(**facts) for name, value in wanted.items()}, ""
        return
    labels = {name: constant[name] for name in wanted if name != "model"}
    if "model" not in wanted or not model_label:
        yield labels, ""
        return
    for model, prefix in models.items():
        yield labels | {model_label: model}, prefix


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
    labels = labels | (by.get("labels", {}) if by else {})
    feeds = {(by["label"], value): feed for value, feed in by["feeds"].items()} if by else {(): entry.get("feed", "")}
    for extra, feed in feeds.items():
        pairs = (*labels.items(), extra) if extra else tuple(labels.items())
        series = family.add(pairs, float(entry.get("value", 0)))
        if feed:
            registry.connect(prefix + feed, series)


def _bounds(buckets: Mapping[str, Any], name: str | None, facts: Mapping[str, Any]) -> tuple[float, ...]:
    """The finite bounds: listed, 1-2-5 up to a fact, or {exponential: [first, factor, buckets with the open one]}."""
    if name is None:
        return ()
    value = buckets[name]
    if isinstance(value, str):
        return one_two_five(int(facts[value]))
    if isinstance(value, Mapping):
        first, factor, count = value["exponential"]
        return tuple(first * factor**power for power in range(count - 1))
    return tuple(float(bound) for bound in value)
