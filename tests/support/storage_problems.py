"""Values whose model cannot be had the way they say, and what the chart must say: the path, and words of the fix."""

from __future__ import annotations

from typing import Any

from .expected import over
from .matrix import minimal_model

MANY = {"mountPath": "/cache", "size": "100Gi", "accessModes": ["ReadWriteMany"]}
JOB = {"download": {"by": "job"}}


def _m(runtime: str = "vllm", source: str = "hf://o/n", **changes: Any) -> dict[str, Any]:
    model = over(minimal_model(runtime, "nvidia-l4"), {"model": {"source": source}})
    return {"models": {"m": over(model, changes)}}


STORAGE_PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "folder of a runtime that loads none": (
        _m("bentoml", "hf://a/b"),
        'models.m.model.source: "hf://a/b" cannot be loaded by bentoml',
        "use one of image://, pvc://, s3://",
    ),
    "quantization without an argument": (
        _m("llama-cpp", "pvc://c/x.gguf", model={"quantization": "fp8"}),
        "models.m.model.quantization: llama-cpp has no argument for it",
        "remove it, or define it in runtimes.llama-cpp",
    ),
    "revision of a claim": (
        _m(source="pvc://c/x", model={"revision": "main"}),
        "models.m.model.revision: only hf:// has revisions",
        "remove it",
    ),
    "file that nothing takes": (
        _m("custom", "image://", model={"file": "x.onnx"}),
        "models.m.model.file: custom has no argument for it",
        "remove it",
    ),
    "revision that the server cannot be told": (
        _m("llama-cpp", model={"revision": "main"}, storage={"download": {"by": "server"}}),
        "models.m.model.revision: llama-cpp has no argument for it",
        "remove it, or define it",
    ),
    "no file": (
        _m("llama-cpp", storage=JOB, claims={"cache": MANY}),
        "models.m.model.file: is not set, and llama-cpp takes one",
        "name the .gguf file",
    ),
    "path of a node": (
        _m(source="hostPath:///models/x"),
        "models.m.model.source: hostPath:// breaks Pod Security",
        "set security.allowHostPath to true",
    ),
    "bucket for the server": (
        _m("triton", "s3://bucket/x", storage={"download": {"by": "server"}}),
        "models.m.storage.download.by: triton downloads nothing from s3:// itself",
        "set it to pod or job",
    ),
    "Job for a runtime that loads no folder": (
        {
            "runtimes": {"vllm": {"modelSources": ["hf"]}},
            **_m(storage=JOB, claims={"cache": MANY}),
        },
        "models.m.storage.download.by: vllm cannot load a folder",
        "set it to server",
    ),
    "Job without a claim": (
        _m(storage=JOB),
        "models.m.storage.download.by: a Job needs a claim",
        "or storage.download.claim",
    ),
    "Job and claims of each pod": (
        _m(storage=JOB, workload="StatefulSet", rollout={"spareGPU": False}, claims={"cache": MANY}),
        "models.m.storage.download.by: each pod of a StatefulSet has claims of its own",
        "set it to pod, or storage.download.claim",
    ),
    "Job and a claim of one node": (
        _m(
            storage=JOB,
            rollout={"spareGPU": False, "strategy": "Recreate"},
            claims={"cache": {**MANY, "accessModes": ["ReadWriteOnce"]}},
        ),
        "models.m.claims.cache.accessModes: the Job writes while pods",
        "set it to [ReadWriteMany]",
    ),
    "two claims for one download": (
        _m(storage={"download": {"claim": "models"}}, claims={"cache": MANY}),
        "models.m.storage.download.claim: claims.cache is made for the same",
        "remove one of the two",
    ),
    "init containers beside the download": (
        _m(pod={"initContainers": []}),
        "models.m.pod.initContainers: would replace the download",
        "set storage.download.by to server",
    ),
    "claims of two models with one name": (
        {
            "models": {
                "a": _m(claims={"b-c": {**MANY, "mountPath": "/x"}})["models"]["m"],
                "a-b": _m(claims={"c": {**MANY, "mountPath": "/x"}})["models"]["m"],
            }
        },
        "models.a-b: its PersistentVolumeClaim a-b-c is also one of a",
        "rename one of the two models",
    ),
    "Ingress for gRPC and of a model of its name": (
        {
            "models": {
                "a": _m(
                    "triton",
                    "pvc://c/x",
                    ingress={"enabled": True, "host": "a.example.com", "grpcHost": "g.example.com", "tlsSecret": "t"},
                )["models"]["m"],
                "a-grpc": _m(ingress={"enabled": True, "host": "b.example.com"})["models"]["m"],
            }
        },
        "models.a-grpc: its Ingress a-grpc is also one of a",
        "rename one of the two models",
    ),
}
