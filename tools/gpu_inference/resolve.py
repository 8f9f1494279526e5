"""What each model becomes: the chart's precedence in Python, so that tools need no Helm to know it.

    cloud's scheduling < modelDefaults < runtime preset's defaults < accelerator preset's defaults < models.<name>

Mirrors the chart's templates/_lib; a test compares both on every values file through the chart's debug ConfigMap.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gpu_inference import sharing
from gpu_inference.errors import UserError
from gpu_inference.paths import CHART
from gpu_inference.values.loader import Document, load
from gpu_inference.values.merge import helm_values
from gpu_inference.values.presets import KINDS, copied, load_presets, overlay
from gpu_inference.values.tree import Tree

Spec = dict[str, Any]

# Schemes of model.source that somebody has to download.
DOWNLOADED = ("hf", "s3", "gs", "az")
# Maps of the user's own entries: `false` removes an inherited one.
_REMOVABLE = (
    "env",
    "tolerations",
    "nodeSelector",
    "absentNodeLabels",
    "volumes",
    "writable",
    "podLabels",
    "podAnnotations",
    "claims",
    "spread",
)


def resolve(layers: Sequence[Path] = ()) -> dict[str, Any]:
    """The release that `helm template CHART -f layer …` describes: {"cloud", "cloudPreset", "values", "models":
    {name: spec}}.

    UserError for a file that cannot be read, and for values that `gpu-inference validate` refuses, but for what it
    knows from estimates: Helm renders that.
    """
    # Imported here: the checks resolve values themselves, and not everyone who does needs the checks.
    from gpu_inference.validate.context import NOTHING_ESTIMATED
    from gpu_inference.validate.engine import Subject, check

    documents = [load(layer) for layer in layers]
    findings = check([Subject(documents)], context=NOTHING_ESTIMATED).errors
    if findings:
        first = findings[0]
        more = f"; {len(findings) - 1} more, see gpu-inference validate" if findings[1:] else ""
        message = f"{first.file}:{first.line}:{first.column}: {first.path}: {first.message}"
        raise UserError(message, fix=first.fix + more, exit_code=1)
    return resolve_values(merged([document.tree for document in documents]).plain())


def resolve_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same for values that are merged already, as Helm's `.Values` holds them."""
    runtimes, accelerators, clouds = (load_presets(kind, values) for kind in KINDS)
    cloud = values["cloud"]
    cloud_preset = _pick("cloud", cloud, clouds, "$.cloud")
    models = {}
    for name, own in values["models"].items():
        said = overlay(values["modelDefaults"], own)
        at = f"$.models.{name}"
        runtime = _pick("runtime", said["runtime"], runtimes, f"{at}.runtime")
        accelerator = _pick("accelerator", said["accelerator"]["type"], accelerators, f"{at}.accelerator.type")
        models[name] = _spec(name, values, runtime, accelerator, cloud_preset)
    return {"cloud": cloud, "cloudPreset": cloud_preset, "values": dict(values), "models": models}


def _spec(name: str, values: Mapping[str, Any], runtime: Spec, accelerator: Spec, cloud: Spec) -> Spec:
    own = values["models"][name]
    capacity = overlay(values["modelDefaults"], own)["capacity"]
    spec: Spec = {}
    for layer in (
        *_scheduling(cloud, capacity, accelerator),
        values["modelDefaults"],
        runtime.get("defaults", {}),
        {"image": runtime.get("images", {}).get(sharing.vendor(accelerator), {})},
        accelerator.get("defaults", {}),
        own,
    ):
        spec = overlay(spec, layer)
    sharing.derive(spec, accelerator, cloud)
    preset = values["accelerators"].get(spec["accelerator"]["type"], {})
    sharing.size(spec, accelerator, (own, preset.get("defaults", {})))
    for entries in (spec[key] for key in _REMOVABLE if key in spec):
        for removed in [key for key, value in entries.items() if value is False]:
            del entries[removed]
    if capacity == "spot" and spec["spot"]["fallback"]:
        _prefer(spec, cloud.get("spot", {}).get("nodeSelector", {}))
    _derive(spec, name, runtime)
    if spec["engine"]["enabled"] and "engine" in runtime:
        runtime = _with_engine(spec, runtime)
    return spec | {"runtimePreset": runtime, "acceleratorPreset": accelerator}


def _scheduling(cloud: Spec, capacity: str, accelerator: Spec) -> Iterator[Spec]:
    """Which nodes the cloud preset wants: of every model, of this capacity, and with this GPU."""
    yield {key: cloud[key] for key in ("nodeSelector", "tolerations") if key in cloud}
    # Of mixed capacity, this is the on-demand base.
    side = cloud.get("onDemand" if capacity == "mixed" else capacity, {})
    yield {key: side[key] for key in ("nodeSelector", "absentNodeLabels", "tolerations") if key in side}
    label = cloud["productLabels"].get(accelerator["resource"])
    if label in accelerator["nodeLabels"]:
        yield {"nodeSelector": {label: accelerator["nodeLabels"][label]}}


def _prefer(spec: Spec, labels: Mapping[str, str]) -> None:
    """Turns what selects spot nodes into a preference; what the values select themselves stays."""
    selector = spec["nodeSelector"]
    spec["preferredNodeLabels"] = {key: value for key, value in labels.items() if selector.get(key) == value}
    for key in spec["preferredNodeLabels"]:
        del selector[key]


