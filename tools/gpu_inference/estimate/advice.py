"""What to change so that a model fits, or serves more at once: each suggestion is tried, not guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpu_inference.estimate.memory import Layout, Memory, memory
from gpu_inference.serving.architecture import PLAIN
from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.model import ModelShape

ENOUGH = 8  # sequences of the whole context at once, from which nothing more is suggested
CONTEXTS = (32_768, 8_192)  # tokens: with less than the context, if it takes that
LARGER = 1.1  # memory of a GPU that is worth naming


@dataclass(frozen=True)
class Suggestion:
    """Values to set, path -> value, and what becomes of the memory then."""

    values: Mapping[str, Any]
    memory: Memory

    def __str__(self) -> str:
        said = " and ".join(f"{path}: {value}" for path, value in self.values.items())
        return f"{said} with a quantized copy of the model" if "model.weightsDtype" in self.values else said


Change = tuple[dict[str, Any], ModelShape, Gpu, Layout]


def suggestions(
    shape: ModelShape,
    gpu: Gpu,
    layout: Layout,
    now: Memory,
    presets: Mapping[str, Mapping[str, Any]] | None,
    most: float = 0.0,
) -> tuple[Suggestion, ...]:
    """Changes that make the model fit, if need be with a shorter context; if it fits, those that let more of its
    longest sequences run at once, as long as it is few. The first of each kind that does. presets: accelerators by
    name; None where there can be neither other nor more GPUs. most: of the memory that the server may take."""
    if now.fits and now.sequences_at_context >= min(ENOUGH, now.max_sequences):
        return ()
    found: dict[frozenset[str], Suggestion] = {}
    shorter = () if now.fits else tuple(tokens for tokens in CONTEXTS if tokens < now.context_tokens)
    for context in (now.context_tokens, *shorter):
        for values, model, device, spread in _changes(shape, gpu, layout, presets, most):
            then = memory(model, device, spread, context)
            if frozenset(values) not in found and then.sequences_at_context > now.sequences_at_context:
                named = values if context == now.context_tokens else values | {"model.contextLength": context}
                found[frozenset(values)] = Suggestion(named, then)
    if not (now.fits or found):
        for values, model, device, spread in _both(shape, gpu, layout, presets):
            then = memory(model, device, spread, now.context_tokens)
            if then.fits:
                return (Suggestion(values, then),)
    return tuple(found.values())


def _changes(
    shape: ModelShape, gpu: Gpu, layout: Layout, presets: Mapping[str, Mapping[str, Any]] | None, most: float
) -> Iterator[Change]:
    """The cheapest first."""
    fp8 = "fp8" in gpu.flops
    yield {}, shape, gpu, layout
    if layout.fraction < most:
        yield {"accelerator.memoryFraction": most}, shape, gpu, replace(layout, fraction=most)
    if shape.kv_bytes == 2 and fp8:
        yield {"model.kvCacheDtype": "fp8"}, replace(shape, kv_bytes=1.0), gpu, layout
    if not layout.max_sequences:
        yield {"model.maxConcurrentRequests": 256}, shape, gpu, replace(layout, max_sequences=256)
    if shape.weights in PLAIN:
        for weights in ("fp8", "int4") if fp8 else ("int4",):
            yield {"model.weightsDtype": weights}, replace(shape, weights=weights), gpu, layout
    if presets is not None:
        for values, spread in _spread(shape, gpu, layout):
            yield values, shape, gpu, spread
        for other in _larger(gpu, presets):
            yield {"accelerator.type": other.name}, shape, other, layout


def _both(shape: ModelShape, gpu: Gpu, layout: Layout, presets: Mapping[str, Mapping[str, Any]] | None) -> list[Change]:
    """More and larger GPUs, for models that are too large for either."""
    found = [
        ({"accelerator.type": other.name} | values, shape, other, spread)
        for other in _larger(gpu, presets or {})
        for values, spread in _spread(shape, other, layout)
    ]
    return sorted(found, key=lambda change: change[3].gpus * change[2].memory_bytes)


def _larger(gpu: Gpu, presets: Mapping[str, Mapping[str, Any]]) -> list[Gpu]:
    """Accelerators with more memory whose figures are known."""
    found = []
    for name, preset in presets.items():
        try:
            other = Gpu.from_preset(name, preset)
        except ValueError:
            continue
        if other.memory_bytes > LARGER * gpu.memory_bytes and "bf16" in other.flops:
            found.append(other)
    return sorted(found, key=lambda other: (other.memory_bytes, other.name))


def _spread(shape: ModelShape, gpu: Gpu, layout: Layout) -> Iterator[tuple[dict[str, Any], Layout]]:
    """More GPUs in each pod, as many as a node has and the heads divide by."""
    for tensor in (2, 4, 8):
        count = tensor * layout.pipeline // layout.pods
        if tensor > layout.tensor and not shape.architecture.heads % tensor and count <= gpu.per_node:
            yield {"accelerator.count": count, "parallelism.tensor": tensor}, replace(layout, tensor=tensor)
