"""Rules about the runtime's contract: what arguments, variables and changed presets make of a server."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from gpu_inference.validate.schema_errors import Mistake, show
from gpu_inference.validate.servers import Server, flags, server, told
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# A flag, a space and its value in one word; what has a `=` before the space is one argument.
_TWO_IN_ONE = re.compile(r"(--?[A-Za-z][\w.-]*)\s+(\S.*)", re.DOTALL)
_EVERYWHERE = ("0.0.0.0", "::")
_UNPRIVILEGED = 1024
_SMALL_SHM_MIB = 1024
_DATA_PARALLEL = ("--data-parallel-size", "--data_parallel_size", "-dp")


def _spaces(model: Model) -> Iterator[Mistake]:
    """No shell comes between: every entry is one argument, spaces and all."""
    splits = model.spec["runtime"] == "tgi"
    for index, argument in enumerate(model.spec["extraArgs"]):
        path: Path = ("models", model.name, "extraArgs", index)
        found = _TWO_IN_ONE.fullmatch(str(argument))
        if splits and re.search(r"\s", str(argument)):
            message = f"{show(argument)} reaches the server in pieces: the image's entry point splits at spaces"
            yield Mistake("argument-spaces", path, message, "set it as a variable in env", severity="warning")
        elif found and not splits:
            message = f"{show(argument)} is one argument to the server, which knows no such flag"
            yield Mistake("argument-spaces", path, message, f"write {_entries(str(argument))}")


def _entries(argument: str) -> str:
    """As a shell would have split it."""
    try:
        entries = shlex.split(argument)
    except ValueError:  # a quote that does not end
        entries = argument.split()
    return f"{len(entries)} entries: {', '.join(map(show, entries))}"


def _aliases(model: Model) -> Iterator[Mistake]:
    known, own = server(model), told(model)
    for index, argument in enumerate(model.spec["extraArgs"] if known else ()):
        written = str(argument).partition("=")[0]
        flag = known.aliases.get(written, written) if known else written
        if known and known.underscores and flag.startswith("--"):
            flag = flag.replace("_", "-")
        if flag != written and flag in own:
            path: Path = ("models", model.name, "extraArgs", index)
            place = str(own[flag])
            fix = f"set {place} instead" if "." in place and place[0].isalpha() else "remove it"
            yield Mistake("flag-alias", path, f"{written} is {flag}, which the chart sets already", fix)


def _replicas_of_the_engine(model: Model) -> Iterator[Mistake]:
    """vLLM's data parallel ranks have GPUs of their own."""
    known, words = server(model), [str(word) for word in model.spec["extraArgs"]]
    for index, word in enumerate(words if known and known.word == "vllm" else ()):
        flag, joined, value = word.partition("=")
        value = value if joined else next(iter(words[index + 1 :]), "")
        count = model.spec["accelerator"]["count"]
        if flag in _DATA_PARALLEL and value.isdigit() and int(value) > 1:
            path: Path = ("models", model.name, "extraArgs", index)
            ranks = model.spec["parallelism"]["tensor"] * model.spec["parallelism"]["pipeline"] * int(value)
            message = f"{value} ranks of the whole model need {ranks} GPUs, and the pod has {count}"
            yield Mistake("data-parallel", path, message, "remove it, and set replicas, or autoscaling")


def _variables(model: Model) -> Iterator[Mistake]:
    """A variable of the preset's that says what a value says; the rest of the chart goes by the value."""
    for name, entry in model.runtime.get("env", {}).items():
        if name in model.spec["env"]:
            source = entry["from"]
            port = source.startswith("ports.")
            where = f"runtimes.{model.spec['runtime']}.{source}" if port else source
            what = "probes and Service go by that" if port else "the rest of the chart goes by that"
            mistake = model.mistake("repeated-variable", f"env.{name}", f"repeats {where}, and {what}", f"set {where}")
            yield mistake if port else replace(mistake, severity="warning")


def _listens(model: Model) -> Iterator[Mistake]:
    known = server(model)
    if not (known and known.listen) or told(model).get(known.listen) in _EVERYWHERE:
        return
    words = [str(word) for word in model.spec["extraArgs"]]
    if any(f"{known.listen}={place}" in words or _follows(words, known.listen, place) for place in _EVERYWHERE):
        return
    message = f"{known.listen} 0.0.0.0 is not among them, and without it {known.word} listens on localhost only"
    yield _preset(model, "localhost-only", "args", message, f"add {{flag: {known.listen}, value: 0.0.0.0}}")


