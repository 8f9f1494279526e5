"""Rules about what a server is given and how long it is given: shares of memory, CPUs, times, and which GPU.
None is Helm's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.values.presets import load_presets

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

_MOST = 0.95  # of a GPU's memory that one server should take
_MOST_SHARED = 0.9  # that several should: each has a CUDA context beside its share


def _headroom(model: Model) -> Iterator[Mistake]:
    gpu = model.spec["accelerator"]
    entries = [*model.runtime["args"], *model.runtime.get("env", {}).values()]
    taken = any(entry.get("from") == "accelerator.memoryFraction" for entry in entries)
    if "memoryFraction" not in gpu or not taken:
        return
    path, share = "accelerator.memoryFraction", gpu["memoryFraction"]
    if gpu["sharing"] in ("timeSlicing", "mps"):
        pods = gpu["shared"].get("replicas", 1)
        if _MOST_SHARED < share * pods <= 1:
            message = (
                f"{share:g} for each of {pods} pods leaves {_percent(1 - share * pods)} of the GPU's memory for the "
                "CUDA contexts of all of them, which come on top"
            )
            fix = f"set it to {math.floor(100 * _MOST_SHARED / pods) / 100:g} or less"
            yield _warning(model.mistake("memory-headroom", path, message, fix))
    elif share > _MOST:
        message = f"leaves {_percent(1 - share)} of the GPU's memory for fragments and whatever is not planned for"
        yield _warning(model.mistake("memory-headroom", path, message, f"set it to {_MOST} or less"))


def _percent(part: float) -> str:
    return f"{max(0.0, 100 * part):.0f} %"


def _cpus(model: Model) -> Iterator[Mistake]:
    """Servers written in Python: the engine's loop and the worker of each GPU keep a core busy each."""
    count, requested = model.spec["accelerator"]["count"], model.spec["resources"]["cpu"]["requests"]
    if model.runtime["api"] != "openai" or not model.runtime.get("python", True) or requested * count >= count + 1:
        return
    gpus = f"{count} GPUs" if count > 1 else "one GPU"
    message = f"{requested * count:g} CPUs for {gpus}: the engine's loop and a worker a GPU keep {count + 1} busy"
    fix = f"set it to {math.ceil((count + 2) / count)} or more, one being the API server's"
    yield _warning(model.mistake("few-cpus", "resources.cpu.requests", message, fix))


def _window(model: Model) -> Iterator[Mistake]:
    """Who removes a pod sooner than a new one loads has to load it again and again."""
    scaling, load = model.spec["autoscaling"], model.spec["startup"]["loadSeconds"]
    path = "autoscaling.behavior.scaleDown.stabilizationWindowSeconds"
    window = model.at(path)
    if scaling["enabled"] and window is not None and window < load:
        message = f"pods go after {window} s of less load, and the next one takes {load} s to load"
        yield _warning(model.mistake("scale-down-window", path, message, f"set it to {load}"))


def _patience(model: Model) -> Iterator[Mistake]:
    """Engines that give up loading by themselves are told how long the startup probe waits."""
    budget = model.spec["startup"]["budgetSeconds"]
    for name, entry in model.runtime.get("env", {}).items():
        value = model.spec["env"].get(name)
        if entry.get("from") != "startup.budgetSeconds" or not re.fullmatch(r"\d+", str(value)):
            continue
        if int(str(value)) < budget:
            message = f"the engine gives up after {value} s, and the startup probe allows {budget} s"
            yield _warning(model.mistake("engine-timeout", f"env.{name}", message, "remove it, it follows the probe"))


def _product(model: Model) -> Iterator[Mistake]:
    """A selector that overrides what the chart knows of the GPU's nodes, with another GPU's."""
    gpu, products = model.spec["accelerator"]["type"], model.spec["acceleratorPreset"]["nodeLabels"]
    presets = load_presets("accelerators", model.values)
    for label, value in model.spec["nodeSelector"].items():
        if value == products.get(label, value):
            continue
        others = sorted(name for name, preset in presets.items() if preset.get("nodeLabels", {}).get(label) == value)
        if others:
            message = f"{value} marks nodes with {' or '.join(others)}, and accelerator.type is {gpu}"
            mistake = model.mistake("other-gpu", "nodeSelector", message, f"remove it, or set the type to {others[0]}")
            yield replace(mistake, path=(*mistake.path, label))


def _warning(mistake: Mistake) -> Mistake:
    return replace(mistake, severity="warning")


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (_headroom, _cpus, _window, _patience, _product)
