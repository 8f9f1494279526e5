"""How long a server takes from the start of its container until it answers, and what it needs of its host.

    load  = download + read + ENGINE + (COMPILE + CAPTURE) * layers / 32       with empty caches
    least =            read + ENGINE_WARM + WARM * layers / 32                 with what an earlier start left

ENGINE, COMPILE and CAPTURE are one cold start of vLLM with Llama-3.1-8B (32 layers) on an L40S (tensorfuse.io, 2025-09:
engine and imports 94 s, Dynamo 10 s and compilation 42 s, graphs 54 s, 294 s in all); that compiling and capturing grow
with the layers is an assumption. With its caches kept (as a container that is restarted in its pod finds them) the same
start took 82 s: engine 34 s, the rest of the three 30 s. Other engines: taken to be like vLLM.

    quickest =         size / FASTEST + (ENGINE_WARM + WARM * layers / 32) / 2

No start is quicker than that: twice as fast as the one above, from storage faster than any measured. An assumption.

Memory of the container: vLLM's processes took 2.9 GB without a GPU (0.95 API server, 0.92 engine core, 1 worker);
WORKER is for a GPU's process with its CUDA libraries and staging buffers: an assumption. Files are read through the
page cache, which counts as the container's but gives way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from gpu_inference.serving.model import ModelShape

GIB = 2**30
ENGINE = 94.0  # s
COMPILE = 52.0
CAPTURE = 54.0
ENGINE_WARM = 34.0
WARM = 30.0
LAYERS = 32
FASTEST = 8e9  # bytes/s
SERVER = 2 * GIB
WORKER = 3 * GIB
STEP = 30  # s: advice is rounded up to it


@dataclass(frozen=True)
class Startup:
    """Seconds of each phase of a cold start, of a whole start that finds all caches, and of one that nothing beats.
    `ahead`: the download is over when the server's container starts."""

    source: str
    file_bytes: float
    download_seconds: float
    read_seconds: float
    engine_seconds: float
    compile_seconds: float
    capture_seconds: float
    least_seconds: float
    quickest_seconds: float
    ahead: bool = False

    @property
    def load_seconds(self) -> float:
        return (
            self.download_seconds
            + self.read_seconds
            + self.engine_seconds
            + self.compile_seconds
            + self.capture_seconds
        )

    @property
    def container_seconds(self) -> float:
        """From the start of the server's container, which is what startup.loadSeconds says."""
        return self.load_seconds - (self.download_seconds if self.ahead else 0.0)

    @property
    def advised_load_seconds(self) -> int:
        """What startup.loadSeconds should be at least; the startup probe allows twice as long."""
        return math.ceil(self.container_seconds / STEP) * STEP


@dataclass(frozen=True)
class Host:
    """What a pod needs of its node. `ram_bytes_cached`: with room to keep the files in memory for the next start;
    `ram_bytes_certain`: what it certainly takes, a lower bound of the minimum; `disk_bytes`: for files that are
    downloaded."""

    shm_bytes: float
    ram_bytes_certain: float
    ram_bytes_minimum: float
    ram_bytes_cached: float
    disk_bytes: float


@cache
def rates() -> dict[str, dict[str, float]]:
    """GB/s by kind of source: {"hf": {"download", "read"}, …}."""
    text = Path(__file__).with_name("storage.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, float]] = yaml.safe_load(text)
    return found


def kind_of(source: str) -> str:
    """hf, pvc, image …: the scheme of a model's source; hf for one that is not known."""
    kind = source.partition("://")[0]
    return kind if kind in rates() else "hf"


def startup(
    shape: ModelShape, source: str, pipeline: int = 1, gigabytes_per_second: float = 0.0, ahead: bool = False
) -> Startup:
    """gigabytes_per_second: of the storage, for both the download and the read; 0: what storage.yaml says; ahead: see
    Startup."""
    kind = kind_of(source)
    known: Mapping[str, float] = rates()[kind]
    layers = math.ceil(shape.layers / pipeline) / LAYERS
    size = shape.weight_bytes

    def seconds(phase: str) -> float:
        return size / ((gigabytes_per_second or known[phase]) * 1e9) if phase in known else 0.0

    read = seconds("read")
    warm = ENGINE_WARM + WARM * layers
    quickest = size / max(FASTEST, gigabytes_per_second * 1e9) + warm / 2
    phases = (seconds("download"), read, ENGINE, COMPILE * layers, CAPTURE * layers)
    return Startup(kind, size, *phases, read + warm, quickest, ahead)


def host(shape: ModelShape, source: str, gpus: int, cache_mib: float = 0.0) -> Host:
    """gpus: of a pod; cache_mib: what the engine keeps in the host's memory besides. shm_bytes is a part of
    both minima."""
    shm = (2 if gpus > 1 else 1) * GIB  # vLLM's Kubernetes guide: 2 GiB for tensor parallelism
    cache = shm + cache_mib * 2**20
    least = SERVER + gpus * WORKER + cache
    downloads = "download" in rates()[kind_of(source)]
    certain = SERVER + gpus * GIB + cache
    return Host(shm, certain, least, least + shape.weight_bytes, shape.weight_bytes if downloads else 0.0)
