"""Estimates of a resolved model: what rules, the command line and the twin ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.estimate.advice import Suggestion, suggestions
from gpu_inference.estimate.memory import Layout, Memory, memory
from gpu_inference.estimate.startup import Host, Startup, host, startup
from gpu_inference.serving.architecture import Architecture
from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.model import ModelShape, shape_from_values
from gpu_inference.sharing import share
from gpu_inference.twin import contract as contracts

GUESSED_CONTEXT = 8192  # tokens, where neither the values nor the model's config say


class NotEstimated(UserError):
    """The model is served by something whose memory is not a language model's."""


@dataclass(frozen=True)
class Problem:
    """What will go wrong. code: does-not-fit, heads, kv-heads, format or slow; severity: "error" (the server does not
    start) or "warning"; path: below the model's values."""

    code: str
    path: str
    message: str
    fix: str
    severity: str = "error"


@dataclass(frozen=True)
class Estimate:
    """All about one model. `limit`: what bounds the sequences that run at once: weights, cache or
    maxConcurrentRequests."""

    name: str
    runtime: str
    shape: ModelShape
    gpu: Gpu
    layout: Layout
    memory: Memory
    startup: Startup
    host: Host
    limit: str
    problems: tuple[Problem, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    notes: tuple[str, ...] = field(default=())

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
    layout = Layout(
        tensor=int(parallelism.get("tensor") or 1),
        pipeline=int(parallelism.get("pipeline") or 1),
        fraction=float(accelerator.get("memoryFraction") or engine["memoryFraction"]),
        basis=engine.get("memoryFractionOf", "total"),
        max_sequences=int(model.get("maxConcurrentRequests") or 0),
    )
    return shape, gpu, layout


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
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    gigabytes_per_second: float = 0.0,
) -> Estimate:
    """The estimate of one model of gpu_inference.resolve.

    own: the architecture in the model's config.json, else it is looked up by name or guessed from parametersBillion;
    presets: accelerators by name that suggestions may name; gigabytes_per_second: of the storage, 0 for a typical one.
    UserError and NotEstimated: see `served`.
    """
    shape, gpu, layout = served(spec, own)
    model, notes = spec["model"], []
    context = int(model.get("contextLength") or 0)
    if not context:
        context = shape.architecture.context if shape.exact else GUESSED_CONTEXT
        notes.append(f"contextLength is not set: reckoned with {context}")
    if not shape.exact:
        notes.append(
            "the model is not in the catalogue: its shape is that of one of about its size; --config reads its own"
        )
    found = memory(shape, gpu, layout, context)
    started = startup(shape, model.get("source", ""), layout.pipeline, gigabytes_per_second)
    problems = (
        *_divisible(shape, layout),
        *_formats(model, gpu),
        *_fits(found, gpu, layout),
        *_in_time(started, spec["startup"]),
    )
    return Estimate(
        name=str(spec.get("name") or model.get("servedName") or ""),
        runtime=spec["runtime"],
        shape=shape,
        gpu=gpu,
        layout=layout,
        memory=found,
        startup=started,
        host=host(
            shape,
            model.get("source", ""),
            int(spec["accelerator"].get("count") or 1),
            engine_of(spec).get("hostCacheMiB", 0),
        ),
        limit=_limit(found),
        problems=problems,
        suggestions=suggestions(shape, gpu, layout, found, _others(spec, presets or {})),
        notes=tuple(notes),
    )


def _others(
    spec: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Mapping[str, Any]] | None:
    """Accelerators that would take the model's place: of the same vendor; None where it has part of a GPU, of which
    there are no others, nor several together."""
    if spec["accelerator"].get("sharing", "none") != "none":
        return None
    own = spec["acceleratorPreset"]["resource"]
    return {name: preset for name, preset in presets.items() if preset["resource"] == own}


def _limit(found: Memory) -> str:
    if found.kv_bytes_per_gpu <= 0:
        return "weights"
    return "maxConcurrentRequests" if found.concurrent_sequences >= found.max_sequences else "cache"


def _divisible(shape: ModelShape, layout: Layout) -> list[Problem]:
    """Heads are dealt to the tensor-parallel ranks whole."""
    heads, kv_heads, tensor = shape.architecture.heads, shape.architecture.kv_heads, layout.tensor
    if not shape.exact:
        return []
    if heads % tensor:
        fit = [number for number in (1, 2, 4, 8, 16) if heads % number == 0]
        message = f"{heads} attention heads do not divide by {tensor}: the server does not start"
        return [Problem("heads", "parallelism.tensor", message, f"use one of {', '.join(map(str, fit))}")]
    if kv_heads > 1 and (kv_heads % tensor and tensor % kv_heads):
        message = f"{kv_heads} KV heads and {tensor} ranks: neither divides by the other, the server does not start"
        return [Problem("kv-heads", "parallelism.tensor", message, f"use {kv_heads} or a divisor of it")]
    if tensor > kv_heads > 1:
        message = f"{tensor} ranks share {kv_heads} KV heads: each rank keeps a copy, the cache does not grow with more"
        return [Problem("kv-heads", "parallelism.tensor", message, "use pipeline or replicas instead", "warning")]
    return []


def _formats(model: Mapping[str, Any], gpu: Gpu) -> list[Problem]:
    """Without a dtype, or with `auto`, servers choose one the GPU has."""
    if model.get("dtype") in ("bfloat16", "bf16") and "bf16" not in gpu.flops and "fp16" in gpu.flops:
        message = f"{gpu.name} has no bfloat16: the server does not start"
        return [Problem("format", "model.dtype", message, "set it to float16")]
    return []


def _fits(found: Memory, gpu: Gpu, layout: Layout) -> list[Problem]:
    if found.fits:
        return []
    gib = 2**30
    if found.kv_bytes_per_gpu <= 0:
        message = (
            f"needs {(found.budget_bytes_per_gpu - found.kv_bytes_per_gpu) / gib:.1f} GiB before the KV cache, and may "
            f"take {found.budget_bytes_per_gpu / gib:.1f} GiB of each of {layout.gpus} x {gpu.name}"
        )
        return [Problem("does-not-fit", "accelerator", message, "see the suggestions")]
    message = (
        f"a sequence of {found.context_tokens} tokens needs {found.kv_bytes_per_sequence_per_gpu / gib:.2f} GiB of KV "
        f"cache on each GPU, {found.kv_bytes_per_gpu / gib:.2f} GiB are left: the server does not start"
    )
    fix = f"set it to {found.longest_context_tokens} or less" if found.longest_context_tokens else "see the suggestions"
    return [Problem("does-not-fit", "model.contextLength", message, fix)]


def _in_time(started: Startup, said: Mapping[str, Any]) -> list[Problem]:
    """Whether the startup probe lets the server come up at last: what one try leaves in its caches helps the next."""
    if said["budgetSeconds"] >= started.least_seconds:
        return []
    message = (
        f"after {said['budgetSeconds']} s it is restarted, and loading takes {started.least_seconds:.0f} s or more, "
        f"{started.load_seconds:.0f} s the first time"
    )
    return [Problem("slow", "startup.loadSeconds", message, f"set it to {started.advised_load_seconds}", "warning")]
