"""Rules across fields: the problems the chart's check templates refuse to render, found in the resolved values.

One function a rule set, as in chart/templates/_lib/check*.tpl; a test sends every case through Helm and through these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gpu_inference.errors import UserError
from gpu_inference.resolve import resolve_values
from gpu_inference.validate import (
    capacity_rules,
    cluster_api_rules,
    cluster_counts,
    cluster_rules,
    contract_rules,
    ending_rules,
    estimate_rules,
    gitops_rules,
    health_rules,
    job_rules,
    kubernetes_rules,
    operator_rules,
    probe_rules,
    production_rules,
    runtime_rules,
    scaling_rules,
    security_rules,
    sharing_rules,
    signal_rules,
    sizing_rules,
    storage_rules,
    traffic,
    workload_rules,
)
from gpu_inference.validate.context import NOTHING_KNOWN, Context
from gpu_inference.validate.schema_errors import Mistake, mistakes, nearest, show
from gpu_inference.validate.servers import below
from gpu_inference.values.presets import KINDS, Kind, load_presets
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.estimate.spec import Estimate

# Where a model names a preset.
_NAMES: Mapping[Path, Kind] = {("runtime",): "runtimes", ("accelerator", "type"): "accelerators"}
# Names and paths of the volumes the chart itself mounts.
_CHART_MOUNTS = {
    "/dev/shm": "shm",
    "/cache": "cache",
    "/models": "model",
    "/etc/gpu-inference": "files",
    "/opt/gpu-inference": "gpu-inference-scripts",
    "/downloader": "downloader",
}
_GPU_VARIABLES = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_REPLACED_LISTS = {"args": "extraArgs", "env": "env", "ports": "runtimes.<name>.ports", "volumeMounts": "volumes"}
# What Services, PodDisruptionBudgets and Deployments select by.
_SELECTOR_LABELS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "gpu-inference.io/model",
)
_MIB = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}


@dataclass(frozen=True, eq=False)
class Model:
    """What a rule looks at: a model's resolved spec, its presets, the values they came from, and what is known
    beside them."""

    name: str
    spec: Mapping[str, Any]
    cloud: Mapping[str, Any]
    values: Mapping[str, Any]
    context: Context = NOTHING_KNOWN

    @property
    def runtime(self) -> Mapping[str, Any]:
        return self.spec["runtimePreset"]

    @cached_property
    def estimate(self) -> Estimate | None:
        """Of its memory and load time; None where too little is known of the model, its runtime or its GPU."""
        own = self.context.architectures
        if own is None:
            return None
        from gpu_inference.estimate.spec import estimate_for

        try:
            return estimate_for(self.spec, own.get(self.name), self._accelerators)
        except UserError:
            return None

    def _accelerators(self) -> Mapping[str, Mapping[str, Any]]:
        """Presets whose nodes the cloud marks."""
        labels = self.cloud["productLabels"]
        return {
            name: preset
            for name, preset in load_presets("accelerators", self.values).items()
            if labels.get(preset.get("resource")) in preset.get("nodeLabels", {})
        }

    def at(self, path: str) -> Any:
        """What lies at a dotted path of the spec; None where nothing does."""
        return _lookup(self.spec, path.split("."))

    def mistake(self, rule: str, path: str, message: str, fix: str) -> Mistake:
        """A mistake at a dotted path of the model."""
        return Mistake(rule, ("models", self.name, *path.split(".")) if path else ("models", self.name), message, fix)


def broken_rules(values: Mapping[str, Any], context: Context = NOTHING_KNOWN) -> Iterator[Mistake]:
    """Mistakes in merged values that satisfy the schema."""
    presets = list(_presets(values))
    yield from presets
    if presets:
        return
    release = resolve_values(values)
    cloud = release["cloudPreset"]
    models = [Model(name, spec, cloud, values, context) for name, spec in release["models"].items()]
    for model in models:
        for rule in _RULES:
            yield from rule(model)
    yield from traffic.routes(models)
    yield from storage_rules.names(models)
    yield from job_rules.release(values, models)
    yield from security_rules.release(values)
    yield from gitops_rules.release(values)
    yield from kubernetes_rules.release(context)
    yield from cluster_counts.release(models)
    yield from cluster_api_rules.release(values, context)


def _presets(values: Mapping[str, Any]) -> Iterator[Mistake]:
    presets = {kind: load_presets(kind, values) for kind in KINDS}
    for kind, name, path in _named(values):
        known = presets[kind]
        yield from _unknown(kind, name, known, path)
        if name in values[kind] and name in known:  # the chart's own are whole
            for mistake in mistakes(known[name], f"{kind.removesuffix('s')}Whole"):
                yield replace(mistake, rule="incomplete-preset", path=(kind, name, *mistake.path))


def unknown_names(values: Mapping[str, Any]) -> Iterator[Mistake]:
    """Presets that are named but do not exist, in merged values whose types need not be right."""
    presets = {kind: load_presets(kind) for kind in KINDS}
    for kind, name, path in _named(values):
        own = values.get(kind)
        if isinstance(name, str) and name:
            yield from _unknown(kind, name, {*presets[kind], *(own if isinstance(own, Mapping) else ())}, path)


def _named(values: Mapping[str, Any]) -> Iterator[tuple[Kind, Any, Path]]:
    """(kind, name, path) of every preset that the values refer to."""
    yield "clouds", values.get("cloud"), ("cloud",)
    models = values.get("models")
    for name, own in models.items() if isinstance(models, Mapping) else ():
        for keys, kind in _NAMES.items():
            for layer in (own, values.get("modelDefaults")):
                found = _lookup(layer, keys)
                if found is not None:
                    yield kind, found, ("models", name, *keys)
                    break


def _lookup(value: Any, keys: Sequence[str | int]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _unknown(kind: Kind, name: str, known: Collection[str], path: Path) -> Iterator[Mistake]:
    if name in known:
        return
    what = kind.removesuffix("s")
    message = f"{show(name)} is not a known {what}" if name else f"no {what} is set"
    likely = nearest(name, known)
    fix = f"use one of {', '.join(sorted(known))}, or define it under {kind}"
    fix = f"write {likely}; or {fix}" if likely else fix
    yield Mistake(f"unknown-{what}", path, message, fix)


def _name(model: Model) -> Iterator[Mistake]:
    """Without fullnameOverride the release's name counts, which the values do not tell."""
    fullname = f"{model.values['fullnameOverride']}-{model.name}"
    most = workload_rules.LONGEST_NAME[model.spec["workload"]]
    if model.values["fullnameOverride"] and len(fullname) > most:
        message = f"{fullname} has {len(fullname)} characters, and at most {most} fit into object names"
        yield model.mistake("name-length", "", message, "shorten the model's name or fullnameOverride")


