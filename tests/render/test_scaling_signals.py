"""What an autoscaler goes by, HorizontalPodAutoscaler or ScaledObject: the values' numbers, the presets' series."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.expected import over
from support.matrix import minimal_model, scenario
from support.objects import of_kind, one
from support.render import NAMESPACE, RELEASE, load_yaml, render

from gpu_inference.paths import ROOT

SCENARIO = scenario("autoscaling")
RULES = load_yaml(ROOT / "ci/prometheus-adapter/values.yaml")["rules"]
EXTERNAL = {rule["name"]["as"]: rule for rule in RULES["external"]}
CUSTOM = {rule["name"]["as"]: rule for rule in RULES["custom"]}


def resource(name: str, percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def external(name: str, model: str, average: str) -> dict[str, Any]:
    labels = {"app_kubernetes_io_instance": RELEASE, "gpu_inference_io_model": model}
    return {
        "type": "External",
        "external": {
            "metric": {"name": name, "selector": {"matchLabels": labels}},
            "target": {"type": "AverageValue", "averageValue": average},
        },
    }


def hpa(model: str) -> dict[str, Any]:
    return one(SCENARIO.objects, "HorizontalPodAutoscaler", model)["spec"]


def rendered(runtime: str = "vllm", major: int = 4, **scaling: Any) -> list[dict[str, Any]]:
    values = over(minimal_model(runtime, "nvidia-l4"), {"autoscaling": {"enabled": True, **scaling}})
    return render({"models": {"m": values}}, major=major)


def test_length_of_the_queue():
    spec = hpa("queue")
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    assert spec["metrics"] == [external("vllm_num_requests_waiting", "queue", "5")]


def test_several_metrics_at_once():
    average = {"type": "AverageValue", "averageValue": "80"}
    assert hpa("several")["metrics"] == [
        resource("cpu", 70),
        {"type": "Pods", "pods": {"metric": {"name": "DCGM_FI_DEV_GPU_UTIL"}, "target": average}},
        external("vllm_num_requests_waiting", "several", "5"),
    ]


def test_a_ratio_of_the_service():
    spec = hpa("ratio")
    service = one(SCENARIO.objects, "Service", "ratio")["metadata"]["name"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 10)
    assert spec["metrics"] == [
        resource("cpu", 70),
        {
            "type": "Object",
            "object": {
                "metric": {"name": "triton_queue_compute_ratio"},
                "describedObject": {"apiVersion": "v1", "kind": "Service", "name": service},
                "target": {"type": "AverageValue", "averageValue": "800m"},
            },
        },
    ]
    down, up = spec["behavior"]["scaleDown"], spec["behavior"]["scaleUp"]
    assert (down["stabilizationWindowSeconds"], up["stabilizationWindowSeconds"]) == (300, 60)
    assert down["policies"] == [{"type": "Percent", "value": 50, "periodSeconds": 60}]
    assert up["policies"] == [{"type": "Percent", "value": 100, "periodSeconds": 15}]
    # How the adapter finds the Service of a series: a label of the pods, which other models do not have.
    labels = {
        d["metadata"]["name"]: d["spec"]["template"]["metadata"]["labels"]
        for d in of_kind(SCENARIO.objects, "Deployment")
    }
    found = {name: label for name, own in labels.items() if (label := own.get("gpu-inference.io/service"))}
    assert found == {f"{RELEASE}-ratio": service}
    assert "gpu_inference_io_service" in CUSTOM["triton_queue_compute_ratio"]["resources"]["overrides"]


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor"])
def test_a_monitor_passes_the_service_on(kind, major):
    values = {
        "modelDefaults": {"monitoring": {kind[0].lower() + kind[1:]: {"enabled": True}}},
        "models": {"m": minimal_model("triton", "nvidia-l4")},
    }
    monitor = one(render(values, major=major), kind, "m")
    assert "gpu-inference.io/service" in monitor["spec"]["podTargetLabels"]


def test_every_metric_has_a_rule():
    """Nothing the chart asks the metrics APIs for is unknown to the adapter."""
    for model in ("queue", "several", "ratio"):
        for metric in hpa(model)["metrics"]:
            if metric["type"] == "External":
                assert metric["external"]["metric"]["name"] in EXTERNAL
            elif metric["type"] != "Resource":
                assert metric[metric["type"].lower()]["metric"]["name"] in CUSTOM


@pytest.mark.parametrize(
    ("runtime", "target", "name", "value"),
    [
        ("vllm", {"kvCacheUsage": 0.8}, "vllm_kv_cache_usage_perc", "800m"),
        ("sglang", {"kvCacheUsage": 0.75}, "sglang_token_usage", "750m"),
        ("llama-cpp", {"requestsWaiting": 3}, "llamacpp_requests_deferred", "3"),
        ("triton", {"requestsWaiting": 2000000}, "nv_inference_pending_request_count", "2000000"),
    ],
)
def test_a_series_of_the_runtime(runtime, target, name, value, major):
    objects = rendered(runtime, major, target={"requestsInFlight": False, **target})
    (metric,) = one(objects, "HorizontalPodAutoscaler", "m")["spec"]["metrics"]
    assert metric == external(name, "m", value)
    assert "sum(" in EXTERNAL[name]["metricsQuery"]


def test_the_order_does_not_depend_on_the_values(major):
    one_way = {
        "gpuUtilization": 80,
        "cpuUtilization": 70,
        "memoryUtilization": 80,
        "requestsWaiting": 5,
        "kvCacheUsage": 0.8,
    }
    own = [
        {"type": "Pods", "pods": {"metric": {"name": "z"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
        {"type": "External", "external": {"metric": {"name": "a"}, "target": {"type": "Value", "value": "1"}}},
    ]
    found = []
    for target in (one_way, dict(reversed(one_way.items()))):
        objects = rendered(major=major, target=target, metrics=own)
        found.append(one(objects, "HorizontalPodAutoscaler", "m")["spec"]["metrics"])
    assert found[0] == found[1]
    names = [m[m["type"].lower()].get("name") or m[m["type"].lower()]["metric"]["name"] for m in found[0]]
    assert names == [
        "cpu",
        "memory",
        "DCGM_FI_DEV_GPU_UTIL",
        "vllm_num_requests_waiting",
        "vllm_kv_cache_usage_perc",
        "vllm_requests_in_flight",
        "z",
        "a",
    ]
    assert found[0][-2:] == own


# KEDA


def scaled_object() -> dict[str, Any]:
    return one(SCENARIO.objects, "ScaledObject", "batch")["spec"]


def test_keda_owns_the_replicas_alone():
    spec = scaled_object()
    deployment = one(SCENARIO.objects, "Deployment", "batch")
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]
    assert not [
        o for o in of_kind(SCENARIO.objects, "HorizontalPodAutoscaler") if o["metadata"]["name"].endswith("batch")
    ]
    assert (spec["idleReplicaCount"], spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 1, 8)
    assert spec["cooldownPeriod"] > 240, "longer than the model loads"


def test_keda_asks_what_the_adapter_asks():
    """The same query with the model's labels and namespace, and one number: a sum, as KEDA refuses several series."""
    mine = f'{{namespace="{NAMESPACE}",app_kubernetes_io_instance="{RELEASE}",gpu_inference_io_model="batch"}}'
    triggers = {trigger["name"]: trigger for trigger in scaled_object()["triggers"]}
    assert list(triggers) == ["kvCacheUsage", "requestsInFlight", "waiting-batches"]
    assert triggers["kvCacheUsage"]["metadata"]["query"] == f"sum(vllm:kv_cache_usage_perc{mine})"
    running, waiting = (f"sum(vllm:num_requests_{what}{mine})" for what in ("running", "waiting"))
    assert triggers["requestsInFlight"]["metadata"]["query"] == f"{running} + {waiting}"
    assert triggers["requestsInFlight"]["metadata"]["threshold"] == "16"
    assert {trigger["metricType"] for trigger in triggers.values()} == {"AverageValue"}
    adapter = EXTERNAL["vllm_requests_in_flight"]["metricsQuery"]
    # But for what mixed capacity takes off, which is no label of this model.
    adapter = re.sub(r"<<with .*?<<end>>", "", adapter)
    assert adapter.replace("{<<.LabelMatchers>>}", mine) == triggers["requestsInFlight"]["metadata"]["query"]


