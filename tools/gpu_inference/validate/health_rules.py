"""Rules about what watches a model: warm-up, canary, progress, monitors, alerts and dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gpu_inference.validate.schema_errors import Mistake

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Of a CronJob, 52, without "-canary". https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ (v1.36)
_LONGEST_NAME = 45
# Of Prometheus' durations, in milliseconds.
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def _warmup(model: Model) -> Iterator[Mistake]:
    request = model.spec["canary"].get("request") or model.runtime["canary"]
    if model.spec["warmup"]["enabled"] and request["method"] != "POST":
        message = f"the canary of {model.spec['runtime']} asks for no work of the model"
        fix = "set canary.request to a request that does"
        yield model.mistake("warmup-request", "warmup.enabled", message, fix)


def _expectation(model: Model) -> Iterator[Mistake]:
    expect = model.spec["canary"].get("request", {}).get("expect", {})
    if "min" in expect and "max" in expect and expect["min"] > expect["max"]:
        message = f"no answer can be {expect['min']} or more and {expect['max']} or less"
        yield model.mistake("canary-bounds", "canary.request.expect.max", message, "make max the larger one")


def _python(model: Model) -> Iterator[Mistake]:
    spec, runtime = model.spec, model.spec["runtime"]
    if model.runtime.get("python", True):
        return
    for path in ("warmup.enabled", "progress.readiness", "progress.liveness"):
        if model.at(path):
            message = f"the image of {runtime} has no Python to run it in"
            fix = f"set it to false, or runtimes.{runtime}.python with an image that has it"
            at = "warmup.enabled" if spec["warmup"]["enabled"] else "progress"
            yield model.mistake("no-python", at, message, fix)
            return


def _progress(model: Model) -> Iterator[Mistake]:
    progress, metrics, runtime = model.spec["progress"], model.runtime["metrics"], model.spec["runtime"]
    wanted = progress["readiness"] or progress["liveness"]
    if wanted and not (metrics.get("progress") and metrics["names"].get("running")):
        fix = f"set both to false, or runtimes.{runtime}.metrics.progress and names.running"
        yield model.mistake("progress-metrics", "progress", f"{runtime} has no metric that tells it", fix)


def _canary(model: Model) -> Iterator[Mistake]:
    """Without fullnameOverride the release's name counts, which the values do not tell."""
    fullname = f"{model.values['fullnameOverride']}-{model.name}"
    if model.spec["canary"]["enabled"] and model.values["fullnameOverride"] and len(fullname) > _LONGEST_NAME:
        message = f"{fullname} has {len(fullname)} characters, and at most {_LONGEST_NAME} fit into a CronJob's name"
        fix = "shorten the model's name or fullnameOverride"
        yield model.mistake("name-length", "canary.enabled", message, fix)


def _canary_of_none(model: Model) -> Iterator[Mistake]:
    scaling = model.spec["autoscaling"]
    keda = scaling["enabled"] and scaling["provider"] == "keda"
    if model.spec["canary"]["enabled"] and keda and (scaling["minReplicas"] == 0 or "idleReplicas" in scaling["keda"]):
        message = "its requests fail, or wake the model, while the autoscaler has it at 0 pods"
        fix = "set it to false, or autoscaling.minReplicas to 1 without keda.idleReplicas"
        yield model.mistake("scale-to-zero", "canary.enabled", message, fix)


def _monitors(model: Model) -> Iterator[Mistake]:
    monitoring = model.spec["monitoring"]
    if monitoring["dashboard"] and not monitoring["rules"]["enabled"]:
        message = "shows what monitoring.rules records, which is off"
        yield model.mistake("dashboard", "monitoring.dashboard", message, "set monitoring.rules.enabled to true")
    for kind in ("podMonitor", "serviceMonitor"):
        yield from _scrape(model, kind)
    if not monitoring["serviceMonitor"]["enabled"]:
        return
    if monitoring["podMonitor"]["enabled"]:
        message = "the PodMonitor scrapes the pods already, and twice would count double"
        path = "monitoring.serviceMonitor.enabled"
        yield model.mistake("scraped-twice", path, message, "set one of the two to false")
    other = f"{model.name}-metrics"
    if other in model.values["models"]:
        message = f"the Service of the metrics of {model.name} has this name"
        yield Mistake("name-taken", ("models", other), message, "rename one of the two")


def _scrape(model: Model, kind: str) -> Iterator[Mistake]:
    said = model.spec["monitoring"][kind]
    interval, timeout = said["interval"], said["scrapeTimeout"]
    if said["enabled"] and _milliseconds(timeout) > _milliseconds(interval):
        message = f"{timeout} is longer than interval, {interval}: the Prometheus operator ignores it"
        path = f"monitoring.{kind}.scrapeTimeout"
        yield model.mistake("scrape-timeout", path, message, f"set it to {interval} or less")


def _milliseconds(duration: str) -> int:
    number = duration.rstrip("msh")
    return int(number) * _UNITS[duration.removeprefix(number)]


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (
    _warmup,
    _expectation,
    _python,
    _progress,
    _canary,
    _canary_of_none,
    _monitors,
)
