"""Flux' HelmRelease (helm.toolkit.fluxcd.io/v2).

What wins, the last one: the chart's defaults, the source's valuesFiles, valuesFrom in its order, `values`
(https://fluxcd.io/flux/components/helm/helmreleases/#values, 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpu_inference.inputs.manifests import Manifest, documents
from gpu_inference.inputs.source import NAME, checkout, is_ours, problem, values_file
from gpu_inference.validate.engine import Subject
from gpu_inference.validate.waiting import Wait, seconds
from gpu_inference.values.loader import Document, load
from gpu_inference.values.parameters import Parameter
from gpu_inference.values.tree import Tree


def helm_release(manifest: Manifest) -> Iterator[Subject]:
    """A subject where the release is of this chart."""
    chart = manifest.at("spec", "chart", "spec", "chart")
    if chart is None or not isinstance(chart.value, str):
        return
    root = checkout(manifest.path)
    if chart.value.rsplit("/", 1)[-1] != NAME and not is_ours(root / chart.value):
        return
    layers = []
    files = manifest.at("spec", "chart", "spec", "valuesFiles")
    for named in files.value if files and isinstance(files.value, list) else []:
        layers += values_file(manifest, named, root, str(named.value).removeprefix("./"))
    parameters = []
    references = manifest.at("spec", "valuesFrom")
    for reference in references.value if references and isinstance(references.value, list) else []:
        target = reference.child("targetPath")
        for found in _referenced(manifest, reference):
            if isinstance(found, Document):
                layers.append(found)
            elif target:
                parameters.append(Parameter(str(target.value), found))
            else:
                layers += manifest.layer(found)
    layers += manifest.layer(manifest.at("spec", "values"))
    yield Subject(layers, manifest.document.file, parameters, tuple(_waits(manifest)))


def _waits(manifest: Manifest) -> Iterator[Wait]:
    """How long Flux waits for pods, unless it is told not to; 5 minutes by itself."""
    for action in ("install", "upgrade"):
        off = manifest.at("spec", action, "disableWait")
        own, common = manifest.at("spec", action, "timeout"), manifest.at("spec", "timeout")
        told = own or common
        at = told or manifest.at("spec")
        patience = seconds(told.value) if told else 300.0
        if at and patience is not None and not (off and off.value is True):
            yield Wait(patience, ("spec", action, "timeout") if own else ("spec", "timeout"), at.at)


def _referenced(manifest: Manifest, reference: Tree) -> Iterator[Tree | Document]:
    """The text a ConfigMap holds, looked for beside the release; a Secret's is nobody's business here."""
    given = reference.plain() if isinstance(reference.value, dict) else {}
    fields = {"kind": "", "name": "", "valuesKey": "values.yaml", "optional": False, **given}
    for file in sorted({*manifest.path.resolve().parent.glob("*.yaml"), *manifest.path.resolve().parent.glob("*.yml")}):
        for other in documents(load(manifest.path if file == manifest.path.resolve() else Path(file)), manifest.path):
            named = other.at("metadata", "name")
            text = other.at("data", fields["valuesKey"])
            if text and named and (other.plain.get("kind"), named.value) == (fields["kind"], fields["name"]):
                if reference.child("targetPath"):
                    yield text
                else:
                    yield from other.layer(text)
                return
    if not fields["optional"]:
        what = f"{fields['kind']} {fields['name']}"
        fix = "keep it beside the release, or check the values by themselves"
        yield problem(manifest, reference, "not-expanded", f"what {what} holds is known to the cluster only", fix)
