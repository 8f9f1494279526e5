"""Rules about what only an estimate of memory and load tells; Helm knows none of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from gpu_inference.validate import sharing_rules
from gpu_inference.validate.schema_errors import Mistake

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Tokens of a request on average, in and out, in Azure's trace of conversations of 2023.
_REQUEST = 1400
# Requests that run at once, from which a queue comes too late to scale by: vLLM's default for small GPUs.
_MANY = 256


def _problems(model: Model) -> Iterator[Mistake]:
    """What `gpu-inference estimate` says: see gpu_inference.estimate.problems."""
    for problem in model.estimate.problems if model.estimate else ():
        # Of parts of GPUs, Helm says it already.
        if problem.code != "does-not-fit" or not any(sharing_rules.weights(model)):
            mistake = model.mistake(problem.code, problem.path, problem.message, problem.fix)
            yield replace(mistake, severity=problem.severity)


def _queue(model: Model) -> Iterator[Mistake]:
    """A queue is empty until as many run as the server takes."""
    scaling = model.spec["autoscaling"]
    wanted = [target for target, value in scaling["target"].items() if value is not False]
    more = scaling["metrics"] or (scaling["provider"] == "keda" and scaling["keda"]["triggers"])
    if not scaling["enabled"] or wanted != ["requestsWaiting"] or more or not model.estimate:
        return
    memory = model.estimate.memory
    running = min(memory.max_sequences, memory.kv_capacity_tokens // _REQUEST)
    if running > _MANY:
        message = f"no request waits before about {running} run at once, and all of them are slow by then"
        fix = f"set model.maxConcurrentRequests to {_MANY} or less, or scale by requestsInFlight"
        mistake = model.mistake("queue-too-late", "autoscaling.target.requestsWaiting", message, fix)
        yield replace(mistake, severity="warning")


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (_problems, _queue)
