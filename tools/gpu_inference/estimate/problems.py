"""What will go wrong with a model as it is set up, as far as estimates tell: `estimate` prints it, `validate` finds it.

An estimate is a few percent off, a load time a factor: only what is wrong by more than that is an error, and for
servers that nothing was measured of, most is a warning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_inference.resolve import fetcher
from gpu_inference.serving.architecture import PLAIN
from gpu_inference.sharing import mib

if TYPE_CHECKING:
    from gpu_inference.estimate.spec import Estimate

GIB = 2**30
MIB = 2**20
MARGIN = 0.02  # of the budget: what the estimate of memory may be wrong by
ROUND = 1024  # tokens: a context that is advised is rounded down to it, and is 5 % less than what just fits
SPARE = 1.2  # of the weights: other files of the model, and the one that is being downloaded
# Arguments that change what memory holds: nothing is said of it then. Embeddings need no cache in many models.
_UNKNOWN = re.compile(
    r"--?(.*(offload|batched-tokens|eager|gpu-blocks|cache-memory|data-parallel|dp-size|context-parallel|rope|overrides|"
    r"n-gpu-layers|ngl|fit|cpu-moe|prefill|max-total)|config|task$|runner|convert|embedding|is-embedding|pooling|reranking)"
)


@dataclass(frozen=True)
class Problem:
    """What will go wrong. code: the name of the rule; severity: "error" (the server does not start) or "warning"; path:
    below the model's values."""

    code: str
    path: str
    message: str
    fix: str
    severity: str = "error"


def problems(found: Estimate) -> tuple[Problem, ...]:
    all_of_them = tuple(problem for check in _CHECKS for problem in check(found))
    # Memory and disk are for each GPU: with the GPUs it takes there is more of both.
    crowded = any((problem.code, problem.path) == ("does-not-fit", "accelerator") for problem in all_of_them)
    return tuple(problem for problem in all_of_them if not (crowded and problem.code in ("host-memory", "cache-size")))


def unknown_arguments(found: Estimate) -> list[str]:
    """Those of extraArgs that the estimate of the GPU's memory does not know what to make of."""
    flags = [str(argument).partition("=")[0].replace("_", "-") for argument in found.spec.get("extraArgs", ())]
    return [flag for flag in flags if _UNKNOWN.match(flag)]


def _divisible(found: Estimate) -> Iterator[Problem]:
    """Heads are dealt to the tensor-parallel ranks whole."""
    heads, kv_heads, tensor = found.shape.architecture.heads, found.shape.architecture.kv_heads, found.layout.tensor
    path = "parallelism.tensor"
    if not found.shape.exact:
        return
    if heads % tensor:
        fit = [number for number in (1, 2, 4, 8, 16) if heads % number == 0]
        message = f"{heads} attention heads do not divide by {tensor}: the server does not start"
        fix = f"use one of {', '.join(map(str, fit))}, and as many GPUs"
        yield Problem("attention-heads", path, message, fix)
    elif kv_heads > 1 and (kv_heads % tensor and tensor % kv_heads):
        message = f"{kv_heads} KV heads and {tensor} ranks: neither divides by the other, the server does not start"
        yield Problem("kv-heads", path, message, f"use {kv_heads} or a divisor of it, and as many GPUs")
    elif tensor > kv_heads > 1:
        message = f"{tensor} ranks share {kv_heads} KV heads: each rank keeps a copy, the cache does not grow with more"
        yield Problem("kv-heads", path, message, f"use {kv_heads}, and more pipeline stages or replicas", "warning")


def _formats(found: Estimate) -> Iterator[Problem]:
    """Without a dtype, or with `auto`, servers choose one the GPU has; most load weights of any format."""
    model, gpu, weights = found.spec["model"], found.gpu, found.shape.weights
    if model.get("dtype") in ("bfloat16", "bf16") and "bf16" not in gpu.flops and "fp16" in gpu.flops:
        message = f"{gpu.name} has no bfloat16: the server does not start"
        yield Problem("number-format", "model.dtype", message, "set it to float16")
    least, own = found.engine.get("leastCapability", {}).get(weights, 0.0), gpu.compute_capability
    if re.fullmatch(r"\d+\.\d+", own) and float(own) < least:
        message = (
            f"{found.runtime} computes with {weights} weights from compute capability {least} on, "
            f"and {gpu.name} has {own}: the server does not start"
        )
        fix = "use an accelerator that has it, or a copy of the model in bfloat16 or int4"
        yield Problem("number-format", "accelerator.type", message, fix)