def _follows(words: list[str], first: str, second: str) -> bool:
    return (first, second) in pairwise(words)


def _metrics(model: Model) -> Iterator[Mistake]:
    """Somebody reads what the server does not write."""
    monitoring, known = model.spec["monitoring"], server(model)
    monitors = (monitoring[kind]["enabled"] for kind in ("podMonitor", "serviceMonitor", "rules"))
    if not known or not (model.spec["autoscaling"]["enabled"] or any(monitors)):
        return
    yield from _silent(model, known)
    if known.wrong_metrics and model.runtime["metrics"]["path"] == known.wrong_metrics:
        message = f"{known.word} answers {known.wrong_metrics} with JSON, and each read empties its statistics"
        path = ("runtimes", model.spec["runtime"], "metrics", "path")
        yield Mistake("metrics-path", path, message, "set it to /prometheus/metrics")


def _silent(model: Model, known: Server) -> Iterator[Mistake]:
    extra = flags(model.spec["extraArgs"])
    if known.metrics and known.metrics not in told(model).keys() | extra:
        message = f"{known.metrics} is not among them, and without it {known.word} has no metrics"
        yield _preset(model, "no-metrics", "args", message, f"add {{flag: {known.metrics}, value: true}}")
    for index, argument in enumerate(model.spec["extraArgs"]):
        if str(argument) in known.quiet:
            path: Path = ("models", model.name, "extraArgs", index)
            message = f"{argument} turns off the metrics that autoscaling and monitors read"
            yield Mistake("no-metrics", path, message, "remove it")


def _files(model: Model) -> Iterator[Mistake]:
    """A configuration file of the user's own, which replaces the preset's."""
    known = server(model)
    for name, lines in known.files.items() if known else ():
        text = model.runtime.get("files", {}).get(name)
        for line, what in lines if text is not None else ():
            if line not in str(text):
                message = f"has no {line}, and without it there is no {what}"
                path = ("runtimes", model.spec["runtime"], "files", name)
                yield Mistake("config-line", path, message, f"add {line}")


def _privileged(model: Model) -> Iterator[Mistake]:
    for name, port in model.runtime["ports"].items():
        if port < _UNPRIVILEGED and model.spec["security"]["runAsUser"] != 0:
            path = ("runtimes", model.spec["runtime"], "ports", name)
            message = f"{port} needs a privilege that the container does not have, unless the node gives it to all"
            yield Mistake("privileged-port", path, message, f"use one from {_UNPRIVILEGED} on; service.port may be any")


def _canary(model: Model) -> Iterator[Mistake]:
    """A request for a model that the server does not have."""
    own = model.spec["canary"].get("request")
    name = ((own or model.runtime["canary"]).get("body") or {}).get("model")
    known = (model.spec["model"]["servedName"], "{servedName}")
    if isinstance(name, str) and name not in known and model.runtime["api"] == "openai":
        message = f"asks for {show(name)}, and the server serves {show(known[0])}"
        fix = 'write "{servedName}"'
        if own:
            yield model.mistake("canary-name", "canary.request.body.model", message, fix)
        else:
            path = ("runtimes", model.spec["runtime"], "canary", "body", "model")
            yield Mistake("canary-name", path, message, fix)


def _shm(model: Model) -> Iterator[Mistake]:
    """NCCL exchanges through /dev/shm what GPUs cannot pass directly."""
    size, count = model.spec["shm"]["sizeLimit"], model.spec["accelerator"]["count"]
    mib = float(size[:-2]) * {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}[size[-2:]]
    ranks = model.spec["parallelism"]["tensor"] * model.spec["parallelism"]["pipeline"]
    if max(count, ranks) > 1 and mib < _SMALL_SHM_MIB:
        message = f"{size} of /dev/shm is too little for {max(count, ranks)} GPUs that work together: NCCL fails"
        yield model.mistake("small-shm", "shm.sizeLimit", message, "remove it, or set it to 1Gi or more")


def _preset(model: Model, rule: str, key: str, message: str, fix: str) -> Mistake:
    return Mistake(rule, ("runtimes", model.spec["runtime"], key), message, fix)


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (
    _spaces,
    _aliases,
    _replicas_of_the_engine,
    _variables,
    _listens,
    _metrics,
    _files,
    _privileged,
    _canary,
    _shm,
)
