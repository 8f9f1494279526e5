"""Recording rules and alerts: rendered for what a runtime has, judged by promtool with synthetic series."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import series
from support.expected import over, specs
from support.matrix import RUNTIMES, SCENARIOS, minimal_model, preset, scenario
from support.objects import OPERATED, model_of, of_kind, one
from support.render import NAMESPACE, RELEASE, load_yaml, render

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.errors import UserError
from gpu_inference.paths import CHART

SOURCES = {path.stem: load_yaml(path) for path in sorted((CHART / "alerts").glob("*.yaml"))}
WATCHED = {"canary": {"enabled": True}, "monitoring": {"rules": {"enabled": True}}}
# Alert -> what the runtime's metrics must have. The others are about Kubernetes' objects.
NEEDS = {
    "InferenceQueueLong": ("names.waiting",),
    "InferenceFirstTokenSlow": ("names.timeToFirstToken",),
    "InferenceTokensSlow": ("names.interTokenLatency",),
    "InferenceErrors": ("errorRatio",),
    "InferenceCacheFull": ("names.kvCacheUsage",),
    "InferenceEngineHung": ("names.running", "progress"),
}
ALWAYS = {
    "InferenceDown", "InferencePodNotReady", "InferenceRolloutStuck", "InferenceEvicted", "InferenceNotScraped",
    "InferenceCanaryFailing", "InferenceGPUIdle", "InferenceGPUSaturated",
}  # fmt: skip


@pytest.fixture(scope="session")
def promtool() -> Path:
    try:
        return find_or_build(["promtool"])["promtool"]
    except UserError as error:
        pytest.skip(f"no promtool: {error.message}")


def run(promtool: Path, *words: str) -> str:
    done = subprocess.run([promtool, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def groups(objects: list[Any], *models: str) -> list[dict[str, Any]]:
    """Rule groups of a release, or of some of its models."""
    found = [o for o in of_kind(objects, "PrometheusRule") if not models or model_of(o) in models]
    return [group for obj in found for group in obj["spec"]["groups"]]


def rules(objects: list[Any], *models: str) -> list[dict[str, Any]]:
    return [rule for group in groups(objects, *models) for rule in group["rules"]]


def written(folder: Path, found: list[dict[str, Any]]) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps({"groups": found}))))
    return path


def model(runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(over(minimal_model(runtime, "nvidia-l4"), WATCHED), changes)}}


MIXED = {"capacity": "mixed", "autoscaling": {"enabled": True}}


def rendered(**changes: Any) -> list[Any]:
    return render({"cloud": "gke", **model(**changes)})


@pytest.fixture(scope="module")
def every_runtime() -> list[Any]:
    """The objects of a release with a watched model of each runtime."""
    return render({"modelDefaults": WATCHED, "models": {name: minimal_model(name, "nvidia-l4") for name in RUNTIMES}})


# An operator's models have none of it.
WATCHABLE = [
    name for name in SCENARIOS if not any(spec["workload"] in OPERATED for spec in specs(scenario(name)).values())
]


@pytest.mark.parametrize("name", WATCHABLE)
def test_rules_of_every_values_file_are_valid(name, promtool, tmp_path):
    case = scenario(name)
    # A canary needs a pod.
    zero = [name for name, spec in specs(case).items() if "idleReplicas" in spec["autoscaling"]["keda"]]
    unasked = {name: {"canary": {"enabled": False}} for name in zero}
    found = groups(render({"modelDefaults": WATCHED, "models": unasked}, layers=case.layers))
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(written(tmp_path, found)))
    assert len({group["name"] for group in found}) == len(found)


def test_rules_of_every_runtime_are_valid(every_runtime, promtool, tmp_path):
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(written(tmp_path, groups(every_runtime))))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_has_the_alerts_its_metrics_allow(runtime, every_runtime):
    metrics = preset("runtimes", runtime)["metrics"]
    has = {f"names.{name}" for name in metrics["names"]} | metrics.keys()
    wanted = ALWAYS | {alert for alert, needs in NEEDS.items() if has.issuperset(needs)}
    if preset("runtimes", runtime)["defaults"].get("monitoring"):
        wanted.add("InferenceRequestsSlow")
    assert {rule["alert"] for rule in rules(every_runtime, runtime) if "alert" in rule} == wanted


def test_what_is_recorded_is_what_is_asked_for(every_runtime):
    """An alert on a series that nothing records would never fire."""
    for runtime in RUNTIMES:
        found = rules(every_runtime, runtime)
        recorded = {rule["record"] for rule in found if "record" in rule}
        asked = {name for rule in found for name in re.findall(r"inference:\w+(?::\w+)?", rule["expr"])}
        assert asked <= recorded, runtime
        assert not [rule for rule in found if "<<" in str(rule)], runtime


def test_every_series_is_of_the_preset_or_an_exporter(every_runtime):
    exporters = r"kube_(pod|deployment|statefulset|horizontalpodautoscaler|cronjob)_\w+|DCGM_FI_DEV_\w+|up|inference:.*"
    for runtime in RUNTIMES:
        known = json.dumps(preset("runtimes", runtime)["metrics"])
        for rule in rules(every_runtime, runtime):
            for name in re.findall(r"([a-zA-Z_:][\w:]*)\{", rule["expr"]):
                base = re.sub(r"_bucket$", "", name)
                assert re.fullmatch(exporters, name) or f"{base}" in known, f"{runtime}: {name}"


def test_every_source_is_used_somewhere(every_runtime):
    stateful = render(model("vllm", workload="StatefulSet", rollout={"spareGPU": False}))
    scaled = render(model(autoscaling={"enabled": True}, monitoring={"rules": {"thresholds": {"requestSeconds": 1}}}))
    found = rules(every_runtime) + rules(stateful) + rules(scaled)
    names = [rule.get("alert", rule.get("record")) for source in SOURCES.values() for rule in source["rules"]]
    assert set(names) == {rule.get("alert", rule.get("record")) for rule in found}
    said = "".join(rule["expr"] for rule in found)
    assert "kube_statefulset_replicas{" in said and "kube_deployment_status_condition{" in said


def test_every_rule_says_whose_it_is_and_every_alert_how_bad(every_runtime):
    for rule in rules(every_runtime, "vllm"):
        mine = {"namespace": NAMESPACE, "release": RELEASE, "model": "vllm"}
        assert mine.items() <= rule["labels"].items()
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
            assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_thresholds_are_the_values_and_false_leaves_an_alert_out(major):
    thresholds = {"waitingRequests": 7, "cacheRatio": False, "requestSeconds": 2.5}
    found = rules(render(model(monitoring={"rules": {"thresholds": thresholds}}), major=major))
    expressions = {rule["alert"]: rule["expr"] for rule in found if "alert" in rule}
    assert expressions["InferenceQueueLong"].endswith("> 7")
    assert expressions["InferenceRequestsSlow"].endswith("> 2.5")
    assert "InferenceCacheFull" not in expressions
    assert "InferenceAtMaximum" not in expressions, "nothing scales it"


def test_metrics_of_a_later_version_are_not_asked_for():
    old = rules(render(model("trtllm", runtimeVersion="1.2.1")))
    assert not [rule for rule in old if "trtllm_" in rule["expr"]]
    assert [rule for rule in rules(render(model("trtllm"))) if "trtllm_" in rule["expr"]]


def test_gpus_of_another_vendor_have_no_nvidia_rules():
    values = {"models": {"m": {**over(minimal_model("vllm", "amd-mi300x"), WATCHED)}}}
    assert {group["name"] for group in groups(render(values))} == {f"{RELEASE}-m.alerts", f"{RELEASE}-m.recording"}


def test_pod_patterns_match_the_pods_of_a_kind():
    """And no other model's, whose name goes on."""
    cases = [
        ({}, ["llm-m-7d9f8c6b5d-abcde"], ["llm-m-b-7d9f8c6b5d-abcde", "llm-m-canary", "llm-m-0"]),
        ({"workload": "StatefulSet", "rollout": {"spareGPU": False}}, ["llm-m-0", "llm-m-12"], ["llm-m-a-0"]),
        (
            {"workload": "LeaderWorkerSet", "parallelism": {"pipeline": 2}},
            ["llm-m-0", "llm-m-0-1"],
            ["llm-m-b-0", "llm-m-0-1-2"],
        ),
        (MIXED, ["llm-m-7d9f8c6b5d-abcde", "llm-m-spot-7d9f8c6b5d-abcde"], ["llm-m-b-7d9f8c6b5d-abcde"]),
    ]
    for changes, inside, outside in cases:
        (ready,) = [r for r in rules(rendered(**changes)) if r.get("record") == "inference:pods_ready"]
        (pattern,) = re.findall(r'pod=~"([^"]*)"', ready["expr"])
        assert all(re.fullmatch(pattern, pod) for pod in inside), changes
        assert not [pod for pod in outside if re.fullmatch(pattern, pod)], changes