def _image(model: Model) -> Iterator[Mistake]:
    image = model.spec["image"]
    needed = ["repository"] if image.get("digest") else ["repository", "tag"]
    for key in needed:
        if not image.get(key):
            runtime = model.spec["runtime"]
            yield model.mistake(
                "image", f"image.{key}", f"no {key} is set", f"set it, or runtimes.{runtime}.defaults.image.{key}"
            )


def _nodes(model: Model) -> Iterator[Mistake]:
    cloud, capacity, accelerator = model.values["cloud"], model.spec["capacity"], model.spec["acceleratorPreset"]
    label = model.cloud["productLabels"].get(accelerator["resource"])
    known = label in accelerator["nodeLabels"] or model.spec["accelerator"]["dra"]
    if not (known or sharing_rules.selects(model)):
        message = f"on {cloud} nothing is known that marks nodes with {model.spec['accelerator']['type']}"
        fix = "select them yourself, for example {node.kubernetes.io/instance-type: …}"
        yield model.mistake("node-label", "nodeSelector", message, fix)
    for side in capacity_rules.sides(capacity):
        if side not in model.cloud:
            message = f"how {cloud} marks {side} nodes is not known"
            fix = f"set cloud to the one this is, or clouds.{cloud}.{side}"
            yield model.mistake("capacity", "capacity", message, fix)


def _tolerations(model: Model) -> Iterator[Mistake]:
    message = "has no key, so it covers every taint, also those that drain a node"
    for name, toleration in capacity_rules.tolerations(model).items():
        if not toleration.get("key"):
            yield model.mistake("toleration-key", f"tolerations.{name}", message, "name the taint's key")
    own = model.spec["pod"].get("tolerations", [])
    if any(not toleration.get("key") for toleration in own):
        fix = "use tolerations, and name the taint's key"
        yield model.mistake("toleration-key", "pod.tolerations", f"one {message}", fix)


def _network(model: Model) -> Iterator[Mistake]:
    port = model.spec["service"]["port"]
    for name, taken in model.runtime["ports"].items():
        if name != "http" and taken == port:
            message = f"{port} is the {name} port of {model.spec['runtime']} already"
            yield model.mistake("service-port", "service.port", message, "use another one")
    account = model.spec["serviceAccount"]
    if not (account["create"] or account.get("name")):
        fix = "name an existing account, or let the chart create one"
        yield model.mistake("service-account", "serviceAccount.name", "is not set, and create is false", fix)


def _arguments(model: Model) -> Iterator[Mistake]:
    """A flag given twice is taken once, and which one depends on the server."""
    flags = {
        argument["flag"]: argument.get("from", "") for argument in workload_rules.arguments(model) if "flag" in argument
    }
    for index, argument in enumerate(model.spec["extraArgs"]):
        flag = str(argument).partition("=")[0]
        if flag in flags:
            setting = flags[flag].replace("ports.", f"runtimes.{model.spec['runtime']}.ports.")
            fix = f"set {setting} instead" if setting else "remove it"
            path: Path = ("models", model.name, "extraArgs", index)
            yield Mistake("repeated-flag", path, f"{flag} is set by the chart already", fix)


