"""Rules about probes: timing of the values, targets of the preset, and what `container` changes of both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gpu_inference.validate.schema_errors import Mistake, show
from gpu_inference.validate.servers import below, server

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

KINDS = ("startup", "readiness", "liveness")
_HANDLERS = ("exec", "grpc", "httpGet", "sleep", "tcpSocket")
# Paths that make the model work; a busy one answers late.
_WORK = re.compile(
    r"^/(generate|health_generate|infer|invocations|predict)\b|/(completions|embeddings|generate|infer)$"
)
# Reloading a model takes minutes, so half a minute without an answer is no reason for it.
_HASTY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Probe:
    """What the kubelet does. script: it runs one of the chart's, which asks the path itself; own: what `container` says
    of it."""

    kind: str
    path: str
    port: Any
    timeout: int
    period: int
    failures: int
    script: bool
    own: Mapping[str, Any]

    @property
    def asks(self) -> tuple[str, Any, bool]:
        return self.path, self.port, self.script

    @property
    def seconds(self) -> int:
        """From the first failure to what it leads to."""
        return self.period * self.failures

    def at(self, key: str) -> str:
        """The path in a model of what says `key`."""
        return f"container.{self.kind}Probe.{key}" if key in self.own else f"probes.{self.kind}.{key}"


def probe(model: Model, kind: str) -> Probe:
    target, timing = model.runtime["probes"][kind], model.spec["probes"][kind]
    own = below(model.spec["container"], f"{kind}Probe")
    script = model.spec["warmup"]["enabled"] if kind == "startup" else model.spec["progress"][kind]
    http = {**target, **below(own, "httpGet")}
    merged = {**timing, **{key: value for key, value in own.items() if isinstance(value, int)}}
    failures = merged.get("failureThreshold") or model.spec["startup"]["budgetSeconds"] // timing["periodSeconds"]
    timeout, period = merged["timeoutSeconds"], max(1, merged["periodSeconds"])
    return Probe(kind, str(http["path"]), http["port"], timeout, period, failures, bool(script), own)


def _timeouts(model: Model) -> Iterator[Mistake]:
    known = server(model)
    for one in (probe(model, kind) for kind in KINDS):
        slow = known and one.path in known.slow_health
        if one.script or one.timeout >= (3 if slow else 2):
            continue
        if slow:
            message = f"{one.timeout} s, and {one.path} of {model.spec['runtime']} takes a second at the soonest"
            mistake = model.mistake("probe-timeout", one.at("timeoutSeconds"), message, "set it to 5 or more")
            yield mistake if one.timeout > 1 else replace(mistake, severity="error")
        elif model.runtime["api"] == "openai":
            message = "1 s is short for a busy server: it would lose its requests, or be restarted, for being busy"
            yield model.mistake("probe-timeout", one.at("timeoutSeconds"), message, "set it to 5 or more")


def _liveness(model: Model) -> Iterator[Mistake]:
    """A restart is the answer to a dead server, not to a busy one."""
    live, ready = probe(model, "liveness"), probe(model, "readiness")
    if _WORK.search(live.path):
        fix = "ask a path that only says that the server lives, and use progress.liveness to notice a hung one"
        message = f"{live.path} makes the model work, so a busy server would be restarted"
        yield _at_target(model, live, "liveness-works", message, fix)
    if live.seconds < _HASTY_SECONDS:
        message = f"restarts the server after {live.seconds} s ({live.period} s x {live.failures}) without an answer"
        message += f", and loading it again takes {model.spec['startup']['loadSeconds']} s"
        fix = f"set it to {-(-60 // live.period)} or more"
        yield model.mistake("liveness-hasty", live.at("failureThreshold"), message, fix)
    elif live.asks == ready.asks and live.seconds <= ready.seconds:
        message = f"restarts the server after {live.seconds} s, when readiness, {ready.seconds} s, has not yet"
        message += " taken it out of the Service"
        fix = f"set it to {2 * -(-ready.seconds // live.period)} or more"
        yield model.mistake("liveness-hasty", live.at("failureThreshold"), message, fix)


def _handlers(model: Model) -> Iterator[Mistake]:
    """`container` is merged over what the chart renders, and a probe or hook takes one handler."""
    container, places = model.spec["container"], []
    for kind in KINDS:
        one = probe(model, kind)
        places.append((f"container.{kind}Probe", one.own, "exec" if one.script else "httpGet"))
    if model.spec["drain"]["sleepSeconds"]:
        own = below(container, "lifecycle", "preStop")
        places.append(("container.lifecycle.preStop", own, "sleep"))
    for path, own, ours in places:
        for other in [key for key in _HANDLERS if key in own and key != ours]:
            message = f"comes beside {ours}, which the chart renders, and the API server takes one of the two"
            fix = "remove it"
            if ours == "httpGet":
                fix += f", and set runtimes.{model.spec['runtime']}.probes to what to ask"
                fix += "; a port that is open does not tell that the model is loaded" * (other == "tcpSocket")
            yield model.mistake("two-handlers", f"{path}.{other}", message, fix)


def _ports(model: Model) -> Iterator[Mistake]:
    """A probe, or Prometheus, that asks a port nobody listens on."""
    ports, runtime = model.runtime["ports"], model.spec["runtime"]
    known = f"use one of {', '.join(sorted(ports))}"
    for kind in KINDS:
        if model.runtime["probes"][kind]["port"] not in ports:
            port = model.runtime["probes"][kind]["port"]
            path = ("runtimes", runtime, "probes", kind, "port")
            yield Mistake("probe-port", path, f"{show(port)} is no port of {runtime}", known)
        own = below(model.spec["container"], f"{kind}Probe", "httpGet").get("port")
        if isinstance(own, int | str) and own not in ports and own not in ports.values():
            place = f"container.{kind}Probe.httpGet.port"
            yield model.mistake("probe-port", place, f"{show(own)} is no port of {runtime}", known)
    if model.runtime["metrics"]["port"] not in ports:
        port = model.runtime["metrics"]["port"]
        yield Mistake("probe-port", ("runtimes", runtime, "metrics", "port"), f"{show(port)} is no port of it", known)


def _unseen(model: Model) -> Iterator[Mistake]:
    """Who has Prometheus can have the alert."""
    monitoring, metrics, progress = model.spec["monitoring"], model.runtime["metrics"], model.spec["progress"]
    scraped = monitoring["podMonitor"]["enabled"] or monitoring["serviceMonitor"]["enabled"]
    known = metrics.get("progress") and metrics["names"].get("running")
    if scraped and known and not (monitoring["rules"]["enabled"] or progress["readiness"] or progress["liveness"]):
        message = "is false, and nothing else notices an engine that hangs: its health endpoint still answers"
        fix = "set it, or progress.liveness, to true"
        yield model.mistake("stall-unseen", "monitoring.rules.enabled", message, fix)


def _at_target(model: Model, one: Probe, rule: str, message: str, fix: str) -> Mistake:
    """A mistake at what says a probe's path."""
    if "path" in below(one.own, "httpGet"):
        return model.mistake(rule, f"container.{one.kind}Probe.httpGet.path", message, fix)
    return Mistake(rule, ("runtimes", model.spec["runtime"], "probes", one.kind, "path"), message, fix)


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (_timeouts, _liveness, _handlers, _ports, _unseen)
