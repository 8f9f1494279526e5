"""Lists of releases as helmfile has them: releases: [{name, chart, values: [file or map, …], set: [{name, value}]}]."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_inference.inputs.manifests import Manifest
from gpu_inference.inputs.source import NAME, is_ours, values_file
from gpu_inference.validate.engine import Subject
from gpu_inference.validate.waiting import Wait, seconds
from gpu_inference.values.parameters import Parameter
from gpu_inference.values.tree import Path, Tree


def releases(manifest: Manifest) -> Iterator[Subject]:
    """A subject for each release of this chart: a folder that is it, or a repository's chart of its name."""
    folder = manifest.path.resolve().parent
    for index, release in enumerate(_items(manifest.at("releases"))):
        chart, name = release.child("chart"), release.child("name")
        if chart is None or not isinstance(chart.value, str):
            continue
        local = chart.value.startswith((".", "/"))
        if not (is_ours(folder / chart.value) if local else chart.value.rsplit("/", 1)[-1] == NAME):
            continue
        layers = []
        for entry in _items(release.child("values")):
            if isinstance(entry.value, str):
                layers += values_file(manifest, entry, folder, entry.value)
            else:
                layers += manifest.layer(entry)
        parameters = [
            Parameter(str(key.value), value)
            for entry in _items(release.child("set"))
            if (key := entry.child("name")) and (value := entry.child("value"))
        ]
        label = f"{manifest.document.file} ({name.value})" if name else manifest.document.file
        yield Subject(layers, label, parameters, tuple(_waits(manifest, index, release)))


def _waits(manifest: Manifest, index: int, release: Tree) -> Iterator[Wait]:
    """How long helmfile has Helm wait, if it does; 300 seconds by itself."""
    waiting = release.child("wait") or manifest.at("helmDefaults", "wait")
    own, common = release.child("timeout"), manifest.at("helmDefaults", "timeout")
    told = own or common
    patience = seconds(told.value) if told else 300.0
    if waiting and waiting.value is True and patience is not None:
        path: Path = ("helmDefaults", "timeout") if told is common and common else ("releases", index, "timeout")
        yield Wait(patience, path, (told or release).at, duration=False)


def _items(tree: Tree | None) -> list[Tree]:
    return tree.value if tree and isinstance(tree.value, list) else []
