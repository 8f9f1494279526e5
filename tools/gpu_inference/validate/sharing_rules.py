"""Rules about what a pod asks for: parts of GPUs, claims, GPUs of a node; as chart/templates/_lib/check-sharing.tpl."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpu_inference import sharing
from gpu_inference.validate.schema_errors import Mistake, show
from gpu_inference.values.presets import overlay

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model


def selects(model: Model) -> bool:
    """Whether any layer selects nodes beside the cloud's capacity and the GPU."""
    own = overlay(model.values["modelDefaults"], model.values["models"][model.name])
    presets = (model.runtime, model.spec["acceleratorPreset"])
    layers = (own, model.cloud, *(preset.get("defaults", {}) for preset in presets))
    return any(layer.get("nodeSelector") for layer in layers)


def image(model: Model) -> Iterator[Mistake]:
    """The preset's image runs on the GPUs that it says."""
    runtime, vendor = model.runtime, sharing.vendor(model.spec["acceleratorPreset"])
    repository = model.spec["image"].get("repository")
    own = runtime.get("defaults", {}).get("image", {}).get("repository")
    if vendor not in runtime.get("images", {vendor: {}}) and repository == own:
        name, gpu = model.spec["runtime"], model.spec["accelerator"]["type"]
        fix = f"set it to an image that does, or runtimes.{name}.images.{vendor} for all models"
        yield model.mistake("image-vendor", "image.repository", f"{repository} does not run on {gpu}", fix)


def count(model: Model) -> Iterator[Mistake]:
    """A pod's GPUs are of one node."""
    gpu, preset = model.spec["accelerator"], model.spec["acceleratorPreset"]
    most = preset.get("gpusPerNode", gpu["count"])
    if gpu["count"] > most:
        message = f"no node has {gpu['count']} {gpu['type']}, but at most {most}"
        fix = "lower it, and spread the model over the pods of a LeaderWorkerSet"
        yield model.mistake("gpus-of-a-node", "accelerator.count", message, fix)
    for label, values in preset.get("countLabels", {}).items():
        if str(gpu["count"]) not in values:
            message = f"no node has just {gpu['count']} {gpu['type']}, as {label} tells"
            fix = f"use one of {', '.join(sorted(values))}"
            yield model.mistake("gpus-of-a-node", "accelerator.count", message, fix)


def part(model: Model) -> Iterator[Mistake]:
    """A part of a GPU: one a pod, on nodes that are known, of a profile that exists."""
    gpu, preset = model.spec["accelerator"], model.spec["acceleratorPreset"]
    if gpu["sharing"] == "none":
        return
    if gpu["count"] > 1:
        message = "parts of GPUs cannot work together, they have no path from one to another"
        yield model.mistake("gpu-part", "accelerator.count", message, "set it to 1, or sharing to none")
    elif model.spec["parallelism"]["tensor"] * model.spec["parallelism"]["pipeline"] > 1:
        message = "tensor x pipeline is more than 1, and a part of a GPU works alone"
        yield model.mistake("gpu-part", "parallelism", message, "set both to 1, or accelerator.sharing to none")
    if not (gpu["dra"] or sharing.marks(gpu, preset, model.cloud) or selects(model)):
        known = model.cloud.get("sharing", {}).get(preset["resource"])
        message = f"how {model.values['cloud']} marks nodes with {gpu['type']} and {sharing.kind(gpu)} is not known"
        fix = f"select them yourself{', or use one of ' + ', '.join(sorted(known)) if known else ''}"
        yield model.mistake("node-label", "nodeSelector", message, fix)
    profiles = preset.get("mig", {}).get("profiles", {})
    if gpu["sharing"] == "mig" and not profiles:
        fix = f"set it to timeSlicing or mps, or accelerators.{gpu['type']}.mig.profiles"
        yield model.mistake("mig-profile", "accelerator.sharing", f"no slices of {gpu['type']} are known", fix)
    elif gpu["sharing"] == "mig" and gpu["mig"].get("profile") not in profiles:
        message = f"{show(gpu['mig'].get('profile', ''))} is no slice of {gpu['type']}"
        fix = f"use one of {', '.join(sorted(profiles))}"
        yield model.mistake("mig-profile", "accelerator.mig.profile", message, fix)


def memory(model: Model) -> Iterator[Mistake]:
    """Pods that share a GPU share its memory, and nothing but the server itself keeps it to its part."""
    gpu = model.spec["accelerator"]
    if gpu["sharing"] not in ("timeSlicing", "mps"):
        return
    pods = gpu["shared"].get("replicas")
    if not pods:
        fix = "set it to the number of pods a GPU, as the device plugin's configuration has it"
        yield model.mistake("memory-share", "accelerator.shared.replicas", "is not set", fix)
        return
    fix = f"set it to {math.floor(100 / pods) / 100:g} or less"
    entries = [*model.runtime["args"], *model.runtime.get("env", {}).values()]
    if "memoryFraction" in gpu and gpu["memoryFraction"] * pods > 1:
        message = f"{gpu['memoryFraction']:g} of the memory for each of {pods} pods is more than there is"
        yield model.mistake("memory-share", "accelerator.memoryFraction", message, fix)
    elif "memoryFraction" not in gpu and any(e.get("from") == "accelerator.memoryFraction" for e in entries):
        message = f"is not set, so each of {pods} pods would take most of the memory"
        yield model.mistake("memory-share", "accelerator.memoryFraction", message, fix)


def weights(model: Model) -> Iterator[Mistake]:
    """Weights that are larger than the part of the GPU never load."""
    preset = model.spec["acceleratorPreset"]
    bits, share = sharing.weight_bits(model.spec["model"]), sharing.share(model.spec["accelerator"], preset)
    if bits is None or share == 1 or "memory" not in preset:
        return
    needed, there = math.ceil(bits * 10**9 / 2**23), math.floor(preset["memory"]["visibleMiB"] * share)
    if needed > there:
        message = f"the weights are {needed} MiB, and the part of the GPU has {there} MiB"
        fix = "use a larger part of it, or weights of a smaller format"
        yield model.mistake("memory-share", "model.parametersBillion", message, fix)


def claim(model: Model) -> Iterator[Mistake]:
    """Without the Kubernetes version, which only Helm knows."""
    gpu = model.spec["accelerator"]
    known = model.spec["acceleratorPreset"].get("dra", {})
    needed = "migDeviceClass" if gpu["sharing"] == "mig" else "deviceClass"
    if gpu["dra"] and needed not in known:
        fix = f"set it to false, or accelerators.{gpu['type']}.dra"
        yield model.mistake("claim", "accelerator.dra", f"how {gpu['type']} is claimed is not known", fix)
    if gpu["dra"] and gpu["sharing"] in ("timeSlicing", "mps"):
        message = f"claims a GPU of its own, and {gpu['sharing']} is the device plugin's"
        yield model.mistake("claim", "accelerator.dra", message, "set it to false, or sharing to none or mig")


RULES = (image, count, part, memory, weights, claim)
