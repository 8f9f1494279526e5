"""kube-score finds nothing critical in any values file, but for what is waived with a reason."""

from __future__ import annotations

import copy
import fnmatch
import functools
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support.matrix import SCENARIOS, scenario
from support.objects import one
from support.render import load_yaml

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.errors import UserError
from gpu_inference.paths import ROOT

WAIVERS = load_yaml(ROOT / "tests" / "render" / "kube_score_waivers.yaml")
KUBERNETES = "v1.36"
CRITICAL = 1  # kube-score's grade

Finding = tuple[str, str, str, str]  # values file, Kind/name, check, what it says


@functools.cache
def _binary() -> Path:
    try:
        return find_or_build(["kube-score"])["kube-score"]
    except UserError as error:
        pytest.skip(f"no kube-score: {error.message}")


def critical(values: str, objects: Iterable[dict[str, Any]]) -> list[Finding]:
    """What kube-score calls critical."""
    text = "\n---\n".join(map(json.dumps, objects))
    command = [str(_binary()), "score", "--kubernetes-version", KUBERNETES, "--output-format", "json", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert not done.stderr, done.stderr
    found = []
    for scored in json.loads(done.stdout):
        where = f"{scored['type_meta']['kind']}/{scored['object_meta']['name']}"
        for check in scored["checks"]:
            if check["grade"] == CRITICAL and not check["skipped"]:
                said = "; ".join(comment["summary"] for comment in check["comments"] or [])
                found.append((values, where, check["check"]["id"], said))
    return found


@functools.cache
def findings() -> list[Finding]:
    return [finding for name in SCENARIOS for finding in critical(name, scenario(name).objects)]


def waives(waiver: dict[str, str], finding: Finding) -> bool:
    values, where, check, _ = finding
    return (
        waiver["check"] == check
        and fnmatch.fnmatchcase(values, waiver.get("values", "*"))
        and fnmatch.fnmatchcase(where, waiver.get("where", "*"))
    )


def test_nothing_is_critical():
    assert [finding for finding in findings() if not any(waives(waiver, finding) for waiver in WAIVERS)] == []


@pytest.mark.parametrize("waiver", WAIVERS, ids=lambda waiver: waiver["check"])
def test_every_waiver_is_about_something_and_says_why(waiver):
    assert any(waives(waiver, finding) for finding in findings())
    assert len(waiver["reason"].split()) > 5


def test_a_policy_is_seen_where_there_is_one():
    """The widest waiver hides no servers that have asked for a policy."""
    told = {where for values, where, check, _ in findings() if values == "traffic" and check == "pod-networkpolicy"}
    assert {where.split("/")[0] for where in told} <= {"Pod"}


def test_a_critical_finding_is_seen():
    objects = copy.deepcopy(scenario("dev").objects)
    container = one(objects, "Deployment", "qwen")["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["privileged"] = True
    del container["resources"]["limits"]
    seen = {check for _, _, check, _ in critical("dev", objects)}
    assert {"container-security-context-privileged", "container-resources"} <= seen
