"""Values whose warm-up, canary, progress or monitoring cannot work, and what the chart must say."""

from __future__ import annotations

from typing import Any

from .expected import over
from .matrix import minimal_model

LLAMA = minimal_model("llama-cpp", "nvidia-l4")

ZERO: dict[str, Any] = {
    "enabled": True,
    "provider": "keda",
    "keda": {
        "serverAddress": "http://prometheus",
        "scaleToZero": True,
        "cooldownPeriod": 1800,
        "triggers": [{"type": "cron", "metadata": {}}],
    },
}


def _m(runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(minimal_model(runtime, "nvidia-l4"), changes)}}


HEALTH_PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "warm-up without work": (
        _m("triton", warmup={"enabled": True}),
        "models.m.warmup.enabled: the canary of triton asks for no work of the model",
        "set canary.request",
    ),
    "a canary that nothing can meet": (
        _m(
            "triton", canary={"request": {"method": "GET", "path": "/x", "expect": {"path": "y", "min": 2, "max": 1.5}}}
        ),
        "models.m.canary.request.expect.max: no answer can be 2 or more and 1.5 or less",
        "make max the larger one",
    ),
    "warm-up without Python": (
        _m("llama-cpp", warmup={"enabled": True}),
        "models.m.warmup.enabled: the image of llama-cpp has no Python",
        "or runtimes.llama-cpp.python with an image that has it",
    ),
    "progress without Python": (
        _m("llama-cpp", progress={"liveness": True}),
        "models.m.progress: the image of llama-cpp has no Python",
        "set it to false",
    ),
    "progress without metrics": (
        _m("tgi", progress={"readiness": True}),
        "models.m.progress: tgi has no metric that tells it",
        "set both to false, or runtimes.tgi.metrics.progress",
    ),
    "long name of a canary": (
        {"fullnameOverride": "a-release-with-a-name", "models": {"a" * 30: over(LLAMA, {"canary": {"enabled": True}})}},
        "and at most 45 fit into the name of a CronJob",
        "shorten the model's name or set fullnameOverride",
    ),
    **{
        f"canary of a model at 0 pods, by {how}": (
            _m(canary={"enabled": True}, autoscaling={**ZERO, "minReplicas": least, "keda": {**ZERO["keda"], **keda}}),
            "models.m.canary.enabled: its requests fail, or wake the model",
            "set it to false, or autoscaling.minReplicas to 1",
        )
        for how, least, keda in (("minReplicas", 0, {}), ("idleReplicas", 1, {"idleReplicas": 0}))
    },
    "dashboard of nothing": (
        _m(monitoring={"dashboard": True}),
        "models.m.monitoring.dashboard: shows what monitoring.rules records",
        "set monitoring.rules.enabled to true",
    ),
    "scraped twice": (
        _m(monitoring={"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}),
        "models.m.monitoring.serviceMonitor.enabled: the PodMonitor scrapes the pods already",
        "set one of the two to false",
    ),
    "model called like the Service of the metrics": (
        {
            "models": {
                **_m(monitoring={"serviceMonitor": {"enabled": True}})["models"],
                "m-metrics": minimal_model("vllm", "nvidia-l4"),
            }
        },
        "models.m-metrics: the Service of the metrics of m has this name",
        "rename one of the two",
    ),
    "metrics on the nodes": (
        _m("triton", service={"type": "NodePort", "nodePorts": {"metrics": 30082}}),
        "models.m.service.nodePorts.metrics: triton publishes no port of this name",
        "use grpc, http",
    ),
}
