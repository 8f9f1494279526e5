"""Argo CD's health checks, run by the interpreter it uses with the libraries it opens, on states controllers write."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.render import load_yaml

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.crds import definitions
from gpu_inference.errors import UserError
from gpu_inference.paths import ROOT

DATA = load_yaml(ROOT / "ci" / "argocd" / "argocd-cm.yaml")["data"]
PREFIX = "resource.customizations.health."
CHECKS = {key.removeprefix(PREFIX): text for key, text in DATA.items() if key.startswith(PREFIX)}
# Argo CD 3.6.1, util/lua/lua.go: package, base, table and a safe part of os; no string, math, io, debug, coroutine.
CLOSED = "string, math, io, debug, coroutine, channel = nil"


@pytest.fixture(scope="module")
def lua() -> Path:
    try:
        return find_or_build(["glua"])["glua"]
    except UserError as error:
        pytest.skip(f"no Lua interpreter: {error.message}")


def literal(value: Any) -> str:
    """A Lua literal of JSON-like data."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{json.dumps(k)}] = {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(literal, value)) + "}"
    return json.dumps(value)


def health(lua: Path, check: str, status: dict[str, Any] | None, tmp_path: Path) -> tuple[str, str]:
    """(status, message) of an object of generation 2."""
    obj = {"metadata": {"name": "m", "generation": 2}, "spec": {}, **({} if status is None else {"status": status})}
    script = tmp_path / "health.lua"
    script.write_text(
        f"{CLOSED}\nobj = {literal(obj)}\n"
        f"local function check()\n{CHECKS[check]}\nend\n"
        'local hs = check()\nprint(hs.status .. "\\n" .. hs.message)\n'
    )
    done = subprocess.run([str(lua), str(script)], capture_output=True, text=True, timeout=20)
    assert not done.stderr, done.stderr
    first, _, rest = done.stdout.partition("\n")
    return first, rest.strip()


def condition(kind: str, status: str = "True", message: str = "", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": kind, "message": message, **more}


LWS = "leaderworkerset.x-k8s.io_LeaderWorkerSet"
RAY = "ray.io_RayService"
POOL = "inference.networking.k8s.io_InferencePool"
NIM = "apps.nvidia.com_NIMService"
CACHE = "apps.nvidia.com_NIMCache"
FAILED = {"applicationStatuses": {"llm": {"status": "DEPLOY_FAILED", "message": "out of memory"}}}

# (check, status of the object, health, what the message says)
STATES: list[tuple[str, dict[str, Any] | None, str, str]] = [
    *((check, None, "Progressing", "Waiting") for check in (LWS, RAY, POOL, NIM, CACHE)),
    *((check, {}, "Progressing", "Waiting") for check in (LWS, RAY, POOL, NIM, CACHE)),
    (LWS, {"conditions": [condition("Available", message="All replicas are ready")]}, "Healthy", "All replicas"),
    (LWS, {"conditions": [condition("Available", "False"), condition("Progressing")]}, "Progressing", ""),
    (
        LWS,
        {
            "conditions": [
                condition("Available", "False"),
                condition("Progressing", message="a"),
                condition("UpdateInProgress", message="Rolling Upgrade is in progress"),
            ]
        },
        "Progressing",
        "Rolling Upgrade",
    ),
    (LWS, {"observedGeneration": 1, "conditions": [condition("Available")]}, "Progressing", "Waiting"),
    (LWS, {"observedGeneration": 2, "conditions": [condition("Available")]}, "Healthy", ""),
    (RAY, {"serviceStatus": "Running"}, "Healthy", "Running"),
    (RAY, {"serviceStatus": "WaitForServeDeploymentReady"}, "Progressing", "WaitForServe"),
    (RAY, {"serviceStatus": "Running", "activeServiceStatus": FAILED}, "Degraded", "llm is DEPLOY_FAILED: out of mem"),
    (RAY, {"conditions": [condition("Ready")], "pendingServiceStatus": FAILED}, "Degraded", "DEPLOY_FAILED"),
    (RAY, {"conditions": [condition("Ready", message="serve endpoints: 1")]}, "Healthy", "serve endpoints"),
    (RAY, {"conditions": [condition("Ready", "False", "no endpoint")]}, "Progressing", "no endpoint"),
    (RAY, {"conditions": [condition("Ready", "False", reason="InitializingTimeout")]}, "Degraded", ""),
    (RAY, {"conditions": [condition("Ready"), condition("UpgradeInProgress", message="both")]}, "Progressing", "both"),
    (RAY, {"conditions": [condition("Ready"), condition("UpgradeInProgress", "False")]}, "Healthy", ""),
    (RAY, {"observedGeneration": 1, "conditions": [condition("Ready")]}, "Progressing", "Waiting"),
    (POOL, {"parents": []}, "Progressing", "Waiting"),
    (POOL, {"parents": [{"conditions": [condition("Accepted"), condition("ResolvedRefs")]}]}, "Healthy", "Accepted"),
    (
        POOL,
        {"parents": [{"conditions": [condition("Accepted"), condition("ResolvedRefs", "False", "no such Service")]}]},
        "Degraded",
        "ResolvedRefs: no such Service",
    ),
    (POOL, {"parents": [{"conditions": [condition("Accepted", observedGeneration=1)]}]}, "Progressing", ""),
    *(
        (check, {"state": state}, wanted, state)
        for check in (NIM, CACHE)
        for state, wanted in {
            "Ready": "Healthy",
            "NotReady": "Progressing",
            "Pending": "Progressing",
            "Failed": "Degraded",
        }.items()
    ),
    *((CACHE, {"state": state}, "Progressing", state) for state in ("PVC-Created", "Started", "InProgress")),
    (
        NIM,
        {"state": "Failed", "conditions": [condition("NIM_SERVICE_FAILED", message="no GPU left")]},
        "Degraded",
        "no GPU left",
    ),
]


@pytest.mark.parametrize(("check", "status", "wanted", "says"), STATES)
def test_health(lua, tmp_path, check, status, wanted, says):
    got, message = health(lua, check, status, tmp_path)
    assert got == wanted, message
    assert says in message


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_tells_good_from_not_yet(check):
    seen = {wanted for name, _, wanted, _ in STATES if name == check}
    assert seen == {"Healthy", "Progressing", "Degraded"} - ({"Degraded"} if check == LWS else set())


def test_checks_are_for_kinds_the_chart_can_render():
    kinds = {f"{d['spec']['group']}_{d['spec']['names']['kind']}" for d in definitions()}
    assert CHECKS.keys() <= kinds
    # Of the others, Argo CD 3.6 has checks of its own, or they have no state.
    assert kinds - CHECKS.keys() == {
        "argoproj.io_Application",
        "argoproj.io_ApplicationSet",
        "argoproj.io_AppProject",
        "external-secrets.io_ExternalSecret",
        "gateway.networking.k8s.io_GRPCRoute",
        "gateway.networking.k8s.io_HTTPRoute",
        "helm.toolkit.fluxcd.io_HelmRelease",
        "keda.sh_ScaledObject",
        "monitoring.coreos.com_PodMonitor",
        "monitoring.coreos.com_PrometheusRule",
        "monitoring.coreos.com_ServiceMonitor",
        "source.toolkit.fluxcd.io_GitRepository",
    }
