"""Estimates of a resolved model: what rules, the command line and the twin ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.estimate.advice import Suggestion, suggestions
from gpu_inference.estimate.memory import Layout, Memory, memory
from gpu_inference.estimate.problems import Problem, problems, unknown_arguments
from gpu_inference.estimate.startup import Host, Startup, host, startup
from gpu_inference.resolve import fetcher
from gpu_inference.serving.architecture import Architecture
from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.model import ModelShape, shape_from_values
from gpu_inference.sharing import share
from gpu_inference.twin import contract as contracts

Presets = Callable[[], Mapping[str, Mapping[str, Any]]]
GUESSED_CONTEXT = 8192  # tokens, where neither the values nor the model's config say


class NotEstimated(UserError):
    """The model is served by something whose memory is not a language model's."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """All about one model. spec: resolved; engine: how its runtime takes memory, see `engine_of`; presets: gives
    accelerators by name that may be suggested; host_cache_mib: what the server keeps in the host's memory beside the
    GPU's."""

    spec: Mapping[str, Any]
    engine: Mapping[str, Any]
    shape: ModelShape
    gpu: Gpu
    layout: Layout
    memory: Memory
    startup: Startup
    host: Host
    host_cache_mib: float = 0.0
    presets: Presets = dict
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.spec.get("name") or self.spec["model"].get("servedName") or "")

    @property
    def runtime(self) -> str:
        return str(self.spec["runtime"])

    @property
    def limit(self) -> str:
        """What bounds the sequences that run at once: weights, cache or maxConcurrentRequests."""
        if self.memory.kv_bytes_per_gpu <= 0:
            return "weights"
        many = self.memory.concurrent_sequences >= self.memory.max_sequences
        return "maxConcurrentRequests" if many else "cache"

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        return problems(self)

    @cached_property
    def suggestions(self) -> tuple[Suggestion, ...]:
        others, most = _others(self.spec, self.presets), _most(self.spec)
        return suggestions(self.shape, self.gpu, self.layout, self.memory, others, most)

    @property
    def fits(self) -> bool:
        return self.memory.fits and not any(problem.severity == "error" for problem in self.problems)


def served(spec: Mapping[str, Any], own: Architecture | None = None) -> tuple[ModelShape, Gpu, Layout]:
    """(model, GPU, layout) of a resolved spec; `own`: the architecture in the model's config.json. UserError when the
    model is not known, or a figure of the accelerator is missing; NotEstimated when the runtime serves no single
    language model."""
    model, accelerator, parallelism = spec["model"], spec["accelerator"], spec.get("parallelism") or {}
    engine = engine_of(spec)
    try:
        gpu = Gpu.from_preset(str(accelerator.get("type", "")), spec["acceleratorPreset"])
        if accelerator.get("sharing") == "mig":
            part = gpu.slice(float(share(accelerator, spec["acceleratorPreset"])))
            gpu = replace(part, name=f"{gpu.name} {accelerator['mig'].get('profile', '')}".rstrip())
        shape = shape_from_values(model, own)
    except ValueError as error:
        raise UserError(
            str(error), fix="set model.parametersBillion, or complete the accelerator preset", exit_code=1
        ) from error
    tensor, pipeline = _ranks(spec, parallelism)
    layout = Layout(
        tensor=tensor,
        pipeline=pipeline,
        fraction=float(accelerator.get("memoryFraction") or engine["memoryFraction"]),
        basis=engine.get("memoryFractionOf", "total"),
        max_sequences=int(model.get("maxConcurrentRequests") or 0),
        pods=pipeline if spec.get("workload") == "LeaderWorkerSet" else 1,
    )
    return shape, gpu, layout


def _ranks(spec: Mapping[str, Any], parallelism: Mapping[str, Any]) -> tuple[int, int]:
    """(tensor, pipeline). A server that is not told takes all GPUs of the pod: llama.cpp a part of the layers on each,
    others a part of each layer."""
    preset, count = spec["runtimePreset"], int(spec["accelerator"].get("count") or 1)
    entries = [*preset.get("args", ()), *preset.get("env", {}).values()]
    if any(entry.get("from") == "parallelism.tensor" for entry in entries):
        return int(parallelism.get("tensor") or 1), int(parallelism.get("pipeline") or 1)
    return (1, count) if "modelFile" in preset else (count, 1)


