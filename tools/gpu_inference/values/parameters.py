"""Single values that are set by name, as with helm's --set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpu_inference.values.loader import MAX_DEPTH
from gpu_inference.values.scalars import Scalar
from gpu_inference.values.tree import Position, Tree

# A key up to an unescaped dot, and the indices after it.
_STEP = re.compile(r"((?:\\.|[^.\[\\])+)((?:\[\d+\])*)(?:\.|$)")
# Helm's own bound of an index, which keeps `a[1000000000]` from filling the memory; here also of all indices together.
_MOST = 65536


class ParameterError(ValueError):
    """A name that cannot be read, and where it was written."""

    def __init__(self, message: str, at: Position) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True, slots=True)
class Parameter:
    """`name` as helm's --set takes it, `a.b[0].c\\.d`; `value` is where it was written."""

    name: str
    value: Tree
    text: bool = False


def with_parameters(values: Tree, parameters: Sequence[Parameter]) -> Tree:
    """The values with each parameter set in turn; ParameterError for a name that cannot be read."""
    indices = 0
    for parameter in parameters:
        try:
            path = steps(parameter.name)
        except ValueError as error:
            raise ParameterError(str(error), parameter.value.at) from error
        indices += sum(step for step in path if isinstance(step, int))
        if len(path) > MAX_DEPTH or indices > _MOST:
            raise ParameterError(f"{parameter.name[:60]!r} goes too deep, or makes lists too long", parameter.value.at)
        values = _set(values, path, replace(parameter.value, value=_typed(parameter)))
    return values


def steps(name: str) -> list[str | int]:
    """The path a name stands for: `a[0].b\\.c` is a, 0, b.c. ValueError for what is none."""
    path: list[str | int] = []
    end = 0
    for found in _STEP.finditer(name):
        if found.start() != end:
            break
        end = found.end()
        path.append(re.sub(r"\\(.)", r"\1", found[1]))
        path += [int(index) for index in re.findall(r"\d+", found[2])]
    if not path or end != len(name) or name.endswith(".") or any(isinstance(s, int) and s > _MOST for s in path):
        raise ValueError(f"{name!r} is no path of values")
    return path


def _typed(parameter: Parameter) -> Scalar | list[Tree]:
    """What Helm makes of the text (`typedVal` in pkg/strvals/parser.go, Helm 4.3.1): a list in braces, a boolean, null,
    an integer without leading zeros, else text."""
    value = parameter.value.value
    text = value if isinstance(value, str) else "" if value is None else str(value).lower()
    if parameter.text:
        return text
    if text.startswith("{") and text.endswith("}"):
        return [replace(parameter.value, value=_scalar(item)) for item in text[1:-1].split(",") if item]
    return _scalar(text)


def _scalar(text: str) -> Scalar:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() == "null":
        return None
    if text == "0" or re.fullmatch(r"-?[1-9][0-9]{0,17}", text):
        return int(text)
    return text


def _set(below: Tree | None, path: list[str | int], value: Tree) -> Tree:
    if not path:
        return value
    step, *rest = path
    if isinstance(step, str):
        inside = dict(below.value) if below and isinstance(below.value, dict) else {}
        inside[step] = _set(inside.get(step), rest, value)
        return Tree(inside, below.at if below else value.at, below.key_at if below else value.at)
    items = list(below.value) if below and isinstance(below.value, list) else []
    items += [Tree(None, value.at)] * (step + 1 - len(items))
    items[step] = _set(items[step], rest, value)
    return Tree(items, below.at if below else value.at, below.key_at if below else value.at)
