"""Start-up, rollout and drain: budgets that only make sense together."""

from __future__ import annotations

import json
import re

import pytest
from support.objects import SERVING, pod_templates

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
INFERRING = ("generate", "completions", "infer", "canary", "predict")


def test_all_three_probes_ask_the_presets_endpoints(models):
    for model in models:
        ports = {p["name"]: p["containerPort"] for p in model.server["ports"]}
        for key in PROBES:
            preset = model.runtime["probes"][key.removesuffix("Probe")]
            path = preset["path"].replace("{servedName}", model.spec["model"]["servedName"])
            number = model.runtime["ports"][preset["port"]]
            if "exec" in model.server[key]:  # a script that asks the same before anything else
                health = json.loads(model.server[key]["exec"]["command"][-1])["health"]
                asked = health["url"] if key == "startupProbe" else health
                assert asked == f"http://127.0.0.1:{number}{path}", f"{model.name} {key}"
                continue
            http = model.server[key]["httpGet"]
            assert http["path"] == path, f"{model.name} {key}"
            assert ports.get(http["port"], http["port"]) == number


def test_probe_numbers_are_the_values(models):
    for model in models:
        for key in PROBES:
            for field, value in model.spec["probes"][key.removesuffix("Probe")].items():
                if (key, field) == ("startupProbe", "timeoutSeconds") and model.spec["warmup"]["enabled"]:
                    value += model.spec["warmup"]["timeoutSeconds"] + 5
                assert model.server[key][field] == value, f"{model.name} {key}.{field}"


def test_startup_allows_twice_the_load_time(models):
    for model in models:
        load = model.spec["startup"]["loadSeconds"]
        assert model.startup_budget >= 2 * load, model.name
        assert model.pod["metadata"]["annotations"]["gpu-inference.io/load-seconds"] == str(load)


def test_a_rollout_is_not_failed_while_it_loads(models):
    """Kubernetes' default of 600 s fails the rollout of a big model, and Argo CD or --atomic then undo it."""
    for model in models:
        if model.kind != "Deployment":  # the only one with a deadline
            continue
        deadline = model.workload["spec"]["progressDeadlineSeconds"]
        provision = model.spec["startup"]["provisionSeconds"]
        assert deadline >= 2 * model.spec["startup"]["loadSeconds"] + provision, model.name
        assert deadline > model.startup_budget, model.name
        assert deadline > model.workload["spec"].get("minReadySeconds", 0)


def test_liveness_never_infers(models):
    """Busy is not dead: a probe that waits for a generation restarts a loaded server."""
    for model in models:
        probe = model.server["livenessProbe"]
        if "exec" in probe:  # a script that reads counters
            assert probe["exec"]["command"][2].endswith("/progress.py")
            continue
        asked = probe["httpGet"]["path"]
        assert not any(word in asked for word in INFERRING), asked


def test_liveness_is_slower_than_readiness(models):
    """A pod first leaves rotation; a restart costs minutes."""
    for model in models:
        window = {
            key: model.server[key]["periodSeconds"] * model.server[key]["failureThreshold"]
            for key in ("livenessProbe", "readinessProbe")
        }
        assert window["livenessProbe"] > window["readinessProbe"], model.name
        assert window["livenessProbe"] >= 30, model.name
        assert all(model.server[key]["timeoutSeconds"] > 1 for key in PROBES), "1 s, the default, fails under load"


def test_grace_covers_the_whole_drain(models):
    for model in models:
        drain, spec = model.spec["drain"], model.pod["spec"]
        teardown = model.runtime["lifecycle"]["teardownSeconds"]
        whole = drain["preStopSeconds"] + drain["requestSeconds"] + teardown
        assert spec["terminationGracePeriodSeconds"] >= whole, model.name
        # A server that ignores the signal lives to the end of the grace period and has nothing to tear down.
        assert (teardown > 0) == (model.runtime["lifecycle"]["sigterm"] != "ignore"), model.name


def test_pre_stop_needs_no_shell(models):
    for model in models:
        drain = model.spec["drain"]
        drops = model.runtime["lifecycle"]["sigterm"] == "abort"
        seconds = drain["preStopSeconds"] + drops * drain["requestSeconds"]
        assert model.server["lifecycle"] == {"preStop": {"sleep": {"seconds": seconds}}}, model.name


def test_the_server_drains_as_long_as_promised(models):
    """The runtime's drain flag, where the preset has one, is the same number the grace period was made from."""
    for model in models:
        wanted = str(model.spec["drain"]["requestSeconds"])
        for entry in model.runtime["args"]:
            if entry.get("from") == "drain.requestSeconds":
                args = model.server["args"]
                if "joiner" in entry:
                    assert f"{entry['flag']}{entry['joiner']}{wanted}" in args
                else:
                    assert args[args.index(entry["flag"]) + 1] == wanted


def test_no_shell_swallows_the_signal(case):
    for where, pod in pod_templates(case.objects):
        if where.split("/")[0] in SERVING:
            for c in pod["spec"]["containers"]:
                if c.get("command", [""])[0] in ("sh", "bash", "/bin/sh", "/bin/bash"):
                    # What comes last takes the shell's place.
                    assert c["command"][1:] == ["-c"], where
                    assert re.search(r"(^|&& )exec [^&|;]*$", c["args"][0]), where


def test_strategy(models):
    for model in models:
        wanted = {True: {"maxSurge": 1, "maxUnavailable": 0}, False: {"maxSurge": 0, "maxUnavailable": 1}}
        rolling = {"type": "RollingUpdate", "rollingUpdate": wanted[model.spec["rollout"]["spareGPU"]]}
        recreate = {"type": "Recreate"}
        if model.kind == "Deployment":
            how = recreate if model.spec["rollout"]["strategy"] == "Recreate" else rolling
            assert model.workload["spec"]["strategy"] == how
        if model.kind == "StatefulSet":
            assert model.workload["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
        if model.kind == "LeaderWorkerSet":  # which has neither of the fields below
            rolling = {"type": "RollingUpdate", "rollingUpdateConfiguration": wanted[model.spec["rollout"]["spareGPU"]]}
            assert model.workload["spec"]["rolloutStrategy"] == rolling
            continue
        for field in ("minReadySeconds", "revisionHistoryLimit"):
            assert model.workload["spec"].get(field, 0) == model.spec["rollout"][field]


@pytest.mark.parametrize("key", PROBES)
def test_probe_budget_is_finite(models, key):
    for model in models:
        probe = model.server[key]
        assert probe["periodSeconds"] >= probe["timeoutSeconds"] or key != "livenessProbe", model.name
        assert probe.get("initialDelaySeconds", 0) == 0, "the startup probe replaces initial delays"
