"""Synthetic series of a model at work, as promtool reads them, and what makes each alert fire."""

from __future__ import annotations

from typing import Any

PODS = ("llm-chat-7d9f8c6b5d-abcde", "llm-chat-7d9f8c6b5d-fghij")
STEPS = 400  # of 15 s
TARGET = {"namespace": "serving", "app_kubernetes_io_instance": "llm", "gpu_inference_io_model": "chat"}

# Series of every pod -> its values; a number stands for itself, for ever, "+n" for a counter that grows by n a step.
Values = dict[str, float | str]

ENGINE: Values = {
    "up": 1,
    "vllm:num_requests_running": 4,
    "vllm:num_requests_waiting": 0,
    "vllm:kv_cache_usage_perc": 0.4,
    "vllm:generation_tokens_total": "+600",
    "vllm:prompt_tokens_total": "+900",
    'vllm:request_success_total{finished_reason="stop"}': "+15",
    'vllm:request_success_total{finished_reason="abort"}': "+15",
    'vllm:request_success_total{finished_reason="error"}': 0,
    'vllm:time_to_first_token_seconds_bucket{le="0.1"}': "+15",
    'vllm:time_to_first_token_seconds_bucket{le="+Inf"}': "+15",
    'vllm:inter_token_latency_seconds_bucket{le="0.025"}': "+600",
    'vllm:inter_token_latency_seconds_bucket{le="0.1"}': "+600",
    'vllm:inter_token_latency_seconds_bucket{le="+Inf"}': "+600",
    'vllm:e2e_request_latency_seconds_bucket{le="0.3"}': "+15",
    'vllm:e2e_request_latency_seconds_bucket{le="10"}': "+15",
    'vllm:e2e_request_latency_seconds_bucket{le="+Inf"}': "+15",
}
NS = 'namespace="serving"'
READY = f'kube_pod_status_ready{{condition="true",{NS},pod="<pod>"}}'
# Of kube-state-metrics and the DCGM exporter, with the pod they are about.
ABOUT_PODS: Values = {
    READY: 1,
    f'kube_pod_status_ready{{condition="false",{NS},pod="<pod>"}}': 0,
    f'kube_pod_status_reason{{reason="Evicted",{NS},pod="<pod>"}}': 0,
    'DCGM_FI_DEV_GPU_UTIL{gpu="0",namespace="gpus",pod="dcgm",exported_namespace="serving",exported_pod="<pod>"}': 80,
}
# Another model, whose name begins alike.
OTHER = f'{NS},app_kubernetes_io_instance="llm",gpu_inference_io_model="chat-b"'
OTHER_POD = "llm-chat-b-7d9f8c6b5d-abcde"
ABOUT_OBJECTS: Values = {
    f'kube_deployment_status_condition{{condition="Progressing",status="false",{NS},deployment="llm-chat"}}': 0,
    f'kube_horizontalpodautoscaler_status_current_replicas{{{NS},horizontalpodautoscaler="llm-chat"}}': 3,
    f'kube_horizontalpodautoscaler_spec_max_replicas{{{NS},horizontalpodautoscaler="llm-chat"}}': 10,
    f'kube_cronjob_created{{{NS},cronjob="llm-chat-canary"}}': 0,
    f'kube_cronjob_status_last_successful_time{{{NS},cronjob="llm-chat-canary"}}': "+15",
    # The other model is in a bad way.
    f'up{{{OTHER},pod="{OTHER_POD}"}}': 0,
    f"vllm:num_requests_waiting{{{OTHER}}}": 99,
    f'kube_pod_status_ready{{condition="true",{NS},pod="{OTHER_POD}"}}': 0,
    f'kube_cronjob_status_last_successful_time{{{NS},cronjob="llm-chat-b-canary"}}': 0,
    # A release of the same name in another namespace.
    f'kube_pod_status_ready{{condition="true",namespace="other",pod="{PODS[0]}"}}': 0,
}
BASELINE: Values = {**ENGINE, **ABOUT_PODS, **ABOUT_OBJECTS}

