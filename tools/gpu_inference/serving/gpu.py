"""A GPU's figures, read from an accelerator preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MIB = 2**20

# Formats a GPU without native support computes in instead, in order of preference. Weights stay in their own format.
_COMPUTE_FALLBACK = {
    "fp32": ("bf16", "fp16"),
    "fp16": ("bf16",),
    "bf16": ("fp16",),
    "fp8": ("bf16", "fp16"),
    "fp4": ("fp8", "bf16", "fp16"),
}


@dataclass(frozen=True)
class Gpu:
    """memory_bytes is what the driver shows (not the nominal size), bandwidth in bytes/s, flops in dense FLOP/s by
    format; per_node: the most that a node has."""

    name: str
    memory_bytes: float
    bandwidth: float
    flops: Mapping[str, float]
    compute_capability: str = ""
    per_node: int = 8

    @classmethod
    def from_preset(cls, name: str, preset: Mapping[str, Any]) -> Gpu:
        """preset: the content of chart/accelerators/<name>.yaml. Raises ValueError naming the figure that is
        missing."""
        try:
            flops = {
                kind: float(tera) * 1e12 for kind, tera in preset["tflops"].items() if isinstance(tera, int | float)
            }
            return cls(
                name=name,
                memory_bytes=float(preset["memory"]["visibleMiB"]) * MIB,
                bandwidth=float(preset["bandwidthGBps"]) * 1e9,
                flops=flops,
                compute_capability=str(preset.get("computeCapability", "")),
                per_node=int(preset.get("gpusPerNode", cls.per_node)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"accelerator {name}: figure {error} is missing") from error

    def slice(self, part: float) -> Gpu:
        """A MIG slice: its part of the memory, of its bandwidth, and nearly of the compute (1/8 and 1/7)."""
        flops = {kind: value * part for kind, value in self.flops.items()}
        return replace(self, memory_bytes=self.memory_bytes * part, bandwidth=self.bandwidth * part, flops=flops)

    def compute_flops(self, dtype: str) -> float:
        """FLOP/s for arithmetic in `dtype`, or in the nearest format the GPU has. Raises ValueError when it has
        none."""
        for kind in (dtype, *_COMPUTE_FALLBACK.get(dtype, ())):
            if kind in self.flops:
                return self.flops[kind]
        raise ValueError(f"accelerator {self.name}: no FLOPS for {dtype} (it lists {', '.join(sorted(self.flops))})")
