"""Definitions of optional APIs, without a cluster: names, types and sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.matrix import cases
from support.objects import walk
from support.render import load_yaml, render

from gpu_inference.cluster import crds
from gpu_inference.paths import VALUES

FILES = sorted(Path(crds.__file__).parent.glob("*.yaml"))
DEFINITIONS = {definition["spec"]["names"]["kind"]: definition for definition in crds.definitions()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_names_its_source(path):
    data = load_yaml(path)
    assert data["source"].startswith("https://")
    assert any(character.isdigit() for character in data["source"]), "with its version or date"
    assert data["kinds"]


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_names_are_the_servers(kind):
    spec = DEFINITIONS[kind]["spec"]
    assert DEFINITIONS[kind]["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert spec["names"]["plural"] == re.sub("ys$", "ies", kind.lower() + "s")


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_fields_have_types(kind):
    """An object without properties takes nothing at all: it has to be open, or a map."""
    (version,) = DEFINITIONS[kind]["spec"]["versions"]
    for path, node in walk(version["schema"]["openAPIV3Schema"]):
        if isinstance(node, dict) and node.get("type") == "object" and not path.endswith(".properties"):
            assert {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"} & node.keys(), path


def test_every_custom_object_of_the_chart_has_a_definition():
    objects = [o for case in cases() for o in case.objects]
    objects += render(
        {"modelDefaults": {"monitoring": {"podMonitor": {"enabled": True}}}}, layers=[VALUES / "prod.yaml"]
    )
    own = {
        "apps",
        "autoscaling",
        "policy",
        "networking.k8s.io",
        "batch",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
    }
    custom = {
        (o["kind"], o["apiVersion"])
        for o in objects
        if "/" in o["apiVersion"] and o["apiVersion"].split("/")[0] not in own
    }
    assert {kind for kind, _ in custom} >= {"LeaderWorkerSet", "PodMonitor"}
    known = {(k, f"{d['spec']['group']}/{d['spec']['versions'][0]['name']}") for k, d in DEFINITIONS.items()}
    assert custom <= known