def _startup(model: Model) -> Iterator[Mistake]:
    probe, load = model.spec["probes"]["startup"], model.spec["startup"]["loadSeconds"]
    budget = probe.get("failureThreshold", 0) * probe["periodSeconds"]
    if "failureThreshold" in probe and budget < load:
        message = f"allows {budget} s, and loading takes {load} s: the container would be restarted for ever"
        yield model.mistake("startup-budget", "probes.startup.failureThreshold", message, "remove it, or raise it")


def _labels(model: Model) -> Iterator[Mistake]:
    for label in _SELECTOR_LABELS:
        if label in model.spec["podLabels"]:
            path: Path = ("models", model.name, "podLabels", label)
            yield Mistake("selector-label", path, "is how the Service finds the pods", "use another label")


def _environment(model: Model) -> Iterator[Mistake]:
    for name in _GPU_VARIABLES:
        if name in model.spec["env"]:
            message = "would bypass the GPUs that Kubernetes allocates to the pod"
            yield model.mistake("gpu-variable", f"env.{name}", message, "remove it and set accelerator.count")


def _resources(model: Model) -> Iterator[Mistake]:
    cpu, memory = model.spec["resources"]["cpu"], model.spec["resources"]["memory"]
    for path, less in (
        ("resources.memory.limits", _mib(memory["limits"]) < _mib(memory["requests"])),
        ("resources.cpu.limits", cpu["limits"] < cpu["requests"]),
    ):
        if less:
            limit, request = model.at(path), model.at(path.replace("limits", "requests"))
            yield model.mistake("limits", path, f"{limit} is less than what is requested, {request}", "raise it")
    gpu = model.spec["acceleratorPreset"]["resource"]
    resources = below(model.spec["container"], "resources")
    for what in resources:
        if gpu in below(resources, what):
            place: Path = ("models", model.name, "container", "resources", what, gpu)
            yield Mistake("gpu-amount", place, "would contradict accelerator.count", "set accelerator.count instead")


def _volumes(model: Model) -> Iterator[Mistake]:
    """Neither name nor path of a volume may be taken; what is written in several layers must be whole in the end."""
    taken = _CHART_MOUNTS | ({"/engine": "engine"} if model.spec["engine"]["enabled"] else {})
    for kind, name, missing, at in _mounts(model.spec):
        for key in missing:
            yield model.mistake("incomplete-volume", f"{kind}.{name}", f"`{key}` is missing", f"add `{key}`")
        if name in taken.values():
            yield model.mistake("volume", f"{kind}.{name}", "another volume has this name", "use another one")
        elif at in taken:
            yield model.mistake("volume", f"{kind}.{name}", f"{at} is where {taken[at]} is mounted", "use another path")
        if at:
            taken[at] = name


def _mounts(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str], str | None]]:
    """(map, name, missing keys, path) of each directory and volume."""
    for name, directory in sorted(spec["writable"].items()):
        yield "writable", name, [key for key in ("path", "sizeLimit") if key not in directory], directory.get("path")
    for name, claim in sorted(spec["claims"].items()):
        if (name, claim["mountPath"]) != ("cache", "/cache"):  # it may stand in for the chart's own cache
            yield "claims", name, [], claim["mountPath"]
    for name, volume in sorted(spec["volumes"].items()):
        at = volume.get("mount", {}).get("mountPath")
        missing = [key for key in ("mount", "source") if not volume.get(key)]
        yield "volumes", name, missing or ([] if at else ["mount.mountPath"]), at


def _hatches(model: Model) -> Iterator[Mistake]:
    """`pod` and `container` replace lists: these would drop what the server needs."""
    pod, container = model.spec["pod"], model.spec["container"]
    if "containers" in pod:
        yield model.mistake("escape-hatch", "pod.containers", "would replace the server", "use container to change it")
    if "volumes" in pod:
        fix = "use volumes to add some"
        yield model.mistake("escape-hatch", "pod.volumes", "would replace the volumes the server needs", fix)
    for key, instead in _REPLACED_LISTS.items():
        if key in container:
            message = "would replace the list the server needs"
            yield model.mistake("escape-hatch", f"container.{key}", message, f"use {instead}")


_RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (
    *runtime_rules.RULES,
    *sharing_rules.RULES,
    _name,
    *storage_rules.RULES,
    _image,
    _nodes,
    _tolerations,
    *scaling_rules.RULES,
    *operator_rules.RULES,
    _network,
    _startup,
    *traffic.RULES,
    _arguments,
    _labels,
    _environment,
    _resources,
    _volumes,
    _hatches,
    workload_rules.group,
    workload_rules.neighbours,
    workload_rules.rollout,
    workload_rules.claims,
    workload_rules.restarts,
    *job_rules.RULES,
    *health_rules.RULES,
    *capacity_rules.RULES,
    *probe_rules.RULES,
    *ending_rules.RULES,
    *contract_rules.RULES,
    *signal_rules.RULES,
    *sizing_rules.RULES,
    *estimate_rules.RULES,
    *security_rules.RULES,
    *production_rules.RULES,
    *kubernetes_rules.RULES,
    *cluster_rules.RULES,
    *cluster_api_rules.RULES,
)


def _mib(size: str) -> float:
    return float(size[:-2]) * _MIB[size[-2:]]
