"""The applications that an ApplicationSet's generators make, as far as a checkout tells.

Lists and git generators are expanded. Others ask a cluster or a service, which a pull request cannot, and so are named
as what was not checked. Templates may take a parameter through the few functions below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.inputs.manifests import Manifest
from gpu_inference.inputs.source import checkout, problem, too_large
from gpu_inference.values.loader import MAX_NODES, Document, load
from gpu_inference.values.tree import Tree

_FIELD = re.compile(r"{{-?\s*(.+?)\s*-?}}")
_WORD = re.compile(r"'[^']*'|\"[^\"]*\"|\S+")
_FUNCTIONS: Mapping[str, Callable[..., str]] = {
    "trimSuffix": lambda suffix, text: text.removesuffix(suffix),
    "trimPrefix": lambda prefix, text: text.removeprefix(prefix),
    "replace": lambda old, new, text: text.replace(old, new),
    "lower": lambda text: text.lower(),
    "normalize": lambda text: re.sub(r"[^a-z0-9.-]", "-", text.lower()),
    "quote": lambda text: f'"{text}"',
    "toString": str,
}


class _Unknown(Exception):
    """Something in a template that cannot be told here."""


def expand(manifest: Manifest, template: Tree) -> Iterator[Tree | Document]:
    """The template for each set of parameters, or a layer that says what could not be expanded."""
    left = 10 * MAX_NODES
    size = sum(1 for _ in template.walk())
    generators = manifest.at("spec", "generators")
    for generator in generators.value if generators and isinstance(generators.value, list) else []:
        kinds = generator.value if isinstance(generator.value, dict) else {}
        for kind, tree in kinds.items():
            if kind not in _GENERATORS:
                if kind not in ("selector",):
                    yield _unclear(manifest, tree, f"what the {kind} generator makes is known to the cluster only")
                continue
            for parameters in _GENERATORS[kind](manifest, tree.plain()):
                left -= size
                if left < 0:
                    yield too_large(manifest.document, tree.at, f"makes more than {10 * MAX_NODES} values")
                    return
                try:
                    yield _filled(template, parameters)
                except _Unknown as unknown:
                    yield _unclear(manifest, tree, str(unknown))


def _unclear(manifest: Manifest, at: Tree, message: str) -> Document:
    return problem(manifest, at, "not-expanded", message, "check those applications' values files by themselves")


def _entries(generator: Any, key: str) -> list[dict[str, Any]]:
    """The maps in a list of a generator; what is neither is for the cluster to refuse."""
    found = generator.get(key) if isinstance(generator, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _list(_: Manifest, generator: Any) -> Iterator[dict[str, Any]]:
    yield from _entries(generator, "elements")


def _git(manifest: Manifest, generator: Any) -> Iterator[dict[str, Any]]:
    root = checkout(manifest.path)
    for kind in ("files", "directories"):
        found: dict[Path, None] = {}
        for entry in _entries(generator, kind):
            wanted = [p for p in _matching(root, entry.get("path")) if p.is_dir() == (kind == "directories")]
            if entry.get("exclude"):
                found = {path: None for path in found if path not in wanted}
            else:
                found |= dict.fromkeys(wanted)
        for path in found:
            yield {**_content(path), "path": _path(path.relative_to(root), kind == "directories")}


def _matching(root: Path, pattern: Any) -> list[Path]:
    try:
        return sorted(root.glob(str(pattern or "")))
    except (OSError, ValueError, NotImplementedError):  # an empty pattern, `a**`, an absolute one
        return []


def _content(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {}
    try:
        found: dict[str, Any] = load(path).tree.plain()
    except UserError:
        return {}
    return found


def _path(path: Path, folder: bool) -> dict[str, Any]:
    """A file's parameters speak of its folder, but for the name."""
    place = path if folder else path.parent
    names = {"path": place.as_posix(), "basename": place.name, "segments": list(place.parts)}
    named = {} if folder else {"filename": path.name, "filenameNormalized": _FUNCTIONS["normalize"](path.name)}
    return {**names, "basenameNormalized": _FUNCTIONS["normalize"](place.name), **named}


_GENERATORS: Mapping[str, Callable[[Manifest, Any], Iterator[dict[str, Any]]]] = {"list": _list, "git": _git}


def _filled(tree: Tree, parameters: Mapping[str, Any]) -> Tree:
    value = tree.value
    if isinstance(value, dict):
        return replace(tree, value={key: _filled(child, parameters) for key, child in value.items()})
    if isinstance(value, list):
        return replace(tree, value=[_filled(child, parameters) for child in value])
    if isinstance(value, str) and "{{" in value:
        return replace(tree, value=_FIELD.sub(lambda found: _evaluated(found[1], parameters), value))
    return tree


def _evaluated(expression: str, parameters: Mapping[str, Any]) -> str:
    """`.path.basename`, `path.basename` (without goTemplate), and what a pipe of known functions makes of it."""
    first, *functions = (part.strip() for part in expression.split("|"))
    *called, operand = _WORD.findall(first) or [""]
    text = _looked_up(operand, parameters)
    for call in ([" ".join(called)] if called else []) + functions:
        name, *arguments = _WORD.findall(call)
        if name not in _FUNCTIONS:
            raise _Unknown(f"what {{{{ {expression} }}}} becomes is not known here")
        try:
            text = _FUNCTIONS[name](*(argument.strip("'\"") for argument in arguments), text)
        except TypeError as error:
            raise _Unknown(f"what {{{{ {expression} }}}} becomes is not known here") from error
    return text


def _looked_up(operand: str, parameters: Mapping[str, Any]) -> str:
    # Without goTemplate a folder is `path` itself.
    if operand == "path" and isinstance(parameters.get("path"), dict):
        operand = ".path.path"
    here: Any = parameters
    for key in operand.removeprefix(".").split("."):
        here = here.get(key) if isinstance(here, dict) else None
    if here is None or isinstance(here, dict | list):
        raise _Unknown(f"the generator sets no {operand}")
    return str(here)