def _fits(found: Estimate) -> Iterator[Problem]:
    """Weights and buffers, and one sequence of the context."""
    now, layout = found.memory, found.layout
    if now.fits or unknown_arguments(found):
        return
    weights = f"{now.weights_bytes_per_gpu / GIB:.1f} GiB of weights in {found.shape.weights}"
    buffers = now.activation_bytes_per_gpu + now.graph_bytes_per_gpu + now.runtime_bytes_per_gpu
    # Some servers take the buffers from what the fraction leaves.
    held = weights if layout.basis == "static" else f"{weights} and {buffers / GIB:.1f} GiB of buffers"
    gpus = f"each of {layout.gpus} {found.gpu.name}" if layout.gpus > 1 else f"one {found.gpu.name}"
    budget = f"the server may take {now.budget_bytes_per_gpu / GIB:.1f} GiB of {gpus}"
    if layout.basis != "free":
        budget += f", {layout.fraction:g} of its memory"
    yield _weights(found, held, budget) if now.kv_bytes_per_gpu <= 0 else _context(found, held, budget)


def _weights(found: Estimate, held: str, budget: str) -> Problem:
    now, gguf = found.memory, "modelFile" in found.spec["runtimePreset"]
    short = -now.kv_bytes_per_gpu > MARGIN * now.budget_bytes_per_gpu
    # A GGUF file may be of any format, and llama.cpp can leave layers to the CPU.
    hopeless = now.weights_bytes_per_gpu > found.gpu.memory_bytes and not gguf
    certain = (hopeless or (short and _measured(found))) and _known_format(found)
    fix = _changes(found)
    if not _said_format(found):
        fix += "; or say model.weightsDtype if its files are quantized"
    return Problem("does-not-fit", "accelerator", f"{held} do not fit: {budget}", fix, _severity(certain))


def _context(found: Estimate, held: str, budget: str) -> Problem:
    now, needed = found.memory, found.memory.kv_bytes_per_sequence_per_gpu
    short = needed - now.kv_bytes_per_gpu > MARGIN * now.budget_bytes_per_gpu
    certain = short and found.shape.exact and _measured(found)
    whose = "" if found.spec["model"].get("contextLength") else ", the model's own context,"
    end = "the server does not start" if _measured(found) else "it cannot be served"
    message = (
        f"one request of {now.context_tokens} tokens{whose} needs {needed / GIB:.2f} GiB of KV cache, and "
        f"{now.kv_bytes_per_gpu / GIB:.2f} GiB are left beside {held} ({budget}): {end}"
    )
    fix, longest = _changes(found, "model.contextLength"), now.longest_context_tokens
    if longest >= ROUND:
        fix = f"set it to {int(0.95 * longest) // ROUND * ROUND or longest}, or {fix}"
    return Problem("does-not-fit", "model.contextLength", message, fix, _severity(certain))


def _changes(found: Estimate, without: str = "") -> str:
    """Some of what would help; copies of the model last, as they are not only a matter of values."""
    order = [suggestion for suggestion in found.suggestions if without not in suggestion.values]
    order.sort(key=lambda suggestion: "model.weightsDtype" in suggestion.values)
    if not order and found.spec["accelerator"].get("sharing", "none") != "none":
        return "use a larger part of the GPU, or a smaller copy of the model"
    if not order:
        return "use a smaller copy of the model, or spread it over nodes with workload: LeaderWorkerSet"
    return "set " + "; or ".join(str(suggestion) for suggestion in order[:3])


