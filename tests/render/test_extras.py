"""What is rendered only when asked for, and what Helm says after an install."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.expected import over
from support.matrix import RUNTIMES, SCENARIOS, minimal_model, scenario
from support.objects import one, server
from support.render import NAMESPACE, RELEASE, as_layer, helm, load_yaml, render
from support.views import models

from gpu_inference.paths import CHART


def model(runtime: str = "vllm", **changes: Any) -> dict[str, Any]:
    return {"models": {"m": over(minimal_model(runtime, "nvidia-l4"), changes)}}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_pod_monitor(runtime):
    """Selects the pods, on a port they have; its series carry the labels the autoscaler selects by."""
    wanted = {"podMonitor": {"enabled": True, "interval": "7s", "labels": {"release": "prometheus"}}}
    objects = render(model(runtime, monitoring=wanted))
    monitor, deployment = one(objects, "PodMonitor", "m"), one(objects, "Deployment", "m")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    preset = load_yaml(CHART / f"runtimes/{runtime}.yaml")["metrics"]
    ports = {p["name"]: p["containerPort"] for p in server(deployment)["ports"]}
    assert endpoint["port"] == preset["port"] and endpoint["port"] in ports
    assert (endpoint["path"], endpoint["interval"]) == (preset["path"], "7s")
    assert {"app.kubernetes.io/instance", "gpu-inference.io/model"} <= set(monitor["spec"]["podTargetLabels"])
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.parametrize("monitoring", [{"annotations": False}, {"podMonitor": {"enabled": True}}])
def test_scrape_annotations_can_be_left_out(monitoring):
    """A pod scraped twice would count its load twice."""
    objects = render(model(monitoring=monitoring))
    annotations = one(objects, "Deployment", "m")["spec"]["template"]["metadata"]["annotations"]
    assert [a for a in annotations if a.startswith("prometheus.io/")] == []


def test_an_existing_service_account():
    objects = render(model(serviceAccount={"create": False, "name": "mine"}))
    assert [o for o in objects if o["kind"] == "ServiceAccount"] == []
    assert one(objects, "Deployment", "m")["spec"]["template"]["spec"]["serviceAccountName"] == "mine"


def test_pull_secrets_reach_every_pod():
    objects = render({**model(), "imagePullSecrets": [{"name": "registry"}]})
    pods = [o["spec"] for o in objects if o["kind"] == "Pod"]
    pods += [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]
    assert len(pods) == 2
    assert [p["imagePullSecrets"] for p in pods] == [[{"name": "registry"}]] * 2


def test_a_digest_pins_the_image():
    digest = "sha256:" + "0" * 64
    image = server(one(render(model(image={"digest": digest})), "Deployment", "m"))["image"]
    assert image.endswith(f"@{digest}")


def test_tests_can_be_switched_off():
    assert [o for o in render(model(test={"enabled": False})) if o["kind"] in ("Pod", "ConfigMap")] == []


def test_a_volume_of_the_users_own():
    claim = {"claimName": "d"}
    volume = {
        "mount": {"mountPath": "/data", "readOnly": True},
        "source": {"persistentVolumeClaim": {"claimName": "d"}},
    }
    deployment = one(render(model(volumes={"data": volume})), "Deployment", "m")
    mount = next(m for m in server(deployment)["volumeMounts"] if m["mountPath"] == "/data")
    assert mount["readOnly"] is True
    claims = {v["name"]: v.get("persistentVolumeClaim") for v in deployment["spec"]["template"]["spec"]["volumes"]}
    assert claims[mount["name"]] == claim


def test_a_hub_model_is_cached_on_a_volume():
    """The root file system is read-only: a server that downloads needs a place, and a token a Secret."""
    source = {"source": "hf://a/b", "tokenSecret": {"name": "hub", "key": "token"}}
    alone = {"download": {"by": "server"}}
    deployment = one(render(model(model=source, storage=alone)), "Deployment", "m")
    env = {e["name"]: e for e in server(deployment)["env"]}
    mounts = [m["mountPath"] for m in server(deployment)["volumeMounts"] if not m.get("readOnly")]
    assert any(env["HF_HOME"]["value"].startswith(path) for path in mounts)
    assert env["HF_TOKEN"]["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}


def notes(*layers: Path) -> str:
    """What `helm install` prints at the end. Helm 3 does not without a cluster: see the cluster tests."""
    words = [word for layer in layers for word in ("--values", str(layer))]
    text = helm(4).run("install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--dry-run=client", *words)
    return text.split("NOTES:\n", 1)[1]


@pytest.mark.parametrize("name", SCENARIOS)
def test_notes_tell_the_next_three_commands(name):
    case = scenario(name)
    text = notes(*case.layers)
    assert all(f"\n{n}. " in text for n in (1, 2, 3)) and "\n4. " not in text
    assert f"helm test {RELEASE} -n {NAMESPACE}" in text
    for one_model in models(case):
        assert f"  {one_model.name}: " in text
    first = min(models(case), key=lambda found: found.name)
    assert f"{first.kind.lower()}/{RELEASE}-{first.name}\n" in text
    notices = [f"{m.name}: {m.runtime['notice']}" for m in models(case) if "notice" in m.runtime]
    warnings = [line.split("WARNING: ")[1] for line in text.splitlines() if "WARNING" in line]
    assert sorted(warnings) == sorted(notices), "a shipped values file should give no other reason to warn"
    assert "<no value>" not in text


def test_notes_without_models_say_how_to_add_one():
    text = notes()
    assert "models:" in text and "source: hf://" in text


def test_notes_warn_of_a_drain_longer_than_the_clouds_notice():
    """Not refused: on many clouds no drain that is long enough for a request fits."""
    values = {"cloud": "gke", **model(capacity="spot", drain={"preStopSeconds": 5, "requestSeconds": 60})}
    text = notes(as_layer(values))
    assert "WARNING: spot pods get 15 s on gke, and m needs 75 s to drain" in text


def test_notes_warn_of_a_runtime_at_its_end():
    values = {**model(), "runtimes": {"vllm": {"status": "maintenance", "notice": "Its end is near; use another."}}}
    assert "\n  WARNING: m: Its end is near; use another.\n" in notes(as_layer(values))