def _derive(spec: Spec, name: str, runtime: Spec) -> None:
    """Adds what follows from the rest of a spec."""
    spec["name"] = name
    spec["ports"] = runtime["ports"]
    model, startup, drain = spec["model"], spec["startup"], spec["drain"]
    model["servedName"] = model.get("servedName") or name
    model |= place(spec, runtime)
    model["reference"] = model["path"] or model["repository"]
    probe = spec["probes"]["startup"]
    failures = probe.get("failureThreshold")
    # A leader's clock runs while its workers still wait for their nodes.
    waiting = startup["provisionSeconds"] if spec["workload"] == "LeaderWorkerSet" else 0
    budget = 2 * startup["loadSeconds"] + waiting
    startup["budgetSeconds"] = budget if failures is None else failures * probe["periodSeconds"]
    lifecycle, whole = runtime["lifecycle"], drain["preStopSeconds"] + drain["requestSeconds"]
    # A server that drops its work on SIGTERM gets it only when the longest request is over.
    drain["sleepSeconds"] = whole if lifecycle["sigterm"] == "abort" else drain["preStopSeconds"]
    drain["graceSeconds"] = whole + lifecycle["teardownSeconds"]


def scheme(source: str) -> str:
    """What comes before :// in a model.source."""
    return source.partition("://")[0]


def _with_engine(spec: Spec, runtime: Spec) -> Spec:
    """Adds what follows from the engine that is built first; returns the runtime as it serves one."""
    engine, preset, split = spec["engine"], runtime["engine"], spec["parallelism"]
    precision = preset["precisions"].get(engine["precision"], {})
    engine |= {key: value for key, value in precision.items() if key != "needs"}
    engine.setdefault("source", spec["model"]["source"])
    scheme, _, rest = engine["source"].partition("://")
    engine["sourcePath"] = f"/models/{rest.partition('/')[2]}".removesuffix("/") if scheme == "pvc" else ""
    engine["ranks"] = split["tensor"] * split["pipeline"]
    engine["sequenceLength"] = engine["maxInputLength"] + engine["maxOutputLength"]
    if preset.get("replacesModel"):
        spec["model"]["reference"] = "/engine"
    files = {key: preset[key] for key in ("files",) if key in preset}
    return {**runtime, "args": [*runtime["args"], *preset.get("args", [])], **files}


def served(spec: Mapping[str, Any], runtime: Mapping[str, Any]) -> str:
    """What the server's pod has: model.source, or beside an engine instead of the model what that is built from."""
    source: str = spec["model"]["source"]
    replaced = spec["engine"]["enabled"] and runtime.get("engine", {}).get("replacesModel")
    return spec["engine"].get("source", source) if replaced else source


def fetcher(spec: Mapping[str, Any], runtime: Mapping[str, Any]) -> str:
    """Who downloads the model: pod, job or server; empty when nobody has to."""
    kind = scheme(served(spec, runtime))
    if kind not in DOWNLOADED:
        return ""
    by = spec["storage"]["download"]["by"]
    model = spec["model"]
    # It does so itself where it loads no folder, or where it is to choose the file.
    chooses = "modelFile" in runtime and not model.get("file") and kind == "hf"
    return "server" if by == "pod" and (chooses or "pvc" not in runtime["modelSources"]) else by


def place(spec: Mapping[str, Any], runtime: Mapping[str, Any]) -> dict[str, str]:
    """Where the server finds the model: {path} in the container, or {repository, hubFile} on the hub; empty else."""
    model, download = spec["model"], spec["storage"]["download"]
    source, file, by = served(spec, runtime), model.get("file", ""), fetcher(spec, runtime)
    rest = source.partition("://")[2].removesuffix("/")
    path = ""
    if by and by != "server":
        patterns = [f"[{' '.join(download[key])}]" for key in ("allow", "ignore")]
        wanted = [*patterns, json.dumps(download["pickles"])]
        choice = "\n".join([source, model.get("revision", ""), file, *wanted])
        path = f"/cache/{hashlib.sha256(choice.encode()).hexdigest()[:12]}/{rest}"
    elif scheme(source) == "pvc":
        path = f"/models/{rest.partition('/')[2]}".removesuffix("/")
    elif scheme(source) in ("oci", "hostPath"):
        path = "/models"
    repository = rest if by == "server" else ""
    return {
        "path": f"{path}/{file}" if path and file else path,
        "repository": repository,
        "hubFile": file if repository else "",
    }


def _pick(what: str, name: str, known: Mapping[str, Spec], path: str) -> Spec:
    """A copy of a preset: what is resolved belongs to who asked."""
    if name not in known:
        raise UserError(f"{path}: unknown {what} {name!r}", fix=f"use one of {', '.join(sorted(known))}", exit_code=1)
    return copied(known[name])


@cache
def chart_defaults() -> Document:
    """chart/values.yaml with positions."""
    return load(CHART / "values.yaml")


def merged(layers: Sequence[Tree]) -> Tree:
    """The layers over the chart's defaults, as Helm checks them against the schema."""
    return helm_values(chart_defaults().tree, layers)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--values", type=Path, action="append", default=[], metavar="LAYER", help="a values file; later ones win"
    )
    parser.add_argument("model", nargs="?", help="only this model")


def run(args: argparse.Namespace) -> int:
    release = resolve(args.values)
    models = release["models"]
    if args.model and args.model not in models:
        raise UserError(f"no model {args.model!r}", fix=f"use one of {', '.join(models) or '(the values define none)'}")
    print(json.dumps(models[args.model] if args.model else release, indent=2))
    return 0
