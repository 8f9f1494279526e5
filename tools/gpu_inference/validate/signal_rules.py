"""Rules about what an autoscaler of the values' own making reads, and about how much of a model spot nodes may take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gpu_inference.validate.runtime_rules import numbers
from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.validate.servers import below
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model

# Targets that do not follow the load of a GPU: why.
_WEAK = {
    "cpuUtilization": "the CPU does not follow the load of a GPU",
    "memoryUtilization": "a server keeps the memory it has taken, so it never shrinks",
    "gpuUtilization": "a single request may keep a GPU at 100 %",
}
# The same in the exporter's own series.
_WEAK_SERIES = {
    "DCGM_FI_DEV_GPU_UTIL": _WEAK["gpuUtilization"],
    "DCGM_FI_DEV_FB_USED": "a server takes its GPU memory at start and keeps it",
    "DCGM_FI_DEV_FB_FREE": "a server takes its GPU memory at start and keeps it",
}
_LOAD = ("requestsInFlight", "requestsWaiting", "kvCacheUsage", "queueComputeRatio")
# Series that dashboards and scalers still ask for -> (first version without them, what to ask instead). vLLM: observed
# on 0.32.0, whose /metrics has none of them; https://docs.vllm.ai/en/stable/usage/metrics/.
_REMOVED = {
    "vllm:gpu_cache_usage_perc": ("0.32.0", "vllm:kv_cache_usage_perc"),
    "vllm:cpu_cache_usage_perc": ("0.32.0", "vllm:kv_cache_usage_perc"),
    "vllm:num_requests_swapped": ("0.32.0", "vllm:num_requests_waiting"),
    "vllm:time_per_output_token_seconds": ("0.32.0", "vllm:inter_token_latency_seconds"),
    "vllm:gpu_prefix_cache_hit_rate": ("0.32.0", "vllm:prefix_cache_hits_total by vllm:prefix_cache_queries_total"),
}
_MATCHERS = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
_RESOURCES = ("cpu", "memory")


def _triggers(model: Model) -> Iterator[tuple[int, Mapping[str, Any]]]:
    scaling = model.spec["autoscaling"]
    if scaling["enabled"] and scaling["provider"] == "keda":
        yield from enumerate(scaling["keda"]["triggers"])


def _queries(model: Model) -> Iterator[tuple[Path, str]]:
    """PromQL that the values bring."""
    for index, trigger in _triggers(model):
        query = below(trigger, "metadata").get("query")
        if query:
            yield ("models", model.name, "autoscaling", "keda", "triggers", index, "metadata", "query"), str(query)
    name, metrics = model.spec["runtime"], model.runtime["metrics"]
    for key, series in metrics["names"].items():
        yield ("runtimes", name, "metrics", "names", key), str(series)
    for key in ("inFlight", "queueComputeRatio"):
        if key in metrics:
            yield ("runtimes", name, "metrics", key, "query"), str(metrics[key].get("query", ""))


def _removed(model: Model) -> Iterator[Mistake]:
    own = model.spec.get("runtimeVersion")
    for path, query in _queries(model):
        for series, (since, instead) in _REMOVED.items():
            if own and re.search(rf"{series}(?![a-z])", query) and numbers(own) >= numbers(since):
                message = f"{model.spec['runtime']} {own} has no {series}, so nothing is read"
                yield Mistake("removed-series", path, message, f"ask {instead}")


def _labels(model: Model) -> Iterator[Mistake]:
    """A label the series do not have matches none of them."""
    right = model.runtime["metrics"].get("labels", {}).get("model")
    prefix = {name.partition(":")[0] + ":" for name in model.runtime["metrics"]["names"].values() if ":" in name[1:]}
    for path, query in _queries(model):
        for series, matchers in _MATCHERS.findall(query):
            used = re.findall(r"(?:^|,)\s*(model|model_name|served_model_name|model_id)\s*=", matchers)
            wrong = [label for label in used if label != right]
            if right and wrong and any(series.startswith(p) for p in prefix):
                message = f"{series} has no label {wrong[0]}: the model's name is in {right}"
                yield Mistake("series-label", path, message, f"write {right}")


def _wakes(model: Model) -> Iterator[Mistake]:
    """The model's own series go with its last pod."""
    scaling = model.spec["autoscaling"]
    if not (scaling["minReplicas"] == 0 or "idleReplicas" in scaling["keda"]):
        return
    own = set(model.runtime["metrics"]["names"].values())
    entries = list(_triggers(model))
    deaf = [index for index, trigger in entries if _deaf(trigger, own)]
    if entries and len(deaf) == len(entries):
        message = "asks the model itself, whose metrics go with its last pod: nothing would wake it"
        path = f"autoscaling.keda.triggers.{deaf[0]}"
        fix = "ask what is in front of it, the queue of a gateway"
        yield Mistake("wakes-itself", ("models", model.name, *path.split(".")[:-1], deaf[0]), message, fix)