def _in_time(found: Estimate) -> Iterator[Problem]:
    """Whether the startup probe lets the server come up, and a rollout its pods."""
    load, said, probe = found.startup, found.spec["startup"], found.spec["probes"]["startup"]
    budget, size = said["budgetSeconds"], f"{load.file_bytes / 1e9:.1f} GB of weights"
    expected = load.container_seconds
    if not _measured(found):
        expected = load.read_seconds + (0 if load.ahead else load.download_seconds)
    at, fix = "startup.loadSeconds", f"set it to {load.advised_load_seconds}"
    if "failureThreshold" in probe:
        at, fix = "probes.startup.failureThreshold", f"remove it, and set startup.loadSeconds to {fix.split()[-1]}"
    if budget < load.quickest_seconds:
        least = f"{load.quickest_seconds:.0f} s"
        message = f"after {budget} s it is restarted, and no server loads {size} in less than {least}"
        yield Problem("load-time", at, message, fix)
    elif budget < expected:
        parts = {"download": 0 if load.ahead else load.download_seconds, "read": load.read_seconds}
        if _measured(found):
            graphs = load.compile_seconds + load.capture_seconds
            parts |= {"start": load.engine_seconds, "compile and capture": graphs}
        phases = ", ".join(f"{what} {seconds:.0f}" for what, seconds in parts.items() if seconds)
        first = f"the first start takes about {expected:.0f} s: {size}, {phases}"
        message = f"after {budget} s it is restarted, and {first}"
        yield Problem("load-time", at, message, fix, "warning")
    patience = said["provisionSeconds"]
    if load.ahead and fetcher(found.spec, found.spec["runtimePreset"]) == "pod" and patience < load.download_seconds:
        message = (
            f"a pod may take {patience} s before its server starts, and downloading {size} takes about "
            f"{load.download_seconds:.0f} s: the rollout counts as failed meanwhile"
        )
        fix = f"set it to {math.ceil(load.download_seconds / 300) * 300 + 300}, or storage.download.by to job"
        yield Problem("download-time", "startup.provisionSeconds", message, fix, "warning")


def _host_memory(found: Estimate) -> Iterator[Problem]:
    """The limit of the container: /dev/shm is on top of it."""
    count, limit = found.spec["accelerator"]["count"], found.spec["resources"]["memory"]["limits"]
    there, host = mib(limit) * MIB * count, found.host
    needed, certain = host.ram_bytes_minimum - host.shm_bytes, host.ram_bytes_certain - host.shm_bytes
    if there >= needed:
        return
    each = f"{limit} a GPU, {there / GIB:.0f} GiB in all," if count > 1 else limit
    kept = f", {found.host_cache_mib / 1024:g} GiB of them kept beside the GPU's memory" if found.host_cache_mib else ""
    message = f"{each} is less than the server's processes need, about {needed / GIB:.0f} GiB{kept}: it is killed"
    fix = f"set it to {math.ceil(needed / count / GIB)}Gi or more"
    yield Problem("host-memory", "resources.memory.limits", message, fix, _severity(there < certain))


def _disk(found: Estimate) -> Iterator[Problem]:
    """Where the files go that are downloaded: a directory of the pod, or a claim."""
    spec, size = found.spec, found.host.disk_bytes
    needed = f"the model's files are {size / GIB:.1f} GiB"
    cache = spec["claims"].get("cache")
    if spec["workload"] == "NIMService":
        cache, at = spec["nimService"].get("cache", {}), "nimService.cache.size"
        size, needed = found.startup.file_bytes, f"the model's files are {found.startup.file_bytes / GIB:.1f} GiB"
    elif not size or "claim" in spec["storage"]["download"]:
        return
    elif cache:
        at = "claims.cache.size"
    else:
        limit, count = spec["storage"]["cache"]["sizeLimit"], spec["accelerator"]["count"]
        if mib(limit) * count * MIB < size:
            each = f"{limit} for each of {count} GPUs" if count > 1 else limit
            message = f"{needed}, and {each} is less: the pod is evicted while it downloads"
            fix = f"set it to {math.ceil(SPARE * size / count / GIB)}Gi"
            yield Problem("cache-size", "storage.cache.sizeLimit", message, fix, _severity(_known_format(found)))
        return
    if re.fullmatch(r"[0-9.]+[MGT]i", str(cache.get("size", ""))):
        there, fix = mib(cache["size"]) * MIB, f"set it to {math.ceil(SPARE * size / GIB)}Gi"
        if there < size:
            message = f"{needed}, and {cache['size']} is less: the download ends with a full disk"
            yield Problem("claim-size", at, message, fix, _severity(_known_format(found)))
        elif there < SPARE * size:
            message = f"{needed}, and {cache['size']} leaves no room for its other files, nor for the next revision"
            yield Problem("claim-size", at, message, fix, "warning")


def _said_format(found: Estimate) -> bool:
    """Whether values or names tell the format of the weights; else it is the model's own, mostly bfloat16."""
    model = found.spec["model"]
    return bool(model.get("weightsDtype") or model.get("quantization")) or found.shape.weights not in PLAIN


def _known_format(found: Estimate) -> bool:
    return found.shape.exact or _said_format(found)


def _measured(found: Estimate) -> bool:
    return bool(found.engine.get("measured"))


def _severity(certain: bool) -> str:
    return "error" if certain else "warning"


_CHECKS: tuple[Callable[[Estimate], Iterator[Problem]], ...] = (
    _divisible,
    _formats,
    _fits,
    _in_time,
    _host_memory,
    _disk,
)
