"""Rules about autoscaling, as chart/templates/_lib/check-scaling.tpl has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gpu_inference.validate.runtime_rules import numbers
from gpu_inference.validate.schema_errors import Mistake, show
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Targets that Kubernetes measures itself; that are a series of the runtime, target -> its meaning in `metrics.names`;
# and that are a metric of its own.
_RESOURCES = ("cpuUtilization", "memoryUtilization")
_SERIES = {"requestsWaiting": "waiting", "kvCacheUsage": "kvCacheUsage"}
_METRICS = {"requestsInFlight": "inFlight", "queueComputeRatio": "queueComputeRatio"}
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def scaling(model: Model) -> Iterator[Mistake]:
    """All of a model that has an autoscaler."""
    if model.spec["autoscaling"]["enabled"]:
        for rule in (_limits, _signals, _metrics, _sidecars):
            yield from rule(model)
        if model.spec["autoscaling"]["provider"] == "keda":
            yield from _keda(model)


def _limits(model: Model) -> Iterator[Mistake]:
    """From how many to how many pods, and by what."""
    scaling = model.spec["autoscaling"]
    keda = scaling["provider"] == "keda"
    if scaling["maxReplicas"] < scaling["minReplicas"]:
        message = f"{scaling['maxReplicas']} is less than minReplicas, {scaling['minReplicas']}"
        yield model.mistake("replicas", "autoscaling.maxReplicas", message, "raise maxReplicas or lower minReplicas")
    if scaling["minReplicas"] == 0 and not keda:
        message = "an autoscaler stops at 0 pods for ever, unless the cluster has the feature gate HPAScaleToZero"
        yield model.mistake(
            "scale-to-zero", "autoscaling.minReplicas", message, "set it to 1, or autoscaling.provider to keda"
        )
    if not (_wanted(model) or scaling["metrics"] or (keda and scaling["keda"]["triggers"])):
        yield model.mistake("scaling-signal", "autoscaling.target", "names nothing to scale by", "set requestsInFlight")


def _signals(model: Model) -> Iterator[Mistake]:
    """A metric that does not exist leaves the autoscaler blind."""
    ours = False
    for target in _wanted(model):
        if target in _RESOURCES:
            continue
        if not _known(model, target):
            yield _unknown(model, target)
        elif target == "gpuUtilization":
            if model.spec["autoscaling"]["provider"] == "keda":
                message = "its series do not say which model they are of, which KEDA would have to know"
                yield model.mistake(
                    "scaling-signal", f"autoscaling.target.{target}", message, "remove it, or set provider to hpa"
                )
        else:
            ours = True
            yield from _selector(model, model.runtime["metrics"].get(_METRICS.get(target, "")))
    if ours:
        yield from _since(model)


def _metrics(model: Model) -> Iterator[Mistake]:
    """Entries that the API server takes and the autoscaler cannot read."""
    scaling = model.spec["autoscaling"]
    if scaling["metrics"] and scaling["provider"] == "keda":
        yield model.mistake(
            "scaling-metric", "autoscaling.metrics", "a ScaledObject takes none", "write them as keda.triggers"
        )
    for index, metric in enumerate(scaling["metrics"]):
        at: Path = ("models", model.name, "autoscaling", "metrics", index)
        section = metric["type"][0].lower() + metric["type"][1:]
        if section not in metric:
            message = f"a metric of type {metric['type']} is described under {section}"
            yield Mistake("scaling-metric", at, message, "write it there")
        elif section.lower().endswith("resource") and metric[section].get("name") not in ("cpu", "memory"):
            message = f"the resource metrics API knows cpu and memory, not {show(metric[section].get('name'))}"
            yield Mistake("scaling-metric", (*at, section, "name"), message, "use target.gpuUtilization for GPUs")


def _sidecars(model: Model) -> Iterator[Mistake]:
    """A share of the requested CPU needs every container to request some."""
    scaling = model.spec["autoscaling"]
    if not scaling["target"].get("cpuUtilization"):
        return
    for index, container in enumerate(model.spec["pod"].get("initContainers", [])):
        if container.get("restartPolicy") == "Always" and not _cpu(container):
            message = f"{container['name']} requests no CPU, and so no share of what the pod requests can be computed"
            path: Path = ("models", model.name, "pod", "initContainers", index)
            yield Mistake("scaling-metric", path, message, "set its resources.requests.cpu")


def _keda(model: Model) -> Iterator[Mistake]:
    """What a ScaledObject needs, and what scaling to zero costs."""
    scaling = model.spec["autoscaling"]
    own = scaling["keda"]
    asked = [target for target in _wanted(model) if target not in _RESOURCES]
    if asked and "serverAddress" not in own:
        message = "is not set"
        yield model.mistake("keda", "autoscaling.keda.serverAddress", message, "set it to the URL of Prometheus")
    if not (asked or own["triggers"]):
        message = "the fallback needs a trigger that is not of CPU or memory"
        yield model.mistake("keda", "autoscaling.keda.triggers", message, "set target.requestsInFlight, or add one")
    if "idleReplicas" in own and scaling["minReplicas"] == 0:
        message, fix = "0 is not less than minReplicas, 0", "remove it, or raise minReplicas"
        yield model.mistake("keda", "autoscaling.keda.idleReplicas", message, fix)
    elif "idleReplicas" in own or scaling["minReplicas"] == 0:
        yield from _zero(model, own)


def _zero(model: Model, own: Mapping[str, Any]) -> Iterator[Mistake]:
    load, at = model.spec["startup"]["loadSeconds"], "autoscaling.keda"
    if not own["scaleToZero"]:
        message = "nothing holds the first requests while a model loads from 0 pods: they fail"
        fix = "set it to true where that is right, for batches and queues, or minReplicas to 1"
        yield model.mistake("scale-to-zero", f"{at}.scaleToZero", message, fix)
    if not own["triggers"]:
        message = "the model's own metrics go with its pods, so nothing would wake it"
        fix = "add one on what is in front of it, the queue of a gateway"
        yield model.mistake("scale-to-zero", f"{at}.triggers", message, fix)
    if own["cooldownPeriod"] <= load:
        message = f"{own['cooldownPeriod']} s is no longer than loading, {load} s: the model would come and go"
        yield model.mistake("scale-to-zero", f"{at}.cooldownPeriod", message, "raise it")


def _wanted(model: Model) -> list[str]:
    """Targets that are set; `false` is none."""
    return [target for target, value in model.spec["autoscaling"]["target"].items() if value is not False]


def _known(model: Model, target: str) -> bool:
    metrics = model.runtime["metrics"]
    if target == "gpuUtilization":
        return "utilization" in model.spec["acceleratorPreset"]
    if target in _SERIES:
        return _SERIES[target] in metrics["names"]
    return bool(metrics.get(_METRICS[target]))


def _unknown(model: Model, target: str) -> Mistake:
    runtime = model.spec["runtime"]
    if target == "requestsInFlight":
        message = f"{runtime} has no metric of requests in flight"
        fix = f"set it to false, or target.requestsInFlight, or define runtimes.{runtime}.metrics.inFlight"
        return model.mistake("scaling-signal", "autoscaling.enabled", message, fix)
    gpu = f"accelerators.{model.spec['accelerator']['type']}.utilization"
    fix = f"remove it, or define it in {gpu if target == 'gpuUtilization' else f'runtimes.{runtime}.metrics'}"
    return model.mistake("scaling-signal", f"autoscaling.target.{target}", "no series of it is known", fix)


def _since(model: Model) -> Iterator[Mistake]:
    said, own = model.runtime["metrics"].get("since"), model.spec.get("runtimeVersion")
    if said and own and numbers(own) < numbers(said):
        message = f"{model.spec['runtime']} {own} has no metric of requests in flight"
        yield model.mistake(
            "scaling-signal", "autoscaling.enabled", message, f"use {said} or newer, or set it to false"
        )


def _selector(model: Model, metric: Mapping[str, Any] | None) -> Iterator[Mistake]:
    for path in (metric or {}).get("selector", {}).values():
        value = str(model.at(path))
        if not _LABEL.fullmatch(value):
            message = f"{show(value)} selects the metric and so has to be a valid label value"
            yield model.mistake("label-value", path, message, 'use letters, digits, "-", "_" and ".", at most 63')


def _cpu(container: Mapping[str, Any]) -> Any:
    return container.get("resources", {}).get("requests", {}).get("cpu")


RULES = (scaling,)