def _deaf(trigger: Mapping[str, Any], own: set[str]) -> bool:
    query = str(below(trigger, "metadata").get("query", ""))
    return trigger["type"] in _RESOURCES or any(series in query for series in own)


def _nulls(model: Model) -> Iterator[Mistake]:
    """By KEDA's default no answer is 0."""
    scaling = model.spec["autoscaling"]
    if scaling["minReplicas"] == 0 or "idleReplicas" in scaling["keda"]:
        return
    for index, trigger in _triggers(model):
        if (
            trigger["type"] == "prometheus"
            and str(below(trigger, "metadata").get("ignoreNullValues", "true")).lower() == "true"
        ):
            path: Path = ("models", model.name, "autoscaling", "keda", "triggers", index)
            message = "takes no answer for 0, so a failed scrape would take pods away"
            yield Mistake("null-as-zero", path, message, 'set metadata.ignoreNullValues to "false"')


def _weak(model: Model) -> Iterator[Mistake]:
    scaling = model.spec["autoscaling"]
    if not scaling["enabled"] or "inFlight" not in model.runtime["metrics"]:
        return
    targets = [target for target, value in scaling["target"].items() if value is not False]
    alone = not (set(targets) & {*_LOAD} or scaling["metrics"] or list(_triggers(model)))
    for target in targets if alone else ():
        if target in _WEAK:
            message = f"is the signal, and {_WEAK[target]}"
            yield model.mistake("weak-signal", f"autoscaling.target.{target}", message, "set requestsInFlight instead")
            return
    for index, trigger in _triggers(model):
        for series, why in _WEAK_SERIES.items():
            if series in str(trigger["metadata"]):
                path: Path = ("models", model.name, "autoscaling", "keda", "triggers", index)
                yield Mistake("weak-signal", path, f"{series} is a signal, and {why}", "set target.requestsInFlight")


def _fixed(model: Model) -> Iterator[Mistake]:
    scaling = model.spec["autoscaling"]
    least, most = scaling["minReplicas"], scaling["maxReplicas"]
    if scaling["enabled"] and least == most and "idleReplicas" not in scaling["keda"]:
        message = f"{most} at least and at most: there is nothing to scale"
        fix = f"raise it, or set autoscaling.enabled to false and replicas to {most}"
        yield model.mistake("fixed-size", "autoscaling.maxReplicas", message, fix)


def _spot(model: Model) -> Iterator[Mistake]:
    """A cloud that needs its spot nodes takes many at once."""
    spec = model.spec
    outside = spec["ingress"]["enabled"] or spec["gateway"]["enabled"] or spec["service"]["type"] != "ClusterIP"
    if spec["capacity"] != "spot" or spec["spot"]["fallback"] or not outside:
        return
    least = spec["autoscaling"]["minReplicas"] if spec["autoscaling"]["enabled"] else spec["replicas"]
    if least == 1:
        message = "the only pod is on a spot node, and clients from outside wait until there is another one"
        yield model.mistake("all-spot", "capacity", message, "set it to mixed, or spot.fallback to true")


RULES: tuple[Callable[[Model], Iterator[Mistake]], ...] = (
    _removed,
    _labels,
    _wakes,
    _nulls,
    _weak,
    _fixed,
    _spot,
)
