"""What can be given to `validate`: values files, folders, and the manifests that install the chart with values.

A folder is read for every YAML file in it. A file is a manifest when its documents say apiVersion and kind (Argo CD's
Application and ApplicationSet, Flux' HelmRelease), a list of releases when it has `releases` (helmfile), else values.
Values that are only meant to go over others say so in their first comment, and are judged with them:

    # gpu-inference: over ../prod.yaml
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_inference.errors import UserError
from gpu_inference.inputs import argocd, flux, helmfile
from gpu_inference.inputs.manifests import Manifest, documents
from gpu_inference.inputs.source import Reader, problem, too_large, values_file
from gpu_inference.resolve import chart_defaults
from gpu_inference.validate.engine import Subject
from gpu_inference.values.loader import Document, load
from gpu_inference.values.tree import Position, Tree

# # gpu-inference: over ../base.yaml, ../prod.yaml
_OVER = re.compile(r"#\s*gpu-inference:\s*over\s+(\S.*?)\s*$")
# Sets of values in one file.
MAX_SUBJECTS = 1000
_SUFFIXES = (".yaml", ".yml")
_READERS: Mapping[str, Reader] = {
    "Application": argocd.application,
    "ApplicationSet": argocd.application_set,
    "HelmRelease": flux.helm_release,
}
_GROUPS = {"Application": "argoproj.io/", "ApplicationSet": "argoproj.io/", "HelmRelease": "helm.toolkit.fluxcd.io/"}


@dataclass(frozen=True, slots=True)
class File:
    """A file that was named, or found in a folder that was."""

    path: Path
    found: bool = False


def subjects(paths: Iterable[Path]) -> Iterator[Subject]:
    """What is to be judged together, for each path in turn. UserError for a path that cannot be read."""
    for file in files(paths):
        yield from subjects_of(file)


def files(paths: Iterable[Path]) -> Iterator[File]:
    """The files to read. UserError for a folder without any."""
    for path in paths:
        if not path.is_dir():
            yield File(path)
            continue
        below = sorted(p for suffix in _SUFFIXES for p in path.rglob(f"*{suffix}") if not _hidden(p, path))
        if not below:
            raise UserError(f"{path} holds no YAML files", fix="name values files, or a folder that has some")
        yield from (File(each, found=True) for each in below)


def subjects_of(file: File) -> Iterator[Subject]:
    """What is to be judged together of one file. UserError if it cannot be read."""
    document = load(file.path)
    if not file.found or _is_our_business(document):
        yield from _of_file(file.path, document)


def _is_our_business(document: Document) -> bool:
    """Folders hold other people's files, too, and templates, which are no YAML before they are rendered."""
    if not document.complete:
        return not (_no_map(document) or any("{{" in line for line in document.lines))
    return _is_manifest(document) or _is_list(document) or _looks_like_ours(document)


def _of_file(path: Path, document: Document) -> Iterator[Subject]:
    """The sets of values in a file, no more than anybody keeps in one."""
    for number, subject in enumerate(_all_of_file(path, document)):
        if number == MAX_SUBJECTS:
            at = Position(document.file, 1, 1)
            yield Subject([too_large(document, at, f"installs the chart more than {MAX_SUBJECTS} times")])
            return
        yield subject


def _all_of_file(path: Path, document: Document) -> Iterator[Subject]:
    if _is_list(document):
        yield from helmfile.releases(Manifest(document, path))
    elif _is_manifest(document):
        for manifest in documents(document, path):
            kind = str(manifest.plain.get("kind"))
            if kind in _READERS and str(manifest.plain.get("apiVersion")).startswith(_GROUPS[kind]):
                yield from _READERS[kind](manifest)
    else:
        yield Subject(_with_what_is_below(path, document))


def _with_what_is_below(path: Path, document: Document, above: tuple[Path, ...] = ()) -> list[Document]:
    """The layers of a file that says what it goes over, in its first comment; else the file alone."""
    for number, line in enumerate(document.lines):
        if line.strip() and not line.startswith("#"):
            break
        found = _OVER.match(line)
        if found:
            at = Tree({}, Position(document.file, number + 1, found.start(1) + 1))
            names = [name.strip() for name in found[1].split(",")]
            here = (*above, path.resolve())
            below = [layer for name in names for layer in _below(Manifest(document, path), at, name, here)]
            return [*below, document]
    return [document]


def _below(manifest: Manifest, at: Tree, name: str, above: tuple[Path, ...]) -> list[Document]:
    file = (manifest.path.parent / name).resolve()
    if file in above:
        return [problem(manifest, at, "values-file", f"{name} goes over this file itself", "name what lies below it")]
    (layer,) = values_file(manifest, at, manifest.path.parent, name)
    return _with_what_is_below(file, layer, above) if layer.complete else [layer]


def _no_map(document: Document) -> bool:
    return [problem.rule for problem in document.problems] == ["type"]


def _is_manifest(document: Document) -> bool:
    keys = document.tree.value
    return isinstance(keys, dict) and {"apiVersion", "kind"} <= keys.keys()


def _is_list(document: Document) -> bool:
    releases = document.tree.child("releases")
    return releases is not None and isinstance(releases.value, list)


def _looks_like_ours(document: Document) -> bool:
    """Has models, or more keys of ours than others: values of other charts have `global`, kustomizations `images`."""
    defaults = chart_defaults().tree.value
    keys = document.tree.value
    if not (isinstance(keys, dict) and isinstance(defaults, dict)):
        return False
    models = document.tree.child("models")
    return bool(models and isinstance(models.value, dict)) or 2 * len(keys.keys() & defaults.keys()) > len(keys)


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(below).parts)
