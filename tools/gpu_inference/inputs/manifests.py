"""The documents of a file, and values inside of them, with the positions they have in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from gpu_inference.values.loader import Document, Problem, parse
from gpu_inference.values.tree import Position, Tree


@dataclass(frozen=True)
class Manifest:
    """One document of a file."""

    document: Document
    path: Path

    @property
    def plain(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document.tree.plain()
        return found

    def at(self, *steps: str | int) -> Tree | None:
        """What lies at a path of the document, with its positions; None where nothing does."""
        here: Tree | None = self.document.tree
        for step in steps:
            here = here.child(step) if here else None
        return here

    def layer(self, tree: Tree | None) -> list[Document]:
        """Values that stand in the manifest itself, a map or the text of one, as a layer; none where there are none."""
        if tree is None or tree.value in (None, "", {}):
            return []
        if isinstance(tree.value, str):
            return [self._of_text(tree)]
        if not isinstance(tree.value, dict):
            found = Problem("type", "values are a map of keys to values", "write `key: value` lines", tree.at)
            return [replace(self.document, tree=Tree({}, tree.at), problems=[found], complete=False)]
        return [replace(self.document, tree=tree, problems=[])]

    def _of_text(self, tree: Tree) -> Document:
        """A block's lines are read where they stand; what is quoted lies, as a whole, where it begins."""
        lines = self.document.lines
        header = lines[tree.at.line - 1][tree.at.column - 1 :]
        if not header.startswith("|"):
            document = parse(str(tree.value).encode(), tree.at.file)
            at = tree.at
            problems = [replace(problem, at=at) for problem in document.problems]
            return replace(document, tree=_moved(document.tree, at), problems=problems, lines=lines)
        end = tree.at.line
        first = next((n for n in range(end, len(lines)) if lines[n].strip()), end)
        indent = len(lines[first]) - len(lines[first].lstrip(" ")) if first < len(lines) else 0
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" " * indent)):
            end += 1
        block = "\n".join(lines[tree.at.line : end])
        return replace(parse(block.encode(), tree.at.file, tree.at.line + 1), lines=lines)


def _moved(tree: Tree, at: Position) -> Tree:
    value = tree.value
    if isinstance(value, dict):
        value = {key: _moved(child, at) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_moved(child, at) for child in value]
    return Tree(value, at, at)


def documents(document: Document, path: Path) -> Iterator[Manifest]:
    """Every document of the file that `document` was read from, which holds the first alone."""
    starts = [n for n, line in enumerate(document.lines) if line.split("#")[0].rstrip() == "---"]
    edges = sorted({0, *starts, len(document.lines)})
    for start, end in pairwise(edges):
        text = "\n".join(document.lines[start:end])
        yield Manifest(replace(parse(text.encode(), document.file, start + 1), lines=document.lines), path)