def test_no_series_is_no_load_only_where_there_may_be_no_pods(major):
    keda = {"serverAddress": "http://p", "authenticationRef": {"name": "token"}}
    spec = one(rendered(major=major, provider="keda", minReplicas=2, keda=keda), "ScaledObject", "m")["spec"]
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert trigger["authenticationRef"] == {"name": "token"}
    assert "idleReplicaCount" not in spec
    assert scaled_object()["triggers"][0]["metadata"]["ignoreNullValues"] == "true"


def test_an_outage_of_prometheus_takes_no_pod_away(major):
    keda = {"serverAddress": "http://p"}
    spec = one(rendered(major=major, provider="keda", minReplicas=2, keda=keda), "ScaledObject", "m")["spec"]
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"}
    assert scaled_object()["fallback"]["replicas"] == 1, "0 would take the last pods away"


def test_keda_behaves_as_an_autoscaler_does():
    behavior = scaled_object()["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == hpa("queue")["behavior"]


def test_keda_on_cpu_memory_and_a_ratio(major):
    target = {"requestsInFlight": False, "cpuUtilization": 70, "memoryUtilization": 80, "queueComputeRatio": 0.8}
    objects = rendered("triton", major, provider="keda", target=target, keda={"serverAddress": "http://p"})
    cpu, memory, ratio = one(objects, "ScaledObject", "m")["spec"]["triggers"]
    assert (cpu["type"], cpu["metricType"], cpu["metadata"]) == ("cpu", "Utilization", {"value": "70"})
    assert (memory["type"], memory["metadata"]) == ("memory", {"value": "80"})
    assert "<<" not in ratio["metadata"]["query"]
    assert ratio["metadata"]["query"].endswith("by (namespace)")
    assert ratio["metadata"]["query"].count(f'namespace="{NAMESPACE}"') == 2