@pytest.mark.parametrize("what", series.ALERTS)
def test_alerts_fire_when_they_should_and_only_then(what, promtool, tmp_path):
    path = written(tmp_path, groups(scenario("monitoring").objects, "chat"))
    test = tmp_path / "test.yaml"
    test.write_text(yaml.safe_dump(series.test_file(str(path), series.BASELINE, what)))
    run(promtool, "test", "rules", str(test))


@pytest.mark.parametrize("what", ["at work", "down", "a pod does not start", "rollout stuck", "evicted", "GPUs idle"])
def test_spot_pods_are_their_models(what, promtool, tmp_path, monkeypatch):
    """All that there is of a model of capacity mixed are spot pods."""
    values = {"cloud": "gke", "models": {"chat": {"capacity": "mixed"}}}
    path = written(tmp_path, groups(render(values, layers=scenario("monitoring").layers), "chat"))
    monkeypatch.setattr(series, "PODS", tuple(pod.replace("chat-", "chat-spot-") for pod in series.PODS))
    deployed = 'deployment="llm-chat'
    baseline = {name.replace(deployed, f"{deployed}-spot"): value for name, value in series.BASELINE.items()}
    test = tmp_path / "test.yaml"
    test.write_text(yaml.safe_dump(series.test_file(str(path), baseline, what)))
    run(promtool, "test", "rules", str(test))


def test_every_alert_was_made_to_fire():
    fired = {alert for _, _, _, alerts in series.ALERTS.values() for alert in alerts}
    shipped = {rule["alert"] for rule in rules(scenario("monitoring").objects, "chat") if "alert" in rule}
    assert fired == shipped


def test_operators_find_the_rules_by_their_labels():
    found = one(render(model(monitoring={"rules": {"labels": {"release": "prometheus"}}})), "PrometheusRule", "m")
    assert found["metadata"]["labels"]["release"] == "prometheus"
