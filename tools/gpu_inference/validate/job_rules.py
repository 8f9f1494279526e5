"""Rules about Jobs beside the servers and about images, as chart/templates/_lib/check-jobs.tpl has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpu_inference.resolve import fetcher
from gpu_inference.validate.runtime_rules import numbers
from gpu_inference.validate.schema_errors import Mistake, show

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model


def _engine(model: Model) -> Iterator[Mistake]:
    """Whether the runtime builds such an engine."""
    engine, runtime, version = model.spec["engine"], model.spec["runtime"], model.spec.get("runtimeVersion")
    if not engine["enabled"]:
        return
    yield from _size(model)
    preset = model.runtime.get("engine")
    if not preset:
        fix = f"set it to false, or define runtimes.{runtime}.engine"
        yield model.mistake("engine-runtime", "engine.enabled", f"{runtime} has no engines to build", fix)
        return
    until = preset.get("until")
    if until and version and numbers(version) >= numbers(until):
        fix = f"set it to false, or use an older image and its runtimeVersion, below {until}"
        yield model.mistake("engine-runtime", "engine.enabled", f"{runtime} {version} serves no engines", fix)
    yield from _precision(model, preset["precisions"])
    steps = [step["name"] for step in preset["steps"]]
    for step in engine.get("extraArgs", {}):
        if step not in steps:
            path = f"engine.extraArgs.{step}"
            yield model.mistake("engine-step", path, f"{runtime} has no such step", f"use one of {', '.join(steps)}")
    if not engine["source"].startswith("pvc://"):
        message = f"{show(engine['source'])} is no claim, which the build reads the weights from"
        yield model.mistake("engine-source", "engine.source", message, "set it to pvc://claim/path")
    if "initContainers" in model.spec["pod"] and fetcher(model.spec, model.runtime) in ("", "server"):
        yield model.mistake("escape-hatch", "pod.initContainers", "would replace the wait for the engine", "remove it")


def _precision(model: Model, known: Mapping[str, Mapping[str, str]]) -> Iterator[Mistake]:
    precision = model.spec["engine"]["precision"]
    if precision not in known:
        message, fix = f"{model.spec['runtime']} builds no {precision}", f"use one of {', '.join(sorted(known))}"
        yield model.mistake("engine-precision", "engine.precision", message, fix)
        return
    needs = known[precision].get("needs")
    if needs and needs not in model.spec["acceleratorPreset"].get("tflops", {}):
        message = f"{model.spec['accelerator']['type']} does not compute in {needs}"
        yield model.mistake("engine-precision", "engine.precision", message, "use another precision or accelerator")


def _size(model: Model) -> Iterator[Mistake]:
    """The GPUs, the disk and the lengths must fit."""
    engine, split, count = model.spec["engine"], model.spec["parallelism"], model.spec["accelerator"]["count"]
    ranks = split["tensor"] * split["pipeline"]
    sharded = any(entry.get("from") == "parallelism.tensor" for entry in model.runtime["args"])
    if model.spec["workload"] not in ("Deployment", "StatefulSet"):
        message = f"the pods of a {model.spec['workload']} do not wait for one"
        yield model.mistake("engine-ranks", "engine.enabled", message, "set it to false, or workload to Deployment")
    elif ranks != count and not sharded:
        message = f"an engine of {ranks} ranks (tensor x pipeline) is for as many GPUs; accelerator.count is {count}"
        yield model.mistake("engine-ranks", "engine.enabled", message, "make them equal")
    if not {"name", "size"} & engine["claim"].keys():
        message = "says neither which claim engines are on nor how large one is to be made"
        yield model.mistake("engine-claim", "engine.claim", message, "set name, or size")
    elif "name" not in engine["claim"] and "engines" in model.spec["claims"]:
        message, fix = (
            "is called like the claim that engine.claim has made",
            "use another name, or set engine.claim.name",
        )
        yield model.mistake("engine-claim", "claims.engines", message, fix)
    most = {
        "contextLength": engine["maxInputLength"] + engine["maxOutputLength"],
        "maxConcurrentRequests": engine["maxBatchSize"],
    }
    for key, limit in most.items():
        wanted = model.spec["model"].get(key, 0)
        if wanted > limit:
            message = f"{wanted} is more than the engine is built for, {limit}"
            yield model.mistake("engine-limit", f"model.{key}", message, "raise the engine's limits, or lower it")


def _latest(model: Model) -> Iterator[Mistake]:
    """A tag that moves: what runs is not what was tested, and pods of one model differ."""
    yield from _moving(("models", model.name, "image", "tag"), model.spec["image"])
    test = model.spec["test"].get("image", "")
    if test and ("@" not in test) and (test.endswith(":latest") or ":" not in test.rpartition("/")[2]):
        path = ("models", model.name, "test", "image")
        yield Mistake("latest-tag", path, "moves", "name a version, or a digest")


def _moving(path: tuple[str, ...], image: Mapping[str, Any]) -> Iterator[Mistake]:
    if image.get("tag") == "latest" and not image.get("digest"):
        yield Mistake("latest-tag", path, "latest moves", "name a version, or set digest")


def release(values: Mapping[str, Any], models: Sequence[Model]) -> Iterator[Mistake]:
    """What is wrong with a release besides its models."""
    for name, image in values["images"].items():
        if not (image.get("repository") and (image.get("tag") or image.get("digest"))):
            fix = "set repository, and tag or digest"
            yield Mistake("image-whole", ("images", name), "is not whole", fix)
        yield from _moving(("images", name, "tag"), image)
    backup = values["backup"]
    if not backup["enabled"]:
        return
    path = ("backup", "enabled")
    if not backup["destination"]:
        fix = "set backup.destination, such as s3://bucket/path"
        yield Mistake("backup-destination", path, "no destination is set", fix)
    if not (backup["claims"] or any(_claims(models))):
        fix = "name what to copy in backup.claims, or set it to false"
        yield Mistake("backup-claims", path, "no model lies on a claim", fix)


def _claims(models: Sequence[Model]) -> Iterator[str]:
    for model in models:
        if model.spec["model"]["source"].startswith("pvc://"):
            yield model.spec["model"]["source"]
        if model.spec["engine"]["enabled"]:
            yield "engines"


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (_engine, _latest)
