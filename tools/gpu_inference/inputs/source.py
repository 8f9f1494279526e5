"""The chart and the values files that a manifest names, found in the checkout the manifest is part of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from gpu_inference.errors import UserError
from gpu_inference.inputs.manifests import Manifest
from gpu_inference.validate.engine import Subject
from gpu_inference.values.loader import Document, Problem, load
from gpu_inference.values.tree import Position, Tree

Reader = Callable[[Manifest], Iterator[Subject]]
NAME = "gpu-inference"


def checkout(file: Path) -> Path:
    """The root of the repository a file is part of: the nearest folder with .git, else the file's own."""
    here = file.resolve().parent
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)


def is_ours(folder: Path) -> bool:
    """Whether a folder is this chart."""
    try:
        name = load(folder / "Chart.yaml").tree.child("name")
    except (UserError, ValueError):  # ValueError: no path can have this name
        return False
    return name is not None and name.value == NAME


def values_file(manifest: Manifest, named: Tree, folder: Path, pattern: str, optional: bool = False) -> list[Document]:
    """The files a pattern names in a folder, in order. One that is missing is a problem at the place that names it."""
    try:
        paths = sorted(folder.glob(pattern)) if any(char in pattern for char in "*?[") else [folder / pattern]
        found = [path for path in paths if path.is_file()]
    except (OSError, ValueError, NotImplementedError):  # no file can be called this
        found = []
    if found:
        return [load(_shortest(path)) for path in found]
    if optional:
        return []
    return [
        problem(manifest, named, "values-file", f"there is no {pattern} in {_shortest(folder)}", "correct the path")
    ]


def problem(manifest: Manifest, at: Tree, rule: str, message: str, fix: str) -> Document:
    """A layer that says why there is none."""
    found = Problem(rule, message, fix, at.at)
    return replace(manifest.document, tree=Tree({}, at.at), problems=[found], complete=False)


def too_large(document: Document, at: Position, message: str) -> Document:
    """A layer that says that there is more than is checked."""
    found = Problem("size", f"{message}: the rest is not checked", "split it", at)
    return replace(document, tree=Tree({}, at), problems=[found], complete=False)


def _shortest(path: Path) -> Path:
    try:
        resolved = path.resolve()
    except (OSError, ValueError):
        return path
    return resolved.relative_to(Path.cwd()) if resolved.is_relative_to(Path.cwd()) else resolved
