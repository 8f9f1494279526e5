"""Rules about where a model comes from, as chart/templates/_lib/check-storage.tpl has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gpu_inference.resolve import fetcher, scheme, served
from gpu_inference.validate.schema_errors import Mistake, show
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Sources that end as a folder, which a runtime that takes claims can load.
_FOLDERS = ("s3", "gs", "az", "oci", "hostPath")
# What the chart uses itself, or only the tools that size a model.
_ALWAYS_USED = {"source", "servedName", "tokenSecret", "weightsDtype", "parametersBillion"}
_IN_FILES = re.compile(r"\{model[.]([a-zA-Z]+)\}")


def source(model: Model) -> Iterator[Mistake]:
    text, kinds = model.spec["model"]["source"], model.runtime["modelSources"]
    known = [f"{kind}://" for kind in kinds]
    if not text:
        fix = f"set it to where the model lies, {' or '.join(known)}…"
        yield model.mistake("model-source", "model.source", "no source is set", fix)
    elif not (scheme(text) in kinds or ("pvc" in kinds and scheme(text) in _FOLDERS)):
        message = f"{show(text)} cannot be loaded by {model.spec['runtime']}"
        known += [f"{kind}://" for kind in _FOLDERS] if "pvc" in kinds else []
        yield model.mistake("model-source", "model.source", message, f"use one of {', '.join(known)}")


def unused(model: Model) -> Iterator[Mistake]:
    """What a preset has no argument for would be dropped in silence."""
    runtime, said = model.spec["runtime"], model.spec["model"]
    takes = _taken(model.runtime)
    for key in model.values["models"][model.name].get("model", {}):
        if key == "revision" and scheme(said["source"]) != "hf":
            yield model.mistake("unused-value", "model.revision", "only hf:// has revisions", "remove it")
        elif not (
            key in takes
            or (key == "revision" and fetcher(model.spec, model.runtime) not in ("", "server"))
            or (key == "file" and (said["path"] or "hubFile" in takes))
        ):
            message = f"{runtime} has no argument for it, and would serve as if it were not there"
            fix = f"remove it, or define it in runtimes.{runtime}"
            yield model.mistake("unused-value", f"model.{key}", message, fix)


def _taken(runtime: Mapping[str, Any]) -> set[str]:
    """Keys of `model` that reach the server."""
    spread = runtime.get("multiNode", {"args": [], "workerArgs": []})
    entries: Iterable[Mapping[str, Any]] = [*runtime["args"], *runtime.get("env", {}).values()]
    paths = [entry.get("from", "") for entry in (*entries, *spread["args"], *spread["workerArgs"])]
    named = {path.removeprefix("model.") for path in paths if path.startswith("model.")}
    return _ALWAYS_USED | named | {key for text in runtime.get("files", {}).values() for key in _IN_FILES.findall(text)}


def place(model: Model) -> Iterator[Mistake]:
    """Sources that are downloaded, or come in a volume that is no claim."""
    said, by = model.spec["model"], fetcher(model.spec, model.runtime)
    kind = scheme(served(model.spec, model.runtime))
    runtime = model.spec["runtime"]
    if kind == "hostPath" and not model.spec["security"]["allowHostPath"]:
        message = "hostPath:// breaks Pod Security, and shows the node's files to the pod"
        fix = "use another source, or set security.allowHostPath to true"
        yield model.mistake("host-path", "model.source", message, fix)
    if not by and kind not in ("oci", "hostPath"):
        return
    if "modelFile" in model.runtime and not said.get("file") and by != "server":
        fix = f"name the {model.runtime['modelFile']} file"
        yield model.mistake("model-file", "model.file", f"is not set, and {runtime} takes one file", fix)
    at = "storage.download.by"
    if by == "server" and kind != "hf":
        message = f"{runtime} downloads nothing from {kind}:// itself"
        yield model.mistake("download", at, message, "set it to pod or job")
    elif by == "job" and "pvc" not in model.runtime["modelSources"]:
        yield model.mistake("download", at, f"{runtime} cannot load a folder", "set it to server")
    if by in ("pod", "job"):
        if "initContainers" in model.spec["pod"]:
            fix = "remove it, or set storage.download.by to server"
            yield model.mistake("escape-hatch", "pod.initContainers", "would replace the download", fix)
        yield from _shared(model, by)


def _shared(model: Model, by: str) -> Iterator[Mistake]:
    """What a Job fills must be one claim, which it writes to and the pods read from."""
    cache, at = model.spec["claims"].get("cache"), "storage.download.by"
    if "claim" in model.spec["storage"]["download"]:
        if cache:
            message = "claims.cache is made for the same"
            yield model.mistake("download", "storage.download.claim", message, "remove one of the two")
    elif by != "job":
        return
    elif model.spec["workload"] == "StatefulSet":
        message = "each pod of a StatefulSet has claims of its own, which no Job can fill"
        yield model.mistake("download", at, message, "set it to pod, or storage.download.claim")
    elif not cache:
        fix = "set claims.cache, at /cache with accessModes [ReadWriteMany], or storage.download.claim"
        yield model.mistake("download", at, "a Job needs a claim to download to", fix)
    elif "ReadWriteMany" not in cache["accessModes"]:
        message = "the Job writes while pods on other nodes read"
        yield model.mistake("download", "claims.cache.accessModes", message, "set it to [ReadWriteMany]")


def names(models: Iterable[Model]) -> Iterator[Mistake]:
    """Names made of two parts may meet, `a` and `b-c` with `a-b` and `c`."""
    taken: dict[tuple[str, str], str] = {}
    for model in sorted(models, key=lambda model: model.name):
        for kind, name in _names(model):
            if (kind, name) in taken:
                message = f"its {kind} {name} is also one of {taken[kind, name]}"
                path: Path = ("models", model.name)
                yield Mistake("name-taken", path, message, "rename one of the two models")
            else:
                taken[kind, name] = model.name


def _names(model: Model) -> Iterator[tuple[str, str]]:
    """(kind, name without the release's part) of objects that may meet another model's."""
    spec, name = model.spec, model.name
    if spec["workload"] != "StatefulSet":
        yield from (("PersistentVolumeClaim", f"{name}-{claim}") for claim in spec["claims"])
    if spec["ingress"]["enabled"]:
        yield "Ingress", name
        if "grpcHost" in spec["ingress"]:
            yield "Ingress", f"{name}-grpc"
    if spec["networkPolicy"]["enabled"]:
        yield "NetworkPolicy", name
        if fetcher(spec, model.runtime) == "job":
            yield "NetworkPolicy", f"{name}-download"


RULES = (source, unused, place)
