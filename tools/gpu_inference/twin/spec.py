"""What one emulated server is: everything taken from a resolved model spec and the runtime's contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.serving.batch import Service
from gpu_inference.serving.engine import BLOCK, Engine, Limits
from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.model import shape_from_values
from gpu_inference.serving.timing import StepTimes
from gpu_inference.sharing import share
from gpu_inference.twin import contract as contracts

LONGEST_CONTEXT = 131_072  # tokens, when the values name none: what the models of the catalogue allow


@dataclass(frozen=True)
class ServerSpec:
    """One server process. ports: name -> number; drain_seconds: how long the process may finish work after SIGTERM."""

    runtime: str
    api: str
    contract: Mapping[str, Any]
    served_name: str
    ports: Mapping[str, int]
    metrics_port: str
    metrics_path: str
    model_label: str
    sigterm: str
    drain_seconds: float
    load_seconds: float
    resolved: Mapping[str, Any]

    @property
    def main_port(self) -> str:
        """The port of the HTTP API."""
        return "http" if "http" in self.ports else next(iter(self.ports))

    @property
    def serving_ports(self) -> set[str]:
        """Ports that take inference requests: all but one that only serves metrics."""
        return {name for name in self.ports if name == self.main_port or name != self.metrics_port}


def server_spec(resolved: Mapping[str, Any]) -> ServerSpec:
    """resolved: one model of gpu_inference.resolve. UserError when the runtime has no contract or a figure is
    missing."""
    try:
        preset = resolved["runtimePreset"]
        model = resolved["model"]
        return ServerSpec(
            runtime=resolved["runtime"],
            api=preset["api"],
            contract=contracts.load(resolved["runtime"]),
            served_name=model.get("servedName") or model.get("source") or resolved.get("name", ""),
            ports=preset["ports"],
            metrics_port=preset["metrics"]["port"],
            metrics_path=preset["metrics"]["path"],
            model_label=preset["metrics"].get("labels", {}).get("model", ""),
            sigterm=preset["lifecycle"]["sigterm"],
            drain_seconds=float(resolved["drain"]["requestSeconds"]),
            load_seconds=float(resolved["startup"]["loadSeconds"]),
            resolved=resolved,
        )
    except KeyError as missing:
        raise UserError(f"the resolved spec has no {missing}", fix="resolve the values again") from missing


@dataclass(frozen=True)
class TokenEngine:
    """An engine with what its metrics tell about it."""

    engine: Engine
    context: int
    memory_fraction: float


def token_engine(spec: ServerSpec) -> TokenEngine:
    """The engine of a language model. UserError when the model does not fit its GPUs, as the runtime would fail to
    start."""
    resolved, model = spec.resolved, spec.resolved["model"]
    accelerator, parallelism = resolved["accelerator"], resolved.get("parallelism") or {}
    fraction = float(accelerator.get("memoryFraction") or spec.contract["engine"]["memoryFraction"])
    try:
        gpu = Gpu.from_preset(str(accelerator.get("type", "")), resolved["acceleratorPreset"])
        if accelerator.get("sharing") == "mig":
            gpu = gpu.slice(float(share(accelerator, resolved["acceleratorPreset"])))
        times = StepTimes(
            gpu, shape_from_values(model), parallelism.get("tensor") or 1, parallelism.get("pipeline") or 1
        )
    except ValueError as error:
        raise UserError(str(error), fix="set model.parametersBillion, or complete the accelerator preset") from error
    tokens = times.kv_tokens(fraction)
    context = int(model.get("contextLength") or 0) or min(LONGEST_CONTEXT, tokens // BLOCK * BLOCK)
    if tokens < max(context, BLOCK):
        raise UserError(
            f"model {spec.served_name} does not fit {times.tensor * times.pipeline} x {gpu.name}: the cache would hold "
            f"{max(tokens, 0)} tokens, a request may need {context}",
            fix="use a larger GPU, more of them (parallelism.tensor), a smaller weightsDtype or contextLength",
        )
    limits = Limits.defaults(gpu, tokens, int(model.get("maxConcurrentRequests") or 0))
    return TokenEngine(Engine(times, limits), context, fraction)


def batch_service(spec: ServerSpec) -> Service:
    """The service times of a model that answers whole requests: the contract's, one instance a GPU."""
    service = spec.contract["service"]
    instances = int(spec.resolved["accelerator"].get("count") or 1)
    return Service(service["batchSeconds"], service["itemSeconds"], service["maxItems"], instances)
