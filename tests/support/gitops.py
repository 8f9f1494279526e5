"""What Argo CD and Flux make of the manifests in ci/: which chart with which values, under which name."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.paths import CHART, ROOT

from .expected import over
from .objects import Object
from .render import as_layer, helm, load_yaml, scratch_dir

ARGOCD = ROOT / "ci" / "argocd"
FLUX = ROOT / "ci" / "flux"
KINDS = ("Application", "ApplicationSet", "AppProject", "GitRepository", "HelmRelease")


def manifest(file: Path) -> dict[str, Any]:
    """A file that may be changed."""
    return copy.deepcopy(load_yaml(file))


def manifests() -> list[dict[str, Any]]:
    """All custom resources; the ApplicationSet also with its optional patch."""
    found = [manifest(f) for f in [*sorted(ARGOCD.glob("*.yaml")), *sorted(FLUX.glob("*.yaml"))]]
    patched = over(manifest(ARGOCD / "applicationset.yaml"), manifest(ARGOCD / "rolling-sync.yaml"))
    return [*(m for m in found if m["kind"] in KINDS and "strategy" not in m["spec"]), patched]


@dataclass(frozen=True)
class Deployed:
    """One release as a GitOps tool deploys it."""

    id: str
    release: str
    namespace: str
    chart: Path
    layers: tuple[Path, ...]
    ignored: frozenset[tuple[str, str, str]]  # (API group, kind, name) whose spec.replicas are not compared

    def __str__(self) -> str:
        return f"{self.namespace}/{self.id}"

    def render(self, major: int = 3) -> list[Object]:
        """What is applied. Both tools bundle Helm."""
        return helm(major).template(self.release, self.chart, layers=self.layers, namespace=self.namespace)


def from_application(application: dict[str, Any]) -> Deployed:
    """As Argo CD reads an Application: valueFiles are relative to the chart, the last one wins."""
    spec = application["spec"]
    source = spec["source"]
    chart = ROOT / source["path"]
    assert set(source["helm"]) <= {"releaseName", "valueFiles", "skipTests"}, "teach this the field"
    return Deployed(
        id=application["metadata"]["name"],
        release=source["helm"]["releaseName"],
        namespace=spec["destination"]["namespace"],
        chart=chart,
        layers=tuple((chart / file).resolve() for file in source["helm"]["valueFiles"]),
        ignored=_ignored(spec.get("ignoreDifferences", []), "jsonPointers"),
    )


def _ignored(rules: list[dict[str, Any]], paths: str) -> frozenset[tuple[str, str, str]]:
    assert all(rule[paths] == ["/spec/replicas"] for rule in rules), "nothing else is ignored"
    return frozenset((rule["group"], rule["kind"], rule["name"]) for rule in rules)


def from_applicationset(file: Path) -> list[dict[str, Any]]:
    """The Applications an ApplicationSet generates: the files' contents and paths fill the template, then the patch."""
    spec = manifest(file)["spec"]
    (generator,) = spec["generators"]
    made = []
    for entry in generator["git"]["files"]:
        path = ROOT / entry["path"]
        relative = path.relative_to(ROOT)
        params = {**load_yaml(path), "path": {"path": str(relative.parent), "filename": relative.name}}
        filled = _fill(spec["template"], params)
        patch = yaml.safe_load(_text(spec["templatePatch"], params)) or {}
        made.append(over(filled, patch))
    return made


def _fill(value: Any, params: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, params) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, params) for item in value]
    return _text(value, params) if isinstance(value, str) and "{{" in value else value


@functools.cache
def _engine() -> Path:
    """A chart that renders one template with one set of parameters: Helm's functions are sprig's, as Argo CD's are."""
    chart = scratch_dir("engine")
    (chart / "templates").mkdir(exist_ok=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: engine, version: 1.0.0}")
    text = "made: {{ tpl .Values.template .Values.params | toJson }}"
    (chart / "templates" / "made.yaml").write_text(text)
    return chart


def _text(template: str, params: dict[str, Any]) -> str:
    (made,) = helm().template("engine", _engine(), layers=[as_layer({"template": template, "params": params})])
    return made["made"]


def from_helmrelease(release: dict[str, Any]) -> Deployed:
    """As Flux reads a HelmRelease: valuesFiles, relative to the repository, stand in for the chart's values."""
    spec = release["spec"]
    chart = spec["chart"]["spec"]
    files = [ROOT / file for file in chart["valuesFiles"]]
    assert files[0] == CHART / "values.yaml", "without it the chart has no defaults"
    return Deployed(
        id=f"flux-{release['metadata']['name']}",
        release=spec["releaseName"],
        namespace=release["metadata"]["namespace"],
        chart=ROOT / chart["chart"],
        layers=tuple(files),
        ignored=frozenset(
            (rule["target"]["group"], rule["target"]["kind"], rule["target"]["name"])
            for rule in spec["driftDetection"]["ignore"]
            if rule["paths"] == ["/spec/replicas"]
        ),
    )


def deployed() -> list[Deployed]:
    """Everything the manifests deploy."""
    applications = [manifest(ARGOCD / "application.yaml"), *from_applicationset(ARGOCD / "applicationset.yaml")]
    return [*map(from_application, applications), from_helmrelease(manifest(FLUX / "helmrelease.yaml"))]
