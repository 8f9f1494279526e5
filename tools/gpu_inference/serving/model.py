"""A model as it is served: its architecture and the formats of its weights, arithmetic and cache."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpu_inference.serving.architecture import WEIGHT_BYTES, Architecture
from gpu_inference.serving.catalogue import catalogue, find

# The engines' names of a quantization -> (format of the weights, format of the arithmetic).
_QUANTIZATION = {
    "fp8": ("fp8", "fp8"),
    "fbgemm_fp8": ("fp8", "fp8"),
    "int8": ("int8", "bf16"),
    "w8a8": ("int8", "fp8"),
    "awq": ("int4", "bf16"),
    "gptq": ("int4", "bf16"),
    "int4": ("int4", "bf16"),
    "w4a16": ("int4", "bf16"),
    "fp4": ("fp4", "fp4"),
    "nvfp4": ("fp4", "fp4"),
    "mxfp4": ("mxfp4", "bf16"),
    # GGUF's, roughly: of 4 bits and fewer to 5, and of 6 to 8.
    **dict.fromkeys(("iq", "q2", "q3", "q4", "q5"), ("int4", "bf16")),
    **dict.fromkeys(("q6", "q8"), ("int8", "bf16")),
}
_DTYPES = {"float32": "fp32", "fp32": "fp32", "float16": "fp16", "half": "fp16", "fp16": "fp16"}
# What repositories of quantized weights are called: …-FP8, …-AWQ, …-quantized.w4a16; and GGUF files: …-Q4_K_M, …-IQ4_XS
_NAMED = re.compile(r"(?<![a-z0-9])(nvfp4|mxfp4|fp8|w8a8|w4a16|awq|gptq|int4|int8|i?q[2-8])(?![a-z0-9])")
# Bytes of one cached number. nvfp4 has a scale of 8 bits for 16 numbers, GGUF's one of 16 bits for 32.
_KV_BYTES = {"fp8": 1.0, "int8": 1.0, "nvfp4": 0.5 + 1 / 16, "q8": 1 + 1 / 16, "q4": 0.5 + 1 / 16}
SAME_SIZE = 1.25  # a parameter count this far from the catalogue's means another model


@dataclass(frozen=True)
class ModelShape:
    """weights, compute: formats; kv_bytes: of one cached number; exact: the architecture is the model's own, not one
    of about its size."""

    architecture: Architecture
    weights: str = "bf16"
    compute: str = "bf16"
    kv_bytes: float = 2.0
    exact: bool = True

    @property
    def name(self) -> str:
        return self.architecture.name

    @property
    def parameters(self) -> float:
        return self.architecture.parameters.total

    @property
    def active_parameters(self) -> float:
        """Those one token uses: fewer in a mixture of experts."""
        return self.architecture.parameters.active

    @property
    def layers(self) -> int:
        return self.architecture.layers

    @property
    def hidden(self) -> int:
        return self.architecture.hidden

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights."""
        return self.architecture.weight_bytes(self.weights)

    @property
    def active_weight_bytes(self) -> float:
        """Bytes of the weights one token uses."""
        return self.architecture.weight_bytes(self.weights, active=True)

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes of keys and values one more token leaves in the cache, over all tensor-parallel ranks together."""
        return self.architecture.kv_bytes_per_token(self.kv_bytes)


def shape_of(name: str, parameters_billion: float | None = None) -> ModelShape:
    """The shape of `name` (a source or a served name, any case) in the catalogue, else an estimate from the parameter
    count.

    The estimate is the shape of the catalogue's dense model closest in size, with its own number of parameters: close
    for dense models with grouped-query attention, too low for the cache of older models without it. ValueError
    without either.
    """
    size = (parameters_billion or 0) * 1e9
    entry = find(name)
    if entry:
        own = entry.architecture
        if not size:
            return ModelShape(own)
        if 1 / SAME_SIZE < size / own.parameters.total < SAME_SIZE:
            return ModelShape(own.sized(own.name, size))
    if size <= 0:
        raise ValueError(f"model {name or '(no name)'} is not in the catalogue and has no parametersBillion")
    dense = [
        known.architecture
        for known in catalogue().values()
        if not known.architecture.expert and len(known.architecture.cache) == 1 and not known.architecture.state_bytes
    ]
    closest = min(dense, key=lambda known: abs(math.log(known.parameters.total / size)))
    return ModelShape(closest.sized(name, size), exact=False)


def formats(model: Mapping[str, Any], name: str = "", quantization: str = "", dtype: str = "bf16") -> tuple[str, str]:
    """(format of the weights, format of the arithmetic) of a model's values: weightsDtype, else quantization, else what
    its name says, else the `quantization` its own config names, else the values' dtype, else `dtype`."""
    named = _NAMED.search(name.lower())
    for said in (model.get("weightsDtype"), model.get("quantization"), named and named[1], quantization):
        method = str(said or "").lower()
        for known, pair in _QUANTIZATION.items():
            if method.startswith(known):
                return pair
        if method in WEIGHT_BYTES:
            return method, method
    dtype = _DTYPES.get(str(model.get("dtype") or "").lower(), dtype)
    return dtype, dtype


def kv_bytes(model: Mapping[str, Any]) -> float:
    """Bytes of one cached number by a model's kvCacheDtype."""
    named = str(model.get("kvCacheDtype") or "")
    return next((size for known, size in _KV_BYTES.items() if named.startswith(known)), 2.0)


def shape_from_values(model: Mapping[str, Any], own: Architecture | None = None) -> ModelShape:
    """The shape of a resolved spec's `model` (source, servedName, parametersBillion, weightsDtype, kvCacheDtype …);
    `own`: its architecture, where it was read from the model's config.json."""
    names = " ".join(str(model[key]) for key in ("source", "file", "servedName") if model.get(key))
    shape = ModelShape(own) if own else shape_of(names, model.get("parametersBillion") or None)
    known = shape.architecture
    weights, compute = formats(model, names, known.quantization, known.dtype if shape.exact else "bf16")
    return replace(shape, weights=weights, compute=compute, kv_bytes=kv_bytes(model))
