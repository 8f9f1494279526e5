"""Rules about a model and its runtime preset: what the preset needs to know, and what it cannot do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gpu_inference.schema.bundle import follow, source
from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# What resolving adds to a model; the rest is in the schema.
_DERIVED = {
    "model": {"path", "repository", "hubFile", "reference"},
    "accelerator": {"resource"},
    "startup": {"budgetSeconds"},
    "drain": {"sleepSeconds", "graceSeconds"},
    "engine": {"sourcePath", "ranks", "sequenceLength"},
}
_PLACEHOLDER = re.compile(r"\{([a-zA-Z]+[.][a-zA-Z]+)\}")


def status(model: Model) -> Iterator[Mistake]:
    """Not wrong, but worth knowing: the project behind the runtime is at its end."""
    runtime, name = model.runtime, model.spec["runtime"]
    if "notice" in runtime:
        message, fix = f"the status of {name} is {runtime.get('status', 'unknown')}", runtime["notice"].rstrip(".")
        yield Mistake("runtime-status", ("models", model.name, "runtime"), message, fix)


def version(model: Model) -> Iterator[Mistake]:
    """Old servers exit on arguments they do not know."""
    dated = [entry for entry in _entries(model) if {"since", "until"} & entry.keys()]
    spread = "since" in model.runtime.get("multiNode", {})
    if (dated or spread or "since" in model.runtime["metrics"]) and not model.spec.get("runtimeVersion"):
        name = model.spec["runtime"]
        message = f"is not set, and what {name} is told depends on it"
        fix = f"set it, or runtimes.{name}.defaults.runtimeVersion"
        yield model.mistake("runtime-version", "runtimeVersion", message, fix)


def layers(model: Model) -> Iterator[Mistake]:
    if model.spec["workload"] == "LeaderWorkerSet":  # its pods hold the layers
        return
    count, split = model.spec["accelerator"]["count"], model.spec["parallelism"]
    paths = {entry.get("from") for entry in _entries(model)}
    product = split["tensor"] * split["pipeline"]
    shards = "parallelism.tensor" in paths
    if shards and product != count:
        what = f"tensor {split['tensor']} x pipeline {split['pipeline']} = {product}"
        fix = "make the product equal to the count"
        if count % split["pipeline"] == 0:
            fix += f", as with tensor {count // split['pipeline']}"
        yield model.mistake("parallelism", "parallelism", f"{what}, but accelerator.count is {count}", fix)
    elif split["pipeline"] > 1 and "parallelism.pipeline" not in paths:
        message = f"{model.spec['runtime']} cannot be told to split a model by layers"
        fix = f"set it to 1, and tensor to {count}" if shards else "set it to 1"
        yield model.mistake("parallelism", "parallelism.pipeline", message, fix)


def references(model: Model) -> Iterator[Mistake]:
    """What a preset takes from the model's values must exist; only in arguments and variables may it be unset."""
    name, runtime = model.spec["runtime"], model.runtime
    for place, path in _optional(runtime):
        if not _known(path, model):
            yield Mistake(
                "preset-reference", ("runtimes", name, *place), f"no model has {path}", "name a key of a model"
            )
    for place, path in _needed(runtime):
        if model.at(path) in (None, ""):
            message = f"{path} of model {model.name} is not set"
            yield Mistake("preset-reference", ("runtimes", name, *place), message, "name a key that every model has")


def _entries(model: Model) -> list[Mapping[str, Any]]:
    return [*model.runtime["args"], *model.runtime.get("env", {}).values()]


def _optional(runtime: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """(place, path) of what may be unset."""
    for index, entry in enumerate(runtime["args"]):
        if "from" in entry:
            yield ("args", index, "from"), entry["from"]
    for name, entry in runtime.get("env", {}).items():
        yield ("env", name, "from"), entry["from"]


def _needed(runtime: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """(place, path) of what must be set."""
    for label, path in runtime["metrics"].get("inFlight", {}).get("selector", {}).items():
        yield ("metrics", "inFlight", "selector", label), path
    for name, text in runtime.get("files", {}).items():
        for path in sorted(set(_PLACEHOLDER.findall(text))):
            yield ("files", name), path


def _known(path: str, model: Model) -> bool:
    """Whether a model can have something at a path."""
    section, _, key = path.partition(".")
    if section == "ports":
        return key in model.runtime["ports"]
    schema = follow(source()[1]["model"]["properties"].get(section, {}))
    return key in schema.get("properties", {}) or key in _DERIVED.get(section, ())


def numbers(text: str) -> tuple[int, ...]:
    """A version, to compare: 1.3 is 1.3.0."""
    numbers = [int(part) for part in text.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


RULES = (status, version, layers, references)
