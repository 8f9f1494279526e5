"""Whether values satisfy the chart's schema, and nothing more: the schema as closures, an order of magnitude faster
than a validator that can explain. Most values are right, and then no explanation is needed.

It knows the keywords the schema uses, as JSON Schema 2020-12 defines them; a test holds both validators to one verdict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from gpu_inference.paths import CHART
from gpu_inference.schema.bundle import bundle

Check = Callable[[Any], bool]
_Make = Callable[[Any, Mapping[str, Any], Callable[[Any], Check]], Check | None]


@cache
def satisfies(entry: str | None = None) -> Check:
    """The verdict on merged values by chart/values.schema.json, the file that Helm checks them against; or on a part of
    them by the definition `entry`."""
    return compiled(bundle(entry) if entry else json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))


def compiled(schema: Mapping[str, Any]) -> Check:
    """The verdict of a schema with its definitions under $defs. KeyError for a keyword that is not known here."""
    definitions: dict[str, Check] = {}

    def compile_one(part: Any) -> Check:
        made = [makers[keyword](value, part, compile_one) for keyword, value in part.items()]
        checks = tuple(check for check in made if check)
        if len(checks) == 1:
            return checks[0]

        def every(value: Any) -> bool:
            for check in checks:  # noqa: SIM110  (a generator costs more than the checks)
                if not check(value):
                    return False
            return True

        return every

    def reference(target: str, _: Any, __: Any) -> Check:
        name = target.removeprefix("#/$defs/")
        if name not in definitions:
            definitions[name] = lambda value: definitions[name](value)  # until it is made: it may contain itself
            definitions[name] = compile_one(schema["$defs"][name])
        return definitions[name]

    makers: Mapping[str, _Make] = {**_KEYWORDS, "$ref": reference}
    return compile_one(schema)


def regex(pattern: str) -> re.Pattern[str]:
    """Helm's regular expressions are RE2's, where `$` is the end of the text and not also the place before a last
    newline."""
    return re.compile(re.sub(r"\$$", r"\\Z", pattern))


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON scalars, to which true is not 1."""
    return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Check] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
}


def _type(wanted: Any, _: Any, __: Any) -> Check:
    if isinstance(wanted, str):
        return _TYPES[wanted]
    checks = [_TYPES[name] for name in wanted]
    return lambda value: any(check(value) for check in checks)


def _properties(properties: Mapping[str, Any], schema: Mapping[str, Any], make: Callable[[Any], Check]) -> Check:
    """Also `additionalProperties`, which means what is not named here."""
    checks = {name: make(part) for name, part in properties.items()}
    rest = schema.get("additionalProperties")
    others = make(rest) if isinstance(rest, dict) else None

    def check(value: Any) -> bool:
        if not isinstance(value, dict):
            return True
        for key, child in value.items():
            known = checks.get(key, others)
            if not known(child) if known else rest is False:
                return False
        return True

    return check


def _additional(_: Any, schema: Mapping[str, Any], make: Callable[[Any], Check]) -> Check | None:
    return None if "properties" in schema else _properties({}, schema, make)


def _keys(names: Any, _: Any, make: Callable[[Any], Check]) -> Check:
    check = make(names)
    return lambda value: not isinstance(value, dict) or all(map(check, value))


def _items(items: Any, _: Any, make: Callable[[Any], Check]) -> Check:
    check = make(items)
    return lambda value: not isinstance(value, list) or all(map(check, value))


def _if(condition: Any, schema: Mapping[str, Any], make: Callable[[Any], Check]) -> Check:
    test, then, otherwise = make(condition), make(schema.get("then", {})), make(schema.get("else", {}))
    return lambda value: then(value) if test(value) else otherwise(value)


def _pattern(pattern: str, _: Any, __: Any) -> Check:
    search = regex(pattern).search
    return lambda value: not isinstance(value, str) or search(value) is not None


def _of(kind: type, holds: Callable[[Any, Any], bool]) -> _Make:
    """A keyword that compares values of one type with its own."""
    return lambda limit, _, __: lambda value: not isinstance(value, kind) or holds(value, limit)


def _of_numbers(holds: Callable[[Any, Any], bool]) -> _Make:
    return lambda limit, _, __: lambda value: not _is_number(value) or holds(value, limit)


def _annotation(*_: Any) -> None:
    """Says nothing about values, or is read together with another keyword."""


_KEYWORDS: Mapping[str, _Make] = {
    **dict.fromkeys(("$schema", "$defs", "title", "description", "default", "examples", "then", "else"), _annotation),
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _keys,
    "items": _items,
    "pattern": _pattern,
    "if": _if,
    "enum": lambda allowed, _, __: lambda value: any(_same(value, each) for each in allowed),
    "const": lambda wanted, _, __: lambda value: _same(value, wanted),
    "not": lambda part, _, make: (lambda check: lambda value: not check(value))(make(part)),
    "allOf": lambda parts, _, make: (lambda cs: lambda value: all(c(value) for c in cs))([*map(make, parts)]),
    "anyOf": lambda parts, _, make: (lambda cs: lambda value: any(c(value) for c in cs))([*map(make, parts)]),
    "oneOf": lambda parts, _, make: (lambda cs: lambda value: sum(c(value) for c in cs) == 1)([*map(make, parts)]),
    "required": _of(dict, lambda value, names: all(name in value for name in names)),
    "minProperties": _of(dict, lambda value, limit: len(value) >= limit),
    "maxProperties": _of(dict, lambda value, limit: len(value) <= limit),
    "minItems": _of(list, lambda value, limit: len(value) >= limit),
    "maxItems": _of(list, lambda value, limit: len(value) <= limit),
    "minLength": _of(str, lambda value, limit: len(value) >= limit),
    "maxLength": _of(str, lambda value, limit: len(value) <= limit),
    "minimum": _of_numbers(lambda value, limit: value >= limit),
    "maximum": _of_numbers(lambda value, limit: value <= limit),
    "exclusiveMinimum": _of_numbers(lambda value, limit: value > limit),
    "exclusiveMaximum": _of_numbers(lambda value, limit: value < limit),
}
