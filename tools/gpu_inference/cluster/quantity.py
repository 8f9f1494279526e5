"""Kubernetes quantities: `500m`, `64Gi`, `8`."""

from __future__ import annotations

import re
from fractions import Fraction

_SUFFIXES = {
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTP", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTP", 1)},
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]{1,2})?)(m|[kMGTP]|[KMGTP]i)?")
_GIB = 2**30


def parse(quantity: str | int | float) -> Fraction:
    """In cores, bytes or pieces. ValueError for what is none."""
    match = _QUANTITY.fullmatch(str(quantity))
    if not match:
        raise ValueError(f"{quantity!r} is no quantity")
    return Fraction(match[1]) * _SUFFIXES.get(match[2], 1)


def text(amount: Fraction) -> str:
    """As the API takes it, in thousandths where it is not whole."""
    return str(amount) if amount.denominator == 1 else f"{int(amount * 1000)}m"


def show(amount: Fraction, resource: str) -> str:
    """An amount with its unit, for people: "7.5 CPU", "96 GiB of memory", "8 nvidia.com/gpu"."""
    units = {"cpu": "CPU", "memory": "GiB of memory", "ephemeral-storage": "GiB of disk"}
    if resource in ("memory", "ephemeral-storage"):
        amount /= _GIB
    return f"{round(float(amount), 1):g} {units.get(resource, resource)}"
