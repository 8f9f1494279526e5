"""Rules about how a pod ends: what `pod`, `container` and an old server make of the drain the chart renders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from gpu_inference.validate.runtime_rules import numbers
from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.validate.servers import below, command
from gpu_inference.validate.workload_rules import most_pods

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

_OPERATED = ("NIMService", "RayService")
_SHELLS = ("ash", "bash", "dash", "sh")
# Requests this long are worth the wait of a server that does not end by itself.
_LONG_SECONDS = 60
_TAG = re.compile(r"v?(\d+\.\d+(?:\.\d+)?)")
_DURATION = re.compile(r"terminationDrainDuration\"?\s*:\s*\"?(\d+)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def _grace(model: Model) -> Iterator[Mistake]:
    own, drain = model.spec["pod"].get("terminationGracePeriodSeconds"), model.spec["drain"]
    whole = drain["preStopSeconds"] + drain["requestSeconds"]
    if not isinstance(own, int) or own >= drain["graceSeconds"]:
        return
    teardown = drain["graceSeconds"] - whole
    need = f"preStopSeconds {drain['preStopSeconds']} + requestSeconds {drain['requestSeconds']}"
    fix = "remove it, and set drain to how long requests take"
    path = "pod.terminationGracePeriodSeconds"
    if own < whole:
        message = f"{own} s: the longest requests would be killed, they have {whole} s ({need})"
        yield replace(model.mistake("grace-period", path, message, fix), severity="error")
    else:
        message = f"{own} s is less than {need} + teardown {teardown} = {drain['graceSeconds']} s: the server is killed"
        yield model.mistake("grace-period", path, message, fix)


def _pre_stop(model: Model) -> Iterator[Mistake]:
    """A proxy that has not noticed yet sends requests to a pod that ends."""
    drain = model.spec["drain"]
    own = below(model.spec["container"], "lifecycle", "preStop", "sleep").get("seconds")
    own = own if isinstance(own, int) else None
    several = most_pods(model) > 1 or model.spec["rollout"]["spareGPU"]
    if (drain["sleepSeconds"] if own is None else own) > 0 or not several or model.spec["workload"] in _OPERATED:
        return
    path = "drain.preStopSeconds" if own is None else "container.lifecycle.preStop.sleep.seconds"
    message = "is 0: a pod ends while proxies still send it requests, in every rollout and scale-down"
    yield model.mistake("no-pre-stop", path, message, "set it to 5 or more" if own is None else "remove it")


def _old(model: Model) -> Iterator[Mistake]:
    """A server too old for the flag that makes it finish what is in flight."""
    own = model.spec.get("runtimeVersion")
    if model.runtime["lifecycle"]["sigterm"] != "finishInFlight" or not own:
        return
    entries = [*model.runtime["args"], *model.runtime.get("env", {}).values()]
    for entry in entries:
        if entry.get("from") == "drain.requestSeconds" and numbers(own) < numbers(entry.get("since", "0.0")):
            name = model.spec["runtime"]
            message = f"{name} {own} drops what is in flight on SIGTERM; from {entry['since']} on it finishes that"
            fix = f"use {entry['since']} or newer, with its image, or set runtimes.{name}.lifecycle.sigterm to abort"
            yield model.mistake("drain-version", "runtimeVersion", message, fix)


def _image(model: Model) -> Iterator[Mistake]:
    """A tag of the preset's image that names another version than what decides on the arguments."""
    image, own = model.spec["image"], model.spec.get("runtimeVersion")
    preset = model.runtime.get("defaults", {})
    default = preset.get("image", {})
    tags = [_TAG.match(str(place.get("tag", ""))) for place in (default, image)]
    if not (own and all(tags) and image.get("repository") == default.get("repository")):
        return
    usual, said = (tag[1] for tag in tags if tag)
    # Not all images are tagged with the server's version.
    if numbers(usual) != numbers(preset.get("runtimeVersion", "0.0")) or numbers(said) == numbers(own):
        return
    wrong = [flag for flag, entry in _dated(model) if _applies(entry, own) != _applies(entry, said)]
    if wrong:
        message = f"the image is {said} by its tag, and {', '.join(wrong)} would be told as to {own}"
        if said == usual:
            yield model.mistake("image-version", "runtimeVersion", message, "set image.tag to that of it, too")
        else:
            fix = f"set runtimeVersion to {said}, or use the image of {own}"
            yield model.mistake("image-version", "image.tag", message, fix)


