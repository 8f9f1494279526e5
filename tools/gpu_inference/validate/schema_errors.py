"""Schema errors in words: what is wrong at which path, and what to write instead."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from gpu_inference.schema.bundle import bundle, follow, source
from gpu_inference.validate.verdict import regex, satisfies
from gpu_inference.values.tree import Path

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError


_HUB = "https://huggingface.co/"
_HUB_NAME = re.compile(rf"({_HUB})?[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One violation of the schema. `about_key`: the key is wrong, not its value; `severity` as in a finding, None for
    what the catalogue says of the rule."""

    rule: str
    path: Path
    message: str
    fix: str
    about_key: bool = False
    severity: str | None = None


def mistakes(values: Any, entry: str | None = None) -> Iterator[Mistake]:
    """Everything in merged values that the chart's schema refuses, or in a part of them by the definition `entry`."""
    if satisfies(entry)(values):
        return
    for error in _validator(entry).iter_errors(values):
        yield from _explain(error)


# The stubs call every field of a ValidationError possibly unset; none is once iter_errors yields it.
_Error = Any


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not regex(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


@cache
def _validator(entry: str | None) -> Draft202012Validator:
    """The validator that explains. Imported where something is wrong: that takes longer than checking many files."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    return extend(Draft202012Validator, {"pattern": _pattern})(bundle(entry))


def _explain(error: _Error) -> Iterator[Mistake]:
    path = tuple(error.absolute_path)
    if "propertyNames" in error.absolute_schema_path:
        yield _name(error, path)
        return
    yield from _EXPLAIN.get(str(error.validator), _other)(error, path)


def _name(error: _Error, path: Path) -> Mistake:
    key = str(error.instance)
    if error.validator == "not":
        message = f"YAML reads the name {key}, unless it is quoted, as a boolean or null"
        return Mistake("schema-name", (*path, key), message, "choose another name", about_key=True)
    if error.validator == "enum":
        fix = _right_key(key, error.validator_value)
        return Mistake("schema-unknown-key", (*path, key), f"unknown key `{key}`", fix, about_key=True)
    wish = error.validator_value if error.validator == "pattern" else f"{error.validator} {error.validator_value}"
    fix = f"use a name that matches {wish}" if error.validator == "pattern" else f"use a shorter name ({wish})"
    return Mistake("schema-name", (*path, key), f"`{key}` cannot be a name here", fix, about_key=True)


def _unknown_keys(error: _Error, path: Path) -> Iterator[Mistake]:
    known = list(error.schema.get("properties", {}))
    for key in error.instance:
        if key not in known:
            yield Mistake(
                "schema-unknown-key", (*path, key), f"unknown key `{key}`", _right_key(key, known), about_key=True
            )


def _right_key(key: str, known: list[str]) -> str:
    near = nearest(key, known, cutoff=0.75)
    if near:
        return f"write `{near}`"
    if key in _elsewhere():
        return f"it belongs at `{_elsewhere()[key]}` of the model"
    return f"use one of {', '.join(known)}"


@cache
def _elsewhere() -> dict[str, str]:
    """Key -> its dotted path in a model, of keys that occur once there."""
    places: dict[str, list[str]] = {}

    def visit(schema: dict[str, Any], prefix: str) -> None:
        if schema.get("additionalProperties") is not False:
            return
        for key, child in schema.get("properties", {}).items():
            places.setdefault(key, []).append(prefix + key)
            visit(follow(child), f"{prefix}{key}.")

    visit(follow(source()[1]["model"]), "")
    return {key: paths[0] for key, paths in places.items() if len(paths) == 1}


def _type(error: _Error, path: Path) -> Iterator[Mistake]:
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    value = error.instance
    is_now = "null is not allowed" if value is None else f"{show(value)} is {_kind(value)}, not {_choices(wanted)}"
    yield Mistake("schema-type", path, is_now, _retype(value, wanted, error.schema))


def _retype(value: Any, wanted: list[str], schema: dict[str, Any]) -> str:
    if value is None:
        return "remove the key to get its default; `false` removes an inherited entry of a map"
    if "string" in wanted and isinstance(value, bool | int | float):
        return f'quote it: "{show(value)}"'
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) and {"integer", "number"} & set(wanted):
        return "remove the quotes"
    if "boolean" in wanted:
        return "use true or false"
    if "object" in wanted:
        keys = ", ".join(schema.get("properties", {}))
        return f"write a map with keys of {keys}" if keys else "write a map, `key: value`"
    if "array" in wanted:
        return "write a list, `[a, b]`"
    return f"write {_choices(wanted)}{_example(schema)}"


def _enum(error: _Error, path: Path) -> Iterator[Mistake]:
    allowed = [word if isinstance(word, str) and word else show(word) for word in error.validator_value]
    likely = nearest(str(error.instance), allowed)
    fix = f"write {likely}" if likely else f"use one of {', '.join(allowed)}"
    yield Mistake("schema-enum", path, f"{show(error.instance)} is not one of {', '.join(allowed)}", fix)


def _format(error: _Error, path: Path) -> Iterator[Mistake]:
    examples = error.schema.get("examples")
    wish = f"it as in {show(examples[0])}" if examples else f"it to match {error.validator_value}"
    likely = next((text for text in _likely(error.instance) if regex(error.validator_value).search(text)), None)
    fix = f"write {show(likely) if likely else wish}"
    yield Mistake("schema-format", path, f"{show(error.instance)} does not have the right form", fix)


def _likely(text: str) -> Iterator[str]:
    """What may have been meant: a lower-case name, a model of the Hugging Face hub, the host of an address."""
    if "/" not in text:
        yield text.lower()
    if _HUB_NAME.fullmatch(text):
        yield f"hf://{text.removeprefix(_HUB)}"
    yield re.sub("(?<=[0-9][KMGT])i?B$", "i", text)
    yield text.partition("://")[2].partition("/")[0]


def _range(error: _Error, path: Path) -> Iterator[Mistake]:
    limit = show(error.validator_value)
    wish = {
        "minimum": f"{limit} or more",
        "maximum": f"{limit} or less",
        "exclusiveMinimum": f"more than {limit}",
        "exclusiveMaximum": f"less than {limit}",
    }[str(error.validator)]
    yield Mistake("schema-range", path, f"{show(error.instance)} is out of range", f"use {wish}")


def _required(error: _Error, path: Path) -> Iterator[Mistake]:
    for key in error.validator_value:
        if key not in error.instance:
            # The bundle's one allOf requires what has a default, see bundle.py.
            deleted = error.absolute_schema_path[0] == "allOf"
            fix = "remove the null that deletes its default" if deleted else f"add it{_meaning(error.schema, key)}"
            yield Mistake("schema-required", path, f"`{key}` is missing", fix)


def _meaning(schema: dict[str, Any], key: str) -> str:
    inherited = follow({"$ref": schema["$ref"]}) if "$ref" in schema else {}
    found = [follow(place.get("properties", {}).get(key, {})).get("description") for place in (schema, inherited)]
    return next((f": {text.rstrip('.')}" for text in found if text), "")


def _any_of(error: _Error, path: Path) -> Iterator[Mistake]:
    """The errors of the alternative that was meant, which is the one of the value's type; else the alternatives."""
    by_choice: dict[int, list[_Error]] = {}
    for inner in error.context or ():
        by_choice.setdefault(int(inner.schema_path[0]), []).append(inner)
    for inner_errors in by_choice.values():
        if not any(inner.validator in ("type", "const", "enum") and not inner.path for inner in inner_errors):
            for inner in inner_errors:
                yield from _explain(inner)
            return
    choices = [_choice(follow(choice)) for choice in error.validator_value]
    quotable = "a string" in choices and isinstance(error.instance, bool | int | float)
    fix = f'quote it: "{show(error.instance)}"' if quotable else f"write {' or '.join(choices)}"
    yield Mistake("schema-type", path, f"{show(error.instance)} is not {' or '.join(choices)}", fix)


def _choice(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return show(schema["const"])
    if "required" in schema and "type" not in schema:
        return "with " + " and ".join(f"`{key}`" for key in schema["required"])
    return _a(schema["type"])


def _one_of(error: _Error, path: Path) -> Iterator[Mistake]:
    choices = [_choice(choice).removeprefix("with ") for choice in error.validator_value]
    wish = " and ".join(choices)
    yield Mistake("schema-required", path, f"needs exactly one of {wish}", "keep one of the two")


def _size(error: _Error, path: Path) -> Iterator[Mistake]:
    limit, keyword = error.validator_value, str(error.validator)
    unit = "characters" if keyword.endswith("Length") else "entries"
    bound = f"at {'least' if keyword.startswith('min') else 'most'} {limit} {unit}"
    yield Mistake("schema-size", path, f"{show(error.instance)} is too {_TOO[keyword[:3]]}", f"write {bound}")


_TOO = {"min": "short", "max": "long"}


def _other(error: _Error, path: Path) -> Iterator[Mistake]:
    """No keyword of the schema comes here today; one that is added still gets a finding."""
    rule = f"{error.validator}: {show(error.validator_value)}"
    yield Mistake(
        "schema", path, f"{show(error.instance)} violates {rule}", "see chart/README.md for what the key takes"
    )


_EXPLAIN: dict[str, Callable[[_Error, Path], Iterator[Mistake]]] = {
    "additionalProperties": _unknown_keys,
    "type": _type,
    "enum": _enum,
    "pattern": _format,
    "minimum": _range,
    "maximum": _range,
    "exclusiveMinimum": _range,
    "exclusiveMaximum": _range,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _size),
    "required": _required,
    "anyOf": _any_of,
    "oneOf": _one_of,
}


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that was probably meant, whatever its case."""
    lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=cutoff)
    return lower[near[0]] if near else None


def show(value: Any) -> str:
    """A value on one line, cut where it is long."""
    text = " ".join(json.dumps(_beginning(value), ensure_ascii=False).split())
    return text if len(text) <= 60 else f"{text[:57]}…"


def _beginning(value: Any) -> Any:
    """As much of a value as can be shown: the whole may have megabytes."""
    if isinstance(value, str):
        return value[:200]
    if isinstance(value, dict):
        return {key[:200]: _beginning(child) for key, child in islice(value.items(), 20)}
    return [_beginning(child) for child in value[:20]] if isinstance(value, list) else value


def _kind(value: Any) -> str:
    names = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        dict: "map",
        list: "list",
        type(None): "null",
    }
    return _a(names[type(value)])


def _a(noun: str) -> str:
    noun = noun.replace("object", "map").replace("array", "list")
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _choices(types: list[str]) -> str:
    return " or ".join(map(_a, types))


def _example(schema: dict[str, Any]) -> str:
    examples = schema.get("examples")
    return f", such as {show(examples[0])}" if examples else ""
