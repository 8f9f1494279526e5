"""Values that know where they were written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gpu_inference.values.scalars import Scalar

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Tree:
    """A value with the position of itself and, inside a map, of its key.

    `value` is a scalar, a dict of trees or a list of trees. Trees are shared between layers, so nothing changes one
    after it was built.
    """

    value: Scalar | dict[str, Tree] | list[Tree]
    at: Position
    key_at: Position | None = None

    def plain(self) -> Any:
        """The bare data, made anew at each call."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def find(self, path: Iterable[str | int]) -> Tree:
        """The deepest tree on the way along path: the thing itself, or the nearest ancestor of a thing that is not
        there."""
        here = self
        for step in path:
            below = here.child(step)
            if below is None:
                break
            here = below
        return here

    def child(self, step: str | int) -> Tree | None:
        if isinstance(self.value, dict) and isinstance(step, str):
            return self.value.get(step)
        if isinstance(self.value, list) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Tree]]:
        """Every tree at and below this one with its path."""
        yield path, self
        if isinstance(self.value, dict):
            for key, child in self.value.items():
                yield from child.walk((*path, key))
        elif isinstance(self.value, list):
            for index, child in enumerate(self.value):
                yield from child.walk((*path, index))


def format_path(path: Iterable[str | int]) -> str:
    """`$.models.llama.args[0]`; a key that is no plain word is quoted: `$.env["a b"]`."""
    text = "$"
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("-", "_").isidentifier():
            text += f".{step}"
        else:
            text += f'["{step}"]'
    return text