ALL, FIRST = slice(None), slice(1)
# What is otherwise, for which pods, after how many minutes -> alerts that fire, with how many series.
Otherwise = dict[str, float | str | None]
ALERTS: dict[str, tuple[Otherwise, slice, int, dict[str, int]]] = {
    "at work": ({}, ALL, 60, {}),
    "down": ({READY: 0}, ALL, 10, {"InferenceDown": 1}),
    "a pod starts": ({READY: 0}, FIRST, 20, {}),
    "a pod does not start": ({READY: 0}, FIRST, 30, {"InferencePodNotReady": 1}),
    "rollout stuck": ({"kube_deployment_status_condition": 1}, ALL, 5, {"InferenceRolloutStuck": 1}),
    "evicted": ({"kube_pod_status_reason": 1}, FIRST, 5, {"InferenceEvicted": 1}),
    "not scraped": ({"up": 0}, ALL, 15, {"InferenceNotScraped": 1}),
    "one pod not scraped": ({"up": 0}, FIRST, 15, {}),
    "at its maximum": ({"kube_horizontalpodautoscaler_status_current": 10}, ALL, 20, {"InferenceAtMaximum": 1}),
    "at its maximum for a while": ({"kube_horizontalpodautoscaler_status_current": 10}, ALL, 14, {}),
    "queue": ({"vllm:num_requests_waiting": 6}, ALL, 10, {"InferenceQueueLong": 1}),
    "queue at the threshold": ({"vllm:num_requests_waiting": 5}, ALL, 10, {}),
    "queue of one pod": ({"vllm:num_requests_waiting": 9}, FIRST, 10, {}),
    "first token": ({'time_to_first_token_seconds_bucket{le="0.1"}': 0,
                     'vllm:time_to_first_token_seconds_bucket{le="1"}': "+15"},
                    ALL, 15, {"InferenceFirstTokenSlow": 1}),
    "tokens": ({'vllm:inter_token_latency_seconds_bucket{le="0.025"}': 0}, ALL, 15, {"InferenceTokensSlow": 1}),
    "requests": ({'vllm:e2e_request_latency_seconds_bucket{le="0.3"}': 0}, ALL, 15, {"InferenceRequestsSlow": 1}),
    "errors": ({'vllm:request_success_total{finished_reason="error"}': "+2"}, ALL, 15, {"InferenceErrors": 1}),
    "few errors": ({'vllm:request_success_total{finished_reason="error"}': "+1"}, ALL, 15, {}),
    "cache": ({"vllm:kv_cache_usage_perc": 0.95}, ALL, 20, {"InferenceCacheFull": 1}),
    "hung": ({"vllm:generation_tokens_total": 7, "vllm:prompt_tokens_total": 7}, FIRST, 10, {"InferenceEngineHung": 1}),
    "busy": ({"vllm:generation_tokens_total": "+1", "vllm:prompt_tokens_total": 7,
              "vllm:num_requests_running": 256}, ALL, 60, {}),
    "a long prompt": ({"vllm:generation_tokens_total": 7}, ALL, 60, {}),
    "idle": ({"vllm:generation_tokens_total": 7, "vllm:prompt_tokens_total": 7, "vllm:num_requests_running": 0,
              "vllm:request_success_total": 7, "_bucket": 7}, ALL, 60, {}),
    "canary": ({"kube_cronjob_status": 0}, ALL, 20, {"InferenceCanaryFailing": 1}),
    "canary that never succeeded": ({"kube_cronjob_status": None}, ALL, 20, {"InferenceCanaryFailing": 1}),
    "canary that fails once": ({"kube_cronjob_status": 0}, ALL, 14, {}),
    "GPUs idle": ({"DCGM_FI_DEV_GPU_UTIL": 20}, ALL, 45, {"InferenceGPUIdle": 1}),
    "GPUs idle for a while": ({"DCGM_FI_DEV_GPU_UTIL": 20}, ALL, 29, {}),
    "GPUs at their limit": ({"DCGM_FI_DEV_GPU_UTIL": 99}, ALL, 20, {"InferenceGPUSaturated": 1}),
    # Where Prometheus lets the exporter's labels win.
    "GPUs by their own labels": (
        {"DCGM_FI_DEV_GPU_UTIL": None,
         'DCGM_FI_DEV_GPU_UTIL{gpu="0",namespace="serving",pod="<pod>"}': 99}, ALL, 20, {"InferenceGPUSaturated": 1}),
}  # fmt: skip


def test_file(rules: str, baseline: Values, what: str) -> dict[str, Any]:
    """A file for `promtool test rules`: exactly these alerts fire."""
    changes, which, minutes, alerts = ALERTS[what]
    expected = [{"labels": f'{{alertname="{name}"}}', "value": count} for name, count in alerts.items()]
    query = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minutes}m",
        "exp_samples": expected,
    }
    test = {"name": what, "interval": "15s", "input_series": list(_series(baseline, changes, which))}
    return {"rule_files": [rules], "evaluation_interval": "15s", "tests": [{**test, "promql_expr_test": [query]}]}


def _series(baseline: Values, changes: Otherwise, which: slice) -> Any:
    known = dict(baseline)
    touched = {name: value for name, value in changes.items() if not any(name in series for series in baseline)}
    for name, value in (known | touched).items():
        other = {change for change in changes if change in name}
        per_pod = name in ENGINE or "<pod>" in name or name in touched
        for pod in PODS if per_pod else PODS[:1]:
            changed = other and (pod in PODS[which] or not per_pod)
            said = changes[max(other, key=len)] if changed else value
            if said is not None:
                yield {"series": _named(name, pod), "values": _values(said)}


def _named(name: str, pod: str) -> str:
    if "namespace=" in name:
        return name.replace("<pod>", pod)
    metric, _, own = name.partition("{")
    labels = ",".join(f'{key}="{value}"' for key, value in {**TARGET, "pod": pod}.items())
    return f"{metric}{{{labels}{',' if own else ''}{own or '}'}"


def _values(said: float | str) -> str:
    return f"0{said}x{STEPS}" if isinstance(said, str) else f"{said}x{STEPS}"
