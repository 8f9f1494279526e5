"""Kubernetes quantities: `500m`, `64Gi`, `8`."""

from __future__ import annotations

from fractions import Fraction

_SUFFIXES = {
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTP", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTP", 1)},
}
_GIB = 2**30


def parse(quantity: str | int | float) -> Fraction:
    """In cores, bytes or pieces. ValueError for what is none."""
    text = str(quantity)
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if text.endswith(suffix):
            return Fraction(text.removesuffix(suffix)) * _SUFFIXES[suffix]
    return Fraction(text)


def show(amount: Fraction, resource: str) -> str:
    """An amount with its unit, for people: "7.5 CPU", "96 GiB of memory", "8 nvidia.com/gpu"."""
    units = {"cpu": "CPU", "memory": "GiB of memory", "ephemeral-storage": "GiB of disk"}
    if resource in ("memory", "ephemeral-storage"):
        amount /= _GIB
    return f"{round(float(amount), 1):g} {units.get(resource, resource)}"
