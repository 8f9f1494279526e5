"""Rendered objects are shared by many tests: a test that changes one would change another's data."""

from __future__ import annotations

from typing import Any


def _refuse(*_: Any, **__: Any) -> Any:
    raise TypeError("rendered objects are shared between tests: copy.deepcopy them before changing anything")


class FrozenDict(dict):
    """A dict that compares and prints as one, and cannot be changed."""

    __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = __ior__ = _refuse  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict) -> dict:
        return thaw(self)


class FrozenList(list):
    """A list that compares and prints as one, and cannot be changed."""

    __setitem__ = __delitem__ = append = extend = insert = pop = remove = clear = sort = reverse = _refuse  # type: ignore[assignment]
    __iadd__ = __imul__ = _refuse  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict) -> list:
        return thaw(self)


def freeze(value: Any) -> Any:
    """The same JSON-like value, deeply unchangeable."""
    if isinstance(value, dict):
        return FrozenDict((k, freeze(v)) for k, v in value.items())
    if isinstance(value, list):
        return FrozenList(freeze(v) for v in value)
    return value


def thaw(value: Any) -> Any:
    """A deep copy that may be changed."""
    if isinstance(value, dict):
        return {k: thaw(v) for k, v in value.items()}
    if isinstance(value, list):
        return [thaw(v) for v in value]
    return value
