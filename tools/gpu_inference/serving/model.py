"""The shape of a model: the figures that decide its memory and its speed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

# Bytes of one weight. Four-bit formats carry a scale per group of 16-128 weights: 0.56 with groups of 16, rounded up.
WEIGHT_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "int4": 0.5625}

# The engines' names of a quantization -> (format of the weights, format of the arithmetic).
_QUANTIZATION = {
    "fp8": ("fp8", "fp8"),
    "int8": ("int8", "bf16"),
    "w8a8": ("int8", "fp8"),
    "awq": ("int4", "bf16"),
    "gptq": ("int4", "bf16"),
    "int4": ("int4", "bf16"),
    "fp4": ("fp4", "fp4"),
    "nvfp4": ("fp4", "fp4"),
    "mxfp4": ("fp4", "bf16"),
}
_DTYPES = {"float32": "fp32", "fp32": "fp32", "float16": "fp16", "half": "fp16", "fp16": "fp16"}


@dataclass(frozen=True)
class ModelShape:
    """parameters: all weights; active: those one token uses (fewer in a mixture of experts); kv_bytes: of one cached
    number."""

    name: str
    parameters: float
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    active: float = 0.0
    weights: str = "bf16"
    compute: str = "bf16"
    kv_bytes: float = 2.0

    @property
    def active_parameters(self) -> float:
        return self.active or self.parameters

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights."""
        return self.parameters * WEIGHT_BYTES[self.weights]

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of keys and values one token leaves in the cache, over all tensor-parallel ranks together."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes


# Figures of the models' own config.json and model cards, read 2026-11-21. Keys are matched inside the model's name.
CATALOGUE = {
    shape.name: shape
    for shape in (
        ModelShape("llama-3.1-8b", 8.03e9, layers=32, kv_heads=8, head_dim=128, hidden=4096),
        ModelShape("llama-3.1-70b", 70.55e9, layers=80, kv_heads=8, head_dim=128, hidden=8192),
        ModelShape("qwen2.5-7b", 7.62e9, layers=28, kv_heads=4, head_dim=128, hidden=3584),
        ModelShape("qwen3-32b", 32.76e9, layers=64, kv_heads=8, head_dim=128, hidden=5120),
    )
}


def shape_of(name: str, parameters_billion: float | None = None) -> ModelShape:
    """The catalogue's shape of `name` (a source or a served name, any case), else an estimate from the parameter count.

    The estimate is the shape of the catalogue's model closest in size, with its own number of parameters: close for
    dense models with grouped-query attention, too low for the cache of older models without it. ValueError without
    either.
    """
    lowered = name.lower()
    for key, shape in CATALOGUE.items():
        if key in lowered:
            return replace(shape, parameters=parameters_billion * 1e9) if parameters_billion else shape
    if not parameters_billion or parameters_billion <= 0:
        raise ValueError(f"model {name or '(no name)'} is not in the catalogue and has no parametersBillion")
    size = parameters_billion * 1e9
    closest = min(CATALOGUE.values(), key=lambda shape: abs(math.log(shape.parameters / size)))
    return replace(closest, name=name, parameters=size)


def formats(model: Mapping[str, Any]) -> tuple[str, str]:
    """(format of the weights, format of the arithmetic) of a model's values: weightsDtype, else quantization, else
    dtype."""
    for key in ("weightsDtype", "quantization"):
        named = str(model.get(key) or "").lower()
        for known, pair in _QUANTIZATION.items():
            if named.startswith(known):
                return pair
        if named in WEIGHT_BYTES:
            return named, named
    dtype = _DTYPES.get(str(model.get("dtype") or "").lower(), "bf16")
    return dtype, dtype


def shape_from_values(model: Mapping[str, Any]) -> ModelShape:
    """The shape of a resolved spec's `model` (source, servedName, parametersBillion, weightsDtype, kvCacheDtype …)."""
    names = f"{model.get('source') or ''} {model.get('servedName') or ''}".strip()
    weights, compute = formats(model)
    kv_bytes = 1.0 if str(model.get("kvCacheDtype") or "").startswith(("fp8", "int8")) else 2.0
    shape = shape_of(names, model.get("parametersBillion") or None)
    return replace(shape, weights=weights, compute=compute, kv_bytes=kv_bytes)
