"""Rules for the prometheus-adapter chart, so that a HorizontalPodAutoscaler can read each runtime's requests in
flight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from gpu_inference.values.presets import load_presets

# With `capacity: mixed` the autoscaler owns the pods above a base, and says with a selector that excludes no series how
# many requests the base bears (LabelValuesByName: prometheus-adapter, pkg/naming/metrics_query.go, commit 0536a5d).
# Never below 0: the autoscaler (Kubernetes 1.36) reads a negative value as a huge one, and adds all the pods it may.
_BASE = 'index .LabelValuesByName "gpu_inference_io_base_requests"'
_HEADER = """\
# Values for the prometheus-community/prometheus-adapter chart: one external metric for each runtime that exports
# its requests in flight. Generated from chart/runtimes by `gpu-inference schema adapter-rules`.
"""


def rule(in_flight: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's `metrics.inFlight` as an external rule. Only series of the chart's own pods are discovered."""
    return {
        "seriesQuery": in_flight["series"] + '{namespace!="",gpu_inference_io_model!=""}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
        "name": {"as": in_flight["name"]},
        "metricsQuery": f"<<with {_BASE}>>clamp_min(<<end>>{in_flight['query']}<<with {_BASE}>> - <<.>>, 0)<<end>>",
    }


def render() -> str:
    """The text of ci/prometheus-adapter/values.yaml."""
    metrics = (preset.get("metrics", {}) for preset in load_presets("runtimes").values())
    rules = [rule(metric["inFlight"]) for metric in metrics if "inFlight" in metric]
    return _HEADER + yaml.safe_dump({"rules": {"external": rules}}, sort_keys=False, width=1000)
