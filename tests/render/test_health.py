"""Warm-up, canary, progress and monitors as rendered; what the scripts do is tested by running them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.expected import over
from support.matrix import RUNTIMES, minimal_model, preset
from support.objects import env_of, is_headless, model_of, name, of_kind, one, selects, server
from support.render import NAMESPACE, RELEASE, render

from gpu_inference.paths import CHART

REQUEST = {"method": "POST", "path": "/predict/{servedName}", "body": {"x": 21}, "expect": {"path": "a", "min": 41}}
SCRIPTS = "/opt/gpu-inference/"


def model(runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(minimal_model(runtime, "nvidia-l4"), changes)}}


def container(objects: list[Any]) -> dict[str, Any]:
    return server(one(objects, "Deployment", "m"))


def script(objects: list[Any], probe: str) -> tuple[str, dict[str, Any]]:
    """The script that a probe runs, and what it is told."""
    command = container(objects)[f"{probe}Probe"]["exec"]["command"]
    assert command[:2] == ["python3", "-ISB"], "isolated, without site packages, writing no bytecode"
    return command[2].removeprefix(SCRIPTS), json.loads(command[3])


def test_what_is_off_is_not_there(case, models):
    """Each object and script exists for the models that ask for it, and for no other."""
    wanted = {
        "CronJob": lambda spec: spec["canary"]["enabled"],
        "PrometheusRule": lambda spec: spec["monitoring"]["rules"]["enabled"],
        "ServiceMonitor": lambda spec: spec["monitoring"]["serviceMonitor"]["enabled"],
        "PodMonitor": lambda spec: spec["monitoring"]["podMonitor"]["enabled"],
    }
    for kind, asks in wanted.items():
        found = {model_of(o) for o in of_kind(case.objects, kind)} - {None}
        assert found == {m.name for m in models if asks(m.spec)}, kind
    for each in models:
        scripts = {k for k, probe in each.server.items() if k.endswith("Probe") and "exec" in probe}
        progress = each.spec["progress"]
        asked = {"startupProbe": each.spec["warmup"]["enabled"]}
        asked |= {f"{probe}Probe": progress[probe] for probe in ("readiness", "liveness")}
        assert scripts == {probe for probe, on in asked.items() if on}, each.name


# Warm-up.


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if preset("runtimes", name)["canary"]["method"] == "POST"
                                     and preset("runtimes", name).get("python", True)])  # fmt: skip
def test_warm_up_sends_the_presets_canary_from_within(runtime, major):
    objects = render(model(runtime, warmup={"enabled": True, "timeoutSeconds": 77}), major=major)
    file, told = script(objects, "startup")
    data = preset("runtimes", runtime)
    base = f"http://127.0.0.1:{data['ports']['http']}"
    assert file == "canary.py"
    assert (told["url"], told["method"], told["expect"]) == (
        base + data["canary"]["path"],
        "POST",
        data["canary"]["expect"],
    )
    assert told["body"]["model"] == "served"
    assert (told["attempts"], told["timeoutSeconds"]) == (1, 77)
    assert told["health"]["url"].endswith(data["probes"]["startup"]["path"])
    # The script ends by itself before the kubelet ends it.
    probe = container(objects)["startupProbe"]
    assert probe["timeoutSeconds"] > told["health"]["timeoutSeconds"] + told["timeoutSeconds"]
    assert "httpGet" in container(objects)["readinessProbe"] and "httpGet" in container(objects)["livenessProbe"]


def test_a_request_of_ones_own_is_for_warm_up_test_and_canary(major):
    values = model("triton", warmup={"enabled": True}, canary={"enabled": True, "request": REQUEST})
    objects = render(values, major=major)
    cron = one(objects, "CronJob", "m")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (test,) = [o["spec"] for o in of_kind(objects, "Pod", hooks=True)]
    asked = [json.loads(env_of(pod["containers"][0])["CANARY"]["value"]) for pod in (cron, test)]
    asked.append(script(objects, "startup")[1])
    assert [one_of["expect"] for one_of in asked] == [REQUEST["expect"]] * 3
    assert [one_of["body"] for one_of in asked] == [REQUEST["body"]] * 3
    through = f"http://{RELEASE}-m.{NAMESPACE}.svc:80/predict/served"
    assert [one_of["url"] for one_of in asked] == [through, through, "http://127.0.0.1:8000/predict/served"]


def test_the_api_key_is_sent_where_the_server_asks_for_one(major):
    """By reference, and to nobody else."""
    key = {"secretKeyRef": {"name": "keys", "key": "vllm"}}
    switched_on = {"warmup": {"enabled": True}, "canary": {"enabled": True}}
    for env in ({}, {"VLLM_API_KEY": key}):
        objects = render(model("vllm", **switched_on, env=env), major=major)
        cron = one(objects, "CronJob", "m")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (test,) = [o["spec"] for o in of_kind(objects, "Pod", hooks=True)]
        asked = [env_of(pod["containers"][0]) for pod in (cron, test)]
        told = [*(json.loads(variables["CANARY"]["value"]) for variables in asked), script(objects, "startup")[1]]
        assert [one_of.get("apiKeyEnv") for one_of in told] == ["VLLM_API_KEY" if env else None] * 3
        wanted = {"name": "VLLM_API_KEY", "valueFrom": key} if env else None
        assert [variables.get("VLLM_API_KEY") for variables in asked] == [wanted] * 2


def test_scripts_are_mounted_read_only():
    objects = render(model(warmup={"enabled": True}))
    (mount,) = [m for m in container(objects)["volumeMounts"] if m["mountPath"] == SCRIPTS.rstrip("/")]
    assert mount["readOnly"] is True
    (scripts,) = [o for o in of_kind(objects, "ConfigMap") if o["metadata"]["name"] == f"{RELEASE}-scripts"]
    assert set(scripts["data"]) == {"canary.py", "progress.py"}
    for file, text in scripts["data"].items():
        assert text.strip() == (CHART / "files" / file).read_text().strip()


# Canary.


def test_the_canary_asks_as_the_test_does(major):
    objects = render(model(canary={"enabled": True, "everyMinutes": 7}, test={"attempts": 9}), major=major)
    spec = one(objects, "CronJob", "m")["spec"]
    assert spec["schedule"] == "*/7 * * * *"
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] == 0 and job["activeDeadlineSeconds"] <= 7 * 60
    (test,) = of_kind(objects, "Pod", hooks=True)
    pod = json.loads(json.dumps(job["template"]["spec"]))
    asked, tested = (env_of(p["containers"][0])["CANARY"] for p in (pod, test["spec"]))
    assert json.loads(asked["value"]) == {**json.loads(tested["value"]), "attempts": 1}
    assert "nvidia.com/gpu" not in str(pod["containers"][0]["resources"])
    # The test's scripts go with the test.
    assert pod["volumes"][0]["configMap"]["name"] == f"{RELEASE}-scripts"


def test_a_canary_is_no_server(major):
    objects = render(model(canary={"enabled": True}, monitoring={"podMonitor": {"enabled": True}}), major=major)
    labels = one(objects, "CronJob", "m")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    for obj in of_kind(objects, "Service", "Deployment", "PodMonitor"):
        assert not selects(obj["spec"]["selector"], labels), name(obj)


def test_a_network_policy_lets_the_canary_in():
    values = model(canary={"enabled": True}, test={"enabled": False}, networkPolicy={
        "enabled": True, "ingressFrom": [{"podSelector": {"matchLabels": {"app": "proxy"}}}]})  # fmt: skip
    objects = render(values)
    labels = one(objects, "CronJob", "m")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    rule = one(objects, "NetworkPolicy", "m")["spec"]["ingress"][0]
    assert any(selects(peer["podSelector"], labels) for peer in rule["from"])


# Progress.


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if "progress" in preset("runtimes", name)["metrics"]
                                     and preset("runtimes", name).get("python", True)])  # fmt: skip
def test_progress_is_read_from_the_presets_metrics(runtime, major):
    wanted = {"readiness": True, "liveness": True, "stallSeconds": 240}
    objects = render(model(runtime, progress=wanted), major=major)
    data = preset("runtimes", runtime)
    states = set()
    for probe in ("readiness", "liveness"):
        file, told = script(objects, probe)
        assert file == "progress.py"
        assert told["metrics"] == f"http://127.0.0.1:{data['ports'][data['metrics']['port']]}{data['metrics']['path']}"
        assert told["health"].endswith(data["probes"][probe]["path"])
        assert (told["running"], told["progress"]) == (data["metrics"]["names"]["running"], data["metrics"]["progress"])
        assert told["stallSeconds"] == 240
        rendered = container(objects)[f"{probe}Probe"]
        assert told["timeoutSeconds"] < rendered["timeoutSeconds"]
        assert told["gapSeconds"] > 2 * rendered["periodSeconds"], "a late probe is no gap"
        states.add(told["state"])
    assert len(states) == 2, "each remembers for itself"
    writable = {m["mountPath"] for m in container(objects)["volumeMounts"] if not m.get("readOnly")}
    assert {state.rpartition("/")[0] for state in states} <= writable
    assert "httpGet" in container(objects)["startupProbe"]


# Monitors, and metrics behind a Service for the outside.


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_service_monitor(runtime, major):
    """Through a Service of its own, which also has the pods that are not ready."""
    wanted = {"serviceMonitor": {"enabled": True, "interval": "7s", "labels": {"release": "prometheus"}}}
    objects = render(model(runtime, monitoring=wanted), major=major)
    monitor, deployment = one(objects, "ServiceMonitor", "m"), one(objects, "Deployment", "m")
    services = of_kind(objects, "Service")
    (service,) = [s for s in services if selects(monitor["spec"]["selector"], s["metadata"]["labels"])]
    assert is_headless(service) and service["spec"]["publishNotReadyAddresses"] is True
    assert selects(service["spec"]["selector"], deployment["spec"]["template"]["metadata"]["labels"])
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = [p for p in service["spec"]["ports"] if p["name"] == endpoint["port"]]
    metrics = preset("runtimes", runtime)["metrics"]
    assert (port["targetPort"], endpoint["path"], endpoint["interval"]) == (metrics["port"], metrics["path"], "7s")
    assert {"app.kubernetes.io/instance", "gpu-inference.io/model"} <= set(monitor["spec"]["podTargetLabels"])
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert not [key for key in annotations if key.startswith("prometheus.io/")], "scraped twice would count double"


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_metrics_are_not_published_outside_of_the_cluster(runtime, kind):
    values = model(runtime, service={"type": kind}, monitoring={"serviceMonitor": {"enabled": True}})
    services = of_kind(render(values), "Service")
    data = preset("runtimes", runtime)
    outside = {p["name"] for s in services if s["spec"]["type"] == kind for p in s["spec"]["ports"]}
    assert "http" in outside
    assert outside & {"grpc"} == data["ports"].keys() & {"grpc"}
    if data["metrics"]["port"] != "http":
        assert data["metrics"]["port"] not in outside
        assert data["metrics"]["port"] in {p["targetPort"] for s in services for p in s["spec"]["ports"]}
