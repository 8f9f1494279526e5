"""An estimate as text."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_inference.estimate.memory import DRIVER, Memory
from gpu_inference.estimate.spec import Estimate

GIB = 2**30
_OF = {
    "total": "of each GPU's memory",
    "static": "of each GPU's memory, for weights and cache only",
    "free": "of what weights and buffers leave, for the cache",
}


def lines(found: Estimate) -> Iterator[str]:
    """A headline, the table of memory, loading, the host, what is wrong and what would help."""
    now, layout, shape = found.memory, found.layout, found.shape
    broken = "does not start" if now.fits else "does not fit"
    verdict = f"fits, {_sequences(now)}" if found.fits else broken
    spread = f" (tensor {layout.tensor}, pipeline {layout.pipeline})" if layout.gpus > 1 else ""
    yield f"{found.name}: {found.runtime}, {layout.gpus} x {found.gpu.name}{spread}: {verdict}"
    active = (
        f", {_billions(shape.active_parameters)} active" if shape.active_parameters < 0.95 * shape.parameters else ""
    )
    rows = [
        (now.budget_bytes_per_gpu, "budget", f"{layout.fraction:g} {_OF[layout.basis]}"),
        (now.weights_bytes_per_gpu, "weights", f"{_billions(shape.parameters)} parameters in {shape.weights}{active}"),
        (now.activation_bytes_per_gpu, "activations", "of a full batch"),
        (now.graph_bytes_per_gpu + now.runtime_bytes_per_gpu, "runtime", "CUDA graphs, context, communication"),
        (now.kv_bytes_per_gpu, "KV cache", _cache(now)),
    ]
    visible = (found.gpu.memory_bytes - DRIVER) / GIB
    yield f"  GiB a GPU, of {visible:.2f} that the driver leaves"
    for size, what, detail in rows:
        yield f"  {size / GIB:8.2f}  {what:12} {detail}"
    load = found.startup
    parts = [
        ("download", load.download_seconds),
        ("read", load.read_seconds),
        ("engine", load.engine_seconds),
        ("compile and capture", load.compile_seconds + load.capture_seconds),
    ]
    phases = " + ".join(f"{what} {seconds:.0f}" for what, seconds in parts if seconds)
    # What an init container or a Job downloads is there when the server starts.
    ahead = " without the download" if load.ahead and load.download_seconds else ""
    advice = f"startup.loadSeconds{ahead}: {load.advised_load_seconds}"
    yield f"  loads in about {load.load_seconds:.0f} s: {phases}; {advice}"
    host = found.host
    disk = f"; disk {host.disk_bytes / GIB:.1f} GiB" if host.disk_bytes else ""
    yield (
        f"  a pod needs /dev/shm {host.shm_bytes / GIB:.0f} GiB; memory {host.ram_bytes_minimum / GIB:.0f} GiB, "
        f"{host.ram_bytes_cached / GIB:.0f} GiB to keep the files cached{disk}"
    )
    for problem in found.problems:
        yield f"  {problem.severity}: {problem.path}: {problem.message}. Fix: {problem.fix}."
    for suggestion in found.suggestions:
        yield f"  try {suggestion}: {_sequences(suggestion.memory)}"
    for note in found.notes:
        yield f"  note: {note}"


def _sequences(now: Memory) -> str:
    count = now.concurrent_sequences
    number = f"{count:.1f}" if count < 10 else f"{count:.0f}"
    limit = f" (at most {now.max_sequences} run)" if count > now.max_sequences else ""
    return f"{number} sequences of {now.context_tokens} tokens at once{limit}"


def _cache(now: Memory) -> str:
    if now.kv_bytes_per_gpu <= 0:
        return "nothing is left"
    return f"{now.kv_capacity_tokens} tokens, {now.kv_bytes_per_token_per_gpu / 1024:.0f} KiB each"


def _billions(count: float) -> str:
    return f"{count / 1e9:.3g}B"
