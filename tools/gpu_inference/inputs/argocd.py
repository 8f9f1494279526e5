"""Argo CD's Application and ApplicationSet.

What wins, the last one: the chart's defaults, valueFiles in their order, `values` or, where it is set, `valuesObject`
in its place, parameters (Argo CD 3.1: docs/user-guide/helm.md; ValuesYAML in pkg/apis/application/v1alpha1/types.go).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpu_inference.inputs.generators import expand
from gpu_inference.inputs.manifests import Manifest
from gpu_inference.inputs.source import NAME, checkout, is_ours, problem, values_file
from gpu_inference.validate.engine import Subject
from gpu_inference.values.loader import Document
from gpu_inference.values.parameters import Parameter
from gpu_inference.values.tree import Tree


def application(manifest: Manifest) -> Iterator[Subject]:
    """A subject for each source that is this chart."""
    yield from _sources(manifest, manifest.at("spec"))


def application_set(manifest: Manifest) -> Iterator[Subject]:
    """The same for every application the generators make."""
    template = manifest.at("spec", "template")
    if template is None:
        return
    for made in expand(manifest, template):
        if isinstance(made, Document):
            yield Subject([made])
        else:
            name = made.find(("metadata", "name")).value
            yield from _sources(manifest, made.child("spec"), str(name))


def _sources(manifest: Manifest, spec: Tree | None, name: str | None = None) -> Iterator[Subject]:
    several = spec.child("sources") if spec else None
    one = spec.child("source") if spec else None
    sources = several.value if several and isinstance(several.value, list) else [one] if one else []
    root = checkout(manifest.path)
    refs = {str(ref.value) for source in sources if (ref := source.child("ref"))}
    for source in sources:
        path, chart = source.child("path"), source.child("chart")
        folder = root / str(path.value) if path else root
        if (path and is_ours(folder)) or (chart and chart.value == NAME):
            helm = source.child("helm")
            layers = list(_layers(manifest, helm, root, folder, refs)) if helm else []
            label = f"{manifest.document.file} ({name})" if name else manifest.document.file
            yield Subject(layers, label, list(_parameters(helm)) if helm else [])


def _layers(manifest: Manifest, helm: Tree, root: Path, folder: Path, refs: set[str]) -> Iterator[Document]:
    files = helm.child("valueFiles")
    optional = helm.child("ignoreMissingValueFiles")
    for named in files.value if files and isinstance(files.value, list) else []:
        text = str(named.value)
        if text.startswith("$"):
            ref, _, rest = text[1:].partition("/")
            if ref not in refs:
                yield problem(manifest, named, "values-file", f"no source has ref: {ref}", "name one, or correct it")
                continue
            yield from values_file(manifest, named, root, rest, bool(optional and optional.value))
        elif "://" not in text:
            base, text = (root, text.lstrip("/")) if text.startswith("/") else (folder, text)
            yield from values_file(manifest, named, base, text, bool(optional and optional.value))
    inline = helm.child("valuesObject") or helm.child("values")
    yield from manifest.layer(inline)


def _parameters(helm: Tree) -> Iterator[Parameter]:
    entries = helm.child("parameters")
    for entry in entries.value if entries and isinstance(entries.value, list) else []:
        name, value, text = (entry.child(key) for key in ("name", "value", "forceString"))
        if name and value:
            yield Parameter(str(name.value), value, bool(text and text.value))
