"""Rules for the prometheus-adapter chart, so that a HorizontalPodAutoscaler can read what the runtimes export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from gpu_inference.values.presets import load_presets

_HEADER = """\
# Values for the prometheus-community/prometheus-adapter chart, so that autoscalers can read what the runtimes export.
# External metrics are sums over the pods of a model; custom ones are of a pod or a Service.
# Generated from chart/runtimes and chart/accelerators by `gpu-inference schema adapter-rules`.
"""
_OURS = 'namespace!="",gpu_inference_io_model!=""'
# As chart/templates/_lib/scaling.tpl has them: what is a plain series of the runtime.
_SERIES = ("waiting", "kvCacheUsage")

Rules = list[dict[str, Any]]


def rule(metric: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's `metrics.inFlight` as an external rule. Only series of the chart's own pods are discovered."""
    return _rule(metric["name"], metric["series"] + f"{{{_OURS}}}", metric["query"], namespace="namespace")


def series_rule(series: str) -> dict[str, Any]:
    """An external rule for a series, summed. A colon is legal in a series, not in the path of a metrics API."""
    name = series.replace(":", "_").removeprefix("_")
    return rule({"name": name, "series": series, "query": f"sum({series}{{<<.LabelMatchers>>}})"})


def external_rules() -> Rules:
    """Requests in flight of each runtime, then its queue and its use of the KV cache, each series once."""
    metrics = [preset["metrics"] for preset in load_presets("runtimes").values()]
    series = {found["names"][name]: None for found in metrics for name in _SERIES if name in found["names"]}
    return [rule(found["inFlight"]) for found in metrics if "inFlight" in found] + [series_rule(s) for s in series]


def custom_rules() -> Rules:
    """Metrics of Services, which a label of the chart's pods names; then the utilization of the GPUs of a pod.

    The GPU's exporter says which pod uses it, but `pod` is the exporter's own: Prometheus renames the other one.
    """
    metrics = [preset["metrics"] for preset in load_presets("runtimes").values()]
    gpus = {preset["utilization"]: None for preset in load_presets("accelerators").values() if "utilization" in preset}
    ratios = [
        _rule(
            metric["name"],
            metric["series"] + '{namespace!="",gpu_inference_io_service!=""}',
            metric["query"],
            namespace="namespace",
            gpu_inference_io_service="service",
        )
        for metric in (found["queueComputeRatio"] for found in metrics if "queueComputeRatio" in found)
    ]
    return ratios + [
        _rule(
            series,
            series + '{exported_namespace!="",exported_pod!=""}',
            f"avg({series}{{<<.LabelMatchers>>}}) by (<<.GroupBy>>)",
            exported_namespace="namespace",
            exported_pod="pod",
        )
        for series in gpus
    ]


def _rule(name: str, series: str, query: str, **labels: str) -> dict[str, Any]:
    """labels: label of the series -> resource it names."""
    return {
        "seriesQuery": series,
        "resources": {"overrides": {label: {"resource": resource} for label, resource in labels.items()}},
        "name": {"as": name},
        "metricsQuery": query,
    }


def render() -> str:
    """The text of ci/prometheus-adapter/values.yaml."""
    rules = {"external": external_rules(), "custom": custom_rules()}
    return _HEADER + yaml.safe_dump({"rules": rules}, sort_keys=False, width=1000)