def engine_of(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the runtime takes its memory: {memoryFraction, memoryFractionOf, hostCacheMiB} of its contract; vLLM's for a
    runtime of the values' own that speaks OpenAI's API."""
    runtime = spec["runtime"]
    known = runtime in contracts.known()
    if not known and spec["runtimePreset"]["api"] == "openai":
        runtime = "vllm"
    engine: Mapping[str, Any] = contracts.load(runtime).get("engine", {}) if known or runtime == "vllm" else {}
    if not engine:
        raise NotEstimated(
            f"{spec.get('name', 'model')}: runtime {spec['runtime']} serves no single language model",
            fix="estimate models of vllm, sglang, trtllm, lmdeploy, nim, tgi or llama-cpp",
        )
    return engine


def estimate_for(
    spec: Mapping[str, Any],
    own: Architecture | None = None,
    presets: Presets = dict,
    gigabytes_per_second: float = 0.0,
) -> Estimate:
    """The estimate of one model of gpu_inference.resolve.

    own: the architecture in the model's config.json, else it is looked up by name or guessed from parametersBillion;
    presets: gives accelerators by name that suggestions may name; gigabytes_per_second: of the storage, 0 for a
    typical one. UserError and NotEstimated: see `served`.
    """
    shape, gpu, layout = served(spec, own)
    engine, model, notes = engine_of(spec), spec["model"], []
    context = int(model.get("contextLength") or 0)
    if not context:
        context = shape.architecture.context if shape.exact else GUESSED_CONTEXT
        notes.append(f"contextLength is not set: reckoned with {context}")
    if not shape.exact:
        notes.append(
            "the model is not in the catalogue: its shape is that of one of about its size; --config reads its own"
        )
    source, count = str(model.get("source", "")), int(spec["accelerator"].get("count") or 1)
    cache = _host_cache(engine, spec, count)
    ahead = fetcher(spec, spec["runtimePreset"]) in ("pod", "job")
    found = Estimate(
        spec=spec,
        engine=engine,
        shape=shape,
        gpu=gpu,
        layout=layout,
        memory=memory(shape, gpu, layout, context),
        startup=startup(shape, source, layout.pipeline, gigabytes_per_second, ahead),
        host=host(shape, source, count, cache),
        host_cache_mib=cache,
        presets=presets,
    )
    unknown = unknown_arguments(found)
    if unknown:
        notes.append(f"{', '.join(unknown)} of extraArgs may change what memory holds, and is not reckoned with")
    return replace(found, notes=tuple(notes))


def _host_cache(engine: Mapping[str, Any], spec: Mapping[str, Any], count: int) -> float:
    """MiB of the host's memory that the server is told to use, else what it uses by itself."""
    known, found = engine.get("hostArguments", {}), []
    words = [word for argument in spec.get("extraArgs", ()) for word in str(argument).split("=", 1)]
    variables = ((name, str(value)) for name, value in spec.get("env", {}).items())
    for flag, value in (*pairwise(words), *variables):
        if flag in known and value.replace(".", "", 1).isdigit():
            found.append(float(value) * known[flag]["mib"] * (count if known[flag].get("perGpu") else 1))
    return sum(found) if found else float(engine.get("hostCacheMiB", 0))


def _most(spec: Mapping[str, Any]) -> float:
    """Of the GPU's memory that a server may take for certain: of a GPU that pods share, its part."""
    accelerator = spec["accelerator"]
    shared = accelerator.get("sharing", "none") in ("timeSlicing", "mps")
    return math.floor(90 / (accelerator["shared"].get("replicas", 1) if shared else 1)) / 100


def _others(spec: Mapping[str, Any], presets: Presets) -> Mapping[str, Mapping[str, Any]] | None:
    """Accelerators that would take the model's place: of the same vendor; None where it has part of a GPU, of which
    there are no others, nor several together."""
    if spec["accelerator"].get("sharing", "none") != "none":
        return None
    own = spec["acceleratorPreset"]["resource"]
    return {name: preset for name, preset in presets().items() if preset.get("resource") == own}
