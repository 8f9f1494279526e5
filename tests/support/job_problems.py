"""Values whose engine, backup or images cannot work, and what the chart must say: the path, and words of the fix."""

from __future__ import annotations

from typing import Any

from gpu_inference.paths import CHART

from .expected import over
from .matrix import minimal_model
from .render import load_yaml

# A preset of the user's own that builds engines of one precision.
OWN = {
    **load_yaml(CHART / "runtimes/trtllm.yaml"),
    "engine": {
        "precisions": {"fp16": {"dtype": "half"}},
        "steps": [{"name": "make", "command": ["make-it"], "args": [{"flag": "--dtype", "from": "engine.dtype"}]}],
    },
}


def engine(
    runtime: str = "trtllm",
    accelerator: dict[str, Any] | None = None,
    claim: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Values with one model m, whose engine is built."""
    old = {
        "runtimeVersion": "1.2.1",
        "image": {"tag": "1.2.1"},
        "model": {"source": "pvc://checkpoints/llama"},
        "accelerator": accelerator or {},
        "engine": {"enabled": True, "claim": {"name": "engines"} if claim is None else claim},
    }
    return {"models": {"m": over(over(minimal_model(runtime, "nvidia-a100-80gb"), old), changes)}}


def triton(**changes: Any) -> dict[str, Any]:
    return engine("triton", **{"runtimeVersion": "2.64.0", "image": {"tag": "25.12-trtllm-python-py3"}, **changes})


JOB_PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "engine of a runtime without": (
        engine("vllm", runtimeVersion="0.33.0"),
        "models.m.engine.enabled: vllm has no engines to build",
        "set it to false, or define runtimes.vllm.engine",
    ),
    "engine of a version without": (
        engine(runtimeVersion="1.3.0", image={"tag": "1.3.0"}),
        "models.m.engine.enabled: trtllm 1.3.0 serves no engines",
        "below 1.3.0",
    ),
    "precision of a newer GPU": (
        engine(engine={"precision": "fp8"}),
        "models.m.engine.precision: nvidia-a100-80gb does not compute in fp8",
        "use another precision or accelerator",
    ),
    "precision of a newer GPU yet": (
        engine(accelerator={"type": "nvidia-t4"}, engine={"precision": "bf16"}),
        "models.m.engine.precision: nvidia-t4 does not compute in bf16",
        "use another precision",
    ),
    "precision the runtime does not build": (
        {"runtimes": {"own": OWN}, **engine("own", engine={"precision": "int8"})},
        "models.m.engine.precision: own builds no int8",
        "use one of fp16",
    ),
    "step that there is not": (
        engine(engine={"extraArgs": {"compile": ["--fast"]}}),
        "models.m.engine.extraArgs.compile: trtllm has no such step",
        "use one of convert, build",
    ),
    "weights that are on no claim": (
        engine(model={"source": "hf://o/n"}),
        'models.m.engine.source: "hf://o/n" is no claim',
        "set it to pvc://claim/path",
    ),
    "more ranks than GPUs": (
        triton(parallelism={"tensor": 2}),
        "models.m.engine.enabled: an engine of 2 ranks (tensor x pipeline) is for as many GPUs; accelerator.count is 1",
        "make them equal",
    ),
    "more ranks than the server's GPUs": (
        engine(parallelism={"tensor": 2, "pipeline": 2}, accelerator={"count": 2}),
        "models.m.parallelism: tensor 2 x pipeline 2 = 4, but accelerator.count is 2",
        "make the product equal",
    ),
    "engine of a group": (
        {
            "runtimes": {"trtllm": {"multiNode": {"args": [], "workerArgs": []}}},
            **engine(workload="LeaderWorkerSet", parallelism={"pipeline": 2}),
        },
        "models.m.engine.enabled: the pods of a LeaderWorkerSet do not wait for one",
        "or workload to Deployment",
    ),
    "engine without a place": (
        engine(claim={}),
        "models.m.engine.claim: says neither",
        "set name, or size",
    ),
    "init containers instead of the wait": (
        engine(pod={"initContainers": []}),
        "models.m.pod.initContainers: would replace the wait for the engine",
        "remove it",
    ),
    "claim called like the engine's": (
        engine(
            claim={"size": "1Ti"},
            claims={"engines": {"mountPath": "/x", "size": "1Gi", "accessModes": ["ReadWriteMany"]}},
        ),
        "models.m.claims.engines: is called like the claim that engine.claim has made",
        "use another name",
    ),
    "context longer than the engine's": (
        engine(model={"contextLength": 641}),
        "models.m.model.contextLength: 641 is more than the engine is built for, 640",
        "raise the engine's limits",
    ),
    "batch larger than the engine's": (
        engine(model={"maxConcurrentRequests": 9}),
        "models.m.model.maxConcurrentRequests: 9 is more than the engine is built for, 8",
        "raise the engine's limits",
    ),
    "directory of the engine": (
        engine(writable={"x": {"path": "/engine", "sizeLimit": "1Gi"}}),
        "models.m.writable.x: /engine is where engine is mounted",
        "another path",
    ),
    "backup to nowhere": (
        {"backup": {"enabled": True, "claims": ["a"]}},
        "backup.enabled: no destination is set",
        "set backup.destination",
    ),
    "backup of nothing": (
        {"backup": {"enabled": True, "destination": "s3://b/c"}},
        "backup.enabled: no model lies on a claim",
        "name what to copy in backup.claims",
    ),
    "image without a version": (
        {"images": {"rclone": {"tag": None}}},
        "images.rclone: is not whole",
        "set repository, and tag or digest",
    ),
}