def _dated(model: Model) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for entry in model.runtime["args"]:
        if {"since", "until"} & entry.keys():
            yield entry.get("flag", "an argument"), entry
    for name, entry in model.runtime.get("env", {}).items():
        if {"since", "until"} & entry.keys():
            yield name, entry


def _applies(entry: Mapping[str, Any], version: str) -> bool:
    since, until = entry.get("since"), entry.get("until")
    return not (since and numbers(version) < numbers(since)) and not (until and numbers(version) >= numbers(until))


def _slow(model: Model) -> Iterator[Mistake]:
    drain, name = model.spec["drain"], model.spec["runtime"]
    if model.runtime["lifecycle"]["sigterm"] == "ignore" and drain["requestSeconds"] > _LONG_SECONDS:
        message = (
            f"{name} ignores SIGTERM, so every pod that ends holds its GPU for {drain['graceSeconds']} s, idle or not"
        )
        yield model.mistake("slow-end", "drain.requestSeconds", message, "lower it to what the longest request takes")


def _shell(model: Model) -> Iterator[Mistake]:
    """A shell as the first process passes no signal on, and hands arguments to the script as $0, $1 …"""
    words, container = command(model), model.spec["container"]
    if len(words) < 3 or PurePosixPath(words[0]).name not in _SHELLS or not re.fullmatch("-[a-z]*c", words[1]):
        return
    script = words[2]
    at = ("models", model.name, "container") if "command" in container else ("runtimes", model.spec["runtime"])
    path = (*at, "command", 2)
    if (model.runtime["args"] or model.spec["extraArgs"]) and "$" not in script:
        message = "leaves out the server's arguments, which the chart appends"
        fix = f"write [{words[0]}, -c, 'exec {script} \"$@\"', {words[0]}]"
        fix = fix if len(script) < 60 and "\n" not in script else 'end it with "$@", and put a word for $0 behind it'
        yield replace(Mistake("shell-command", path, message, fix), severity="error")
    # Of a single command most shells make their own process.
    elif not re.search(r"\bexec\s", script) and re.search(r"[;&|\n]", script.strip()):
        message = "the shell stays the first process and passes no SIGTERM on, so the server never begins to drain"
        yield Mistake("shell-command", path, message, "begin its last command with exec")


def _sidecar(model: Model) -> Iterator[Mistake]:
    """Istio's proxy gets SIGTERM with the server, and by default leaves 5 s later."""
    annotations = model.spec["podAnnotations"]
    key = "sidecar.istio.io/inject"
    injected = next((m for m in ("podLabels", "podAnnotations") if str(model.spec[m].get(key)).lower() == "true"), None)
    if injected is None or str(annotations.get("sidecar.istio.io/nativeSidecar")).lower() == "true":
        return
    config = str(annotations.get("proxy.istio.io/config", ""))
    if re.search(r"EXIT_ON_ZERO_ACTIVE_CONNECTIONS\"?\s*:\s*[\"']?true", config):
        return
    found, needed = _DURATION.search(config), model.spec["drain"]["graceSeconds"]
    seconds = int(found[1]) * _UNITS[found[2]] if found else 5
    if seconds < needed:
        message = f"Istio's proxy leaves {seconds:g} s after SIGTERM, and the pod drains for up to {needed} s"
        fix = 'set podAnnotations, sidecar.istio.io/nativeSidecar: "true", or proxy.istio.io/config with '
        fix += f"terminationDrainDuration: {needed}s"
        path = ("models", model.name, injected, key)
        yield Mistake("sidecar-drain", path, message, fix)


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (_grace, _pre_stop, _old, _image, _slow, _shell, _sidecar)
