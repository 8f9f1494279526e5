"""What a pod asks for where it is not a number of whole GPUs, and what follows from a model's size.

Mirrors the chart's templates/_lib/sharing.tpl and sizing.tpl; resolve.py calls it, a test compares the results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from gpu_inference.errors import UserError

Spec = dict[str, Any]

# Bits of one weight. Four-bit formats carry scales.
BITS: Mapping[str, Decimal] = {
    **dict.fromkeys(("fp32", "float32"), Decimal(32)),
    **dict.fromkeys(("bf16", "bfloat16", "fp16", "float16", "half"), Decimal(16)),
    **dict.fromkeys(("fp8", "int8", "w8a8"), Decimal(8)),
    **dict.fromkeys(("fp4", "nvfp4", "mxfp4", "int4", "awq", "gptq"), Decimal("4.5")),
}
_MIB = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}


def derive(spec: Spec, accelerator: Spec, cloud: Spec) -> None:
    """Sets accelerator.resource, empty with a claim, and labels in nodeSelector that no layer has set. The entries of
    nodeSelector that are False are still there."""
    gpu, nodes = spec["accelerator"], spec["nodeSelector"]
    gpu["resource"] = accelerator["resource"]
    label = cloud["productLabels"].get(accelerator["resource"])
    product = accelerator["nodeLabels"].get(label, "")
    found: dict[str, str] = {}
    if gpu["dra"]:
        gpu["resource"] = ""
    elif gpu["sharing"] != "none":
        gpu["resource"] = _resource(gpu, accelerator["resource"])
        found = dict(marks(gpu, accelerator, cloud))
    if (gpu["dra"] or found) and product and nodes.get(label) == product:
        del nodes[label]
    for name, values in accelerator.get("countLabels", {}).items():
        if str(gpu["count"]) in values:
            found[name] = values[str(gpu["count"])]
    words = {
        "{product}": product,
        "{profile}": gpu["mig"].get("profile", ""),
        "{replicas}": str(gpu["shared"].get("replicas", "")),
    }
    for name, value in found.items():
        for word, text in words.items():
            name, value = name.replace(word, text), value.replace(word, text)
        nodes.setdefault(name, value)


def vendor(accelerator: Mapping[str, Any]) -> str:
    """The domain of the accelerator's resource."""
    return str(accelerator["resource"]).partition("/")[0]


def kind(gpu: Mapping[str, Any]) -> str:
    """The name of the way of sharing in a cloud preset."""
    if gpu["sharing"] == "mig":
        return f"mig{gpu['mig']['strategy'].title()}"
    return f"{gpu['sharing']}Renamed" if gpu["shared"]["renamed"] else str(gpu["sharing"])


def marks(gpu: Mapping[str, Any], accelerator: Mapping[str, Any], cloud: Mapping[str, Any]) -> Mapping[str, str]:
    """Labels of the nodes that share GPUs in this way; none where the cloud preset knows none."""
    known: Mapping[str, str] = cloud.get("sharing", {}).get(accelerator["resource"], {}).get(kind(gpu), {})
    return known


def share(gpu: Mapping[str, Any], accelerator: Mapping[str, Any]) -> Fraction:
    """The part of a GPU that a pod has: of its memory with MIG, else of its pods."""
    if gpu["sharing"] == "mig":
        mib = accelerator.get("mig", {}).get("profiles", {}).get(gpu["mig"].get("profile"))
        return Fraction(mib, accelerator["memory"]["visibleMiB"]) if mib else Fraction(1)
    return Fraction(1) if gpu["sharing"] == "none" else Fraction(1, gpu["shared"].get("replicas", 1))


def weight_bits(model: Mapping[str, Any]) -> Decimal | None:
    """Bits of all weights, in billions; None where the values do not tell."""
    bits, billions = BITS.get(str(model.get("weightsDtype", "")).lower()), model.get("parametersBillion")
    return bits * Decimal(repr(billions)) if bits and billions else None


def size(spec: Spec, accelerator: Spec, said: tuple[Spec, ...]) -> None:
    """CPU, memory and disk of a model whose size is known, or which has part of a GPU, where `said` does not say them.

    Memory and disk are 1.5 times the weights, a GB counted as a GiB; memory is 8 GiB more for what each process needs
    besides, and limits are a quarter above requests. Of what an accelerator preset says for a whole GPU, a part of it
    gets its share, of two CPUs and 8 GiB at least.
    """
    resources, cache = spec["resources"], spec["storage"]["cache"]
    part = share(spec["accelerator"], accelerator)
    bits, disk, memory = weight_bits(spec["model"]), 0, 0
    if bits is not None:
        disk = math.ceil(Fraction(bits) * 3 / (16 * spec["accelerator"]["count"]))
        memory = disk + 8
    elif part != 1:
        disk = _gib(cache["sizeLimit"], part)
        memory = max(8, _gib(resources["memory"]["requests"], part))
    if disk and not any("cache" in layer.get("storage", {}) for layer in said):
        cache["sizeLimit"] = f"{disk}Gi"
    if memory and not any("memory" in layer.get("resources", {}) for layer in said):
        resources["memory"] = {"requests": f"{memory}Gi", "limits": f"{-(-5 * memory // 4)}Gi"}
    if part != 1 and not any("cpu" in layer.get("resources", {}) for layer in said):
        cores = max(2, math.ceil(Fraction(repr(resources["cpu"]["requests"])) * part))
        resources["cpu"] = {"requests": cores, "limits": 1.25 * cores}


def mib(quantity: str) -> int:
    """A quantity in Mi, Gi or Ti as whole MiB."""
    if quantity[-2:] not in _MIB:
        raise UserError(f"{quantity!r} is no size", fix="use Mi, Gi or Ti")
    return int(Decimal(quantity[:-2]) * _MIB[quantity[-2:]])


def _resource(gpu: Spec, whole: str) -> str:
    """The extended resource that a part of a GPU is."""
    if kind(gpu) == "migMixed":
        return f"{whole.split('/')[0]}/mig-{gpu['mig'].get('profile', '')}"
    return f"{whole}.shared" if kind(gpu).endswith("Renamed") else whole


def _gib(quantity: str, part: Fraction) -> int:
    return math.ceil(mib(quantity) * part / 1024)
