"""Values that ask for GPUs in a way no node can answer, and what the chart must say: the path, and words of the fix."""

from __future__ import annotations

from typing import Any

from .expected import over
from .matrix import minimal_model


def _m(gpu: str, accelerator: dict[str, Any], runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(minimal_model(runtime, gpu), {"accelerator": accelerator, **changes})}}


SLICE = {"sharing": "mig", "mig": {"profile": "1g.10gb"}}
TURNS = {"sharing": "timeSlicing", "shared": {"replicas": 4}, "memoryFraction": 0.2}

SHARING_PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "several slices": (
        _m("nvidia-h100", {**SLICE, "count": 2}, parallelism={"tensor": 2}),
        "models.m.accelerator.count: parts of GPUs cannot work together",
        "set it to 1, or sharing to none",
    ),
    "one slice for several ranks": (
        _m("nvidia-h100", SLICE, "triton", parallelism={"tensor": 2}),
        "models.m.parallelism: tensor x pipeline is more than 1, and a part of a GPU works alone",
        "set both to 1, or accelerator.sharing to none",
    ),
    "slices of a group": (
        _m("nvidia-h100", SLICE, workload="LeaderWorkerSet", parallelism={"pipeline": 2}),
        "models.m.parallelism: tensor x pipeline is more than 1",
        "set both to 1, or accelerator.sharing to none",
    ),
    "slices of a GPU that has none": (
        _m("nvidia-l4", SLICE),
        "models.m.accelerator.sharing: no slices of nvidia-l4 are known",
        "set it to timeSlicing or mps, or accelerators.nvidia-l4.mig.profiles",
    ),
    "slice of another GPU": (
        _m("nvidia-h200", SLICE),
        'models.m.accelerator.mig.profile: "1g.10gb" is no slice of nvidia-h200',
        "use one of 1g.18gb, 2g.35gb, 7g.141gb",
    ),
    "no profile": (
        _m("nvidia-h100", {"sharing": "mig"}),
        'models.m.accelerator.mig.profile: "" is no slice',
        "use one of 1g.10gb",
    ),
    "shared on a cloud that does not tell": (
        {"cloud": "karpenter", **_m("nvidia-l4", TURNS)},
        "models.m.nodeSelector: how karpenter marks nodes with nvidia-l4 and timeSlicing is not known",
        "select them yourself",
    ),
    "mixed slices of a cloud that has single ones": (
        {"cloud": "gke", **_m("nvidia-h100", SLICE)},
        "models.m.nodeSelector: how gke marks nodes with nvidia-h100 and migMixed is not known",
        "or use one of migSingle, mps, timeSlicing",
    ),
    "no number of pods": (
        _m("nvidia-l4", {"sharing": "mps", "memoryFraction": 0.3}),
        "models.m.accelerator.shared.replicas: is not set",
        "set it to the number of pods a GPU",
    ),
    "more memory than the share": (
        _m("nvidia-l4", {**TURNS, "memoryFraction": 0.3}),
        "models.m.accelerator.memoryFraction: 0.3 of the memory for each of 4 pods is more than there is",
        "set it to 0.25 or less",
    ),
    "memory without a bound": (
        _m("nvidia-l4", {"sharing": "timeSlicing", "shared": {"replicas": 3}}),
        "models.m.accelerator.memoryFraction: is not set, so each of 3 pods would take most of the memory",
        "set it to 0.33 or less",
    ),
    "weights larger than the slice": (
        _m("nvidia-h100", SLICE, model={"parametersBillion": 8.03, "weightsDtype": "bf16"}),
        "models.m.model.parametersBillion: the weights are 15317 MiB, and the part of the GPU has 9984 MiB",
        "use a larger part of it",
    ),
    "claim of what cannot be claimed": (
        _m("amd-mi300x", {"dra": True}),
        "models.m.accelerator.dra: how amd-mi300x is claimed is not known",
        "set it to false, or accelerators.amd-mi300x.dra",
    ),
    "claim of what the device plugin shares": (
        _m("nvidia-l4", {**TURNS, "dra": True}),
        "models.m.accelerator.dra: claims a GPU of its own, and timeSlicing is the device plugin's",
        "set it to false, or sharing to none or mig",
    ),
    "claim beside the device plugin": (
        _m("nvidia-l4", {"dra": True}, container={"resources": {"limits": {"nvidia.com/gpu": 1}}}),
        "models.m.container.resources.limits.nvidia.com/gpu: would contradict accelerator.count",
        "set accelerator.count instead",
    ),
    "image of another vendor": (
        _m("amd-mi300x", {}, "sglang", image={"repository": "lmsysorg/sglang"}),
        "models.m.image.repository: lmsysorg/sglang does not run on amd-mi300x",
        "set it to an image that does, or runtimes.sglang.images.amd.com",
    ),
    "more GPUs than a node has": (
        _m("nvidia-h100", {"count": 16}, parallelism={"tensor": 16}),
        "models.m.accelerator.count: no node has 16 nvidia-h100, but at most 8",
        "spread the model over the pods of a LeaderWorkerSet",
    ),
    "chips that no node has": (
        {
            "cloud": "gke",
            **_m("google-tpu-v6e", {"count": 2}, parallelism={"tensor": 2}, image={"repository": "own/tpu"}),
        },
        "models.m.accelerator.count: no node has just 2 google-tpu-v6e, as cloud.google.com/gke-tpu-topology tells",
        "use one of 1, 4, 8",
    ),
    "group of an old server": (
        _m("nvidia-l4", {}, workload="LeaderWorkerSet", parallelism={"pipeline": 2}, runtimeVersion="0.11.0"),
        "models.m.runtimeVersion: vllm 0.11.0 cannot be spread over the pods of a group yet",
        "use 0.12.0 or newer",
    ),
}
