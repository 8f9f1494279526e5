"""Values whose autoscaling cannot work, and what the chart must say: the path, and words of the fix."""

from __future__ import annotations

from typing import Any

from .expected import over
from .matrix import minimal_model

ADDRESS = {"serverAddress": "http://prometheus"}
WAKES = {"type": "prometheus", "metadata": {"query": "sum(gateway_queue)"}}
ZERO = {"scaleToZero": True, "triggers": [WAKES]}


def _m(runtime: str = "vllm", accelerator: str = "nvidia-l4", pod: Any = None, **scaling: Any) -> dict[str, Any]:
    changes = {"autoscaling": {"enabled": True, **scaling}, **({"pod": pod} if pod else {})}
    return {"models": {"m": over(minimal_model(runtime, accelerator), changes)}}


def _keda(keda: dict[str, Any], **scaling: Any) -> dict[str, Any]:
    return _m(provider="keda", keda={**ADDRESS, **keda}, **scaling)


SCALING_PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "maximum below minimum": (
        _m(minReplicas=5, maxReplicas=2),
        "models.m.autoscaling.maxReplicas: 2 is less than minReplicas, 5",
        "raise maxReplicas",
    ),
    "zero without KEDA": (
        _m(minReplicas=0),
        "models.m.autoscaling.minReplicas: a HorizontalPodAutoscaler stops at 0 pods",
        "set it to 1, or provider to keda",
    ),
    "nothing to scale by": (
        _m(target={"requestsInFlight": False}),
        "models.m.autoscaling.target: names nothing",
        "set requestsInFlight",
    ),
    "requests in flight of a runtime without": (
        _m(runtime="nim"),
        "models.m.autoscaling.enabled: nim has no metric of requests in flight",
        "or define runtimes.nim.metrics.inFlight",
    ),
    "KV cache of a runtime without": (
        _m(runtime="triton", target={"kvCacheUsage": 0.8}),
        "models.m.autoscaling.target.kvCacheUsage: no series of it is known",
        "define it in runtimes.triton.metrics",
    ),
    "ratio of a runtime without": (
        _m(target={"queueComputeRatio": 0.8}),
        "models.m.autoscaling.target.queueComputeRatio: no series",
        "remove it",
    ),
    "utilization of a GPU without": (
        _m(accelerator="amd-mi300x", target={"gpuUtilization": 80}),
        "models.m.autoscaling.target.gpuUtilization: no series",
        "define it in accelerators.amd-mi300x.utilization",
    ),
    "utilization with KEDA": (
        _keda({}, target={"gpuUtilization": 80}),
        "models.m.autoscaling.target.gpuUtilization: its series do not say",
        "set provider to hpa",
    ),
    "GPU as a resource": (
        _m(
            metrics=[
                {
                    "type": "Resource",
                    "resource": {
                        "name": "nvidia.com/gpu",
                        "target": {"type": "Utilization", "averageUtilization": 80},
                    },
                }
            ]
        ),
        "models.m.autoscaling.metrics[0].resource.name: the resource metrics API knows cpu and memory, not",
        "use target.gpuUtilization",
    ),
    "metric in the wrong place": (
        _m(metrics=[{"type": "Pods", "object": {}}]),
        "models.m.autoscaling.metrics[0]: a metric of type Pods is described under pods",
        "write it there",
    ),
    "metrics with KEDA": (
        _keda({}, metrics=[{"type": "Pods", "pods": {"metric": {"name": "a"}}}]),
        "models.m.autoscaling.metrics: a ScaledObject takes none",
        "write them as keda.triggers",
    ),
    "sidecar without a request": (
        _m(
            target={"cpuUtilization": 70},
            pod={"initContainers": [{"name": "proxy", "image": "a", "restartPolicy": "Always"}]},
        ),
        "models.m.pod.initContainers: proxy requests no CPU",
        "set its resources.requests.cpu",
    ),
    "KEDA without Prometheus": (
        _m(provider="keda"),
        "models.m.autoscaling.keda.serverAddress: is not set",
        "URL of Prometheus",
    ),
    "KEDA without a fallback": (
        _keda({}, target={"requestsInFlight": False, "cpuUtilization": 70}),
        "models.m.autoscaling.keda.triggers: the fallback needs a trigger",
        "set target.requestsInFlight",
    ),
    "idle as few as the least": (
        _keda({**ZERO, "idleReplicas": 0}, minReplicas=0),
        "models.m.autoscaling.keda.idleReplicas: 0 is not less than minReplicas, 0",
        "raise minReplicas",
    ),
    "zero without acknowledgement": (
        _keda({"triggers": [WAKES]}, minReplicas=0),
        "models.m.autoscaling.keda.scaleToZero: nothing holds the first requests",
        "for batches and queues",
    ),
    "zero without a trigger that wakes": (
        _keda({"scaleToZero": True, "idleReplicas": 0}),
        "models.m.autoscaling.keda.triggers: the model's own metrics go with its pods",
        "the queue of a gateway",
    ),
    "gone sooner than loaded": (
        _keda({**ZERO, "cooldownPeriod": 300}, minReplicas=0),
        "models.m.autoscaling.keda.cooldownPeriod: 300 s is no longer than loading, 300 s",
        "raise it",
    ),
}
