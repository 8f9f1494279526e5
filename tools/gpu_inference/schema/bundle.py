"""Bundles the split YAML source in schema/ into the one self-contained file Helm reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from functools import cache
from typing import Any

import yaml

from gpu_inference.paths import SCHEMA

_PREFIX = "#/$defs/"
ROOT_FILE = "values.yaml"


@cache
def source() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The root schema, and every definition of the other files by name."""
    read = {
        path.name: yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        for path in sorted(SCHEMA.glob("*.yaml"))
    }
    root = read.pop(ROOT_FILE)
    definitions: dict[str, dict[str, Any]] = {}
    for name, content in read.items():
        repeated = definitions.keys() & content.keys()
        assert not repeated, f"schema/{name} defines {', '.join(repeated)} a second time"
        definitions |= content
    return root, definitions


def bundle(entry: str | None = None) -> dict[str, Any]:
    """A schema with the definitions it reaches under `$defs`: the values', or the one of definition `entry`."""
    root, definitions = source()
    top = {"$schema": root["$schema"], "$ref": _PREFIX + entry} if entry else _complete(root)
    reached: dict[str, dict[str, Any]] = {}
    pending = list(references(top))
    while pending:
        name = pending.pop()
        if name not in reached:
            reached[name] = definitions[name]
            pending += references(definitions[name])
    return {**top, "$defs": {name: reached[name] for name in sorted(reached)}}


def _complete(root: dict[str, Any]) -> dict[str, Any]:
    """The root with every key required that has a default. Helm fills defaults in first, so only a null, which
    deletes a default, can make one missing, and no template could render then.
    """
    return {**root, "allOf": [_required(root, defaults(root))]}


def _required(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    known = follow(schema).get("properties")
    if not known or not isinstance(default, dict):
        return {}
    below = {key: _required(known[key], value) for key, value in default.items()}
    return {"required": list(default), "properties": {key: needed for key, needed in below.items() if needed}}


def references(schema: Any) -> Iterator[str]:
    """Names of the definitions a schema refers to."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix(_PREFIX)
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from references(item)


def follow(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its reference followed; what stands beside `$ref` wins."""
    if "$ref" not in schema:
        return schema
    target = follow(source()[1][schema["$ref"].removeprefix(_PREFIX)])
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def defaults(schema: dict[str, Any]) -> Any:
    """The defaults a schema documents, as values; None where it documents none."""
    schema = follow(schema)
    if "default" in schema:
        return schema["default"]
    found = {key: defaults(child) for key, child in schema.get("properties", {}).items()}
    return {key: value for key, value in found.items() if value is not None} or None


def render() -> str:
    """The text of chart/values.schema.json: a line for each definition, to be read in differences, not in itself.
    Examples and defaults, which Helm has no use for, and the prose of presets are left to the schema for editors.
    """
    bundled = bundle()
    definitions = bundled.pop("$defs")
    of_models = bundle("model")["$defs"].keys()
    lines = (
        f"{_compact(name)}:{_compact(_without(_LEFT if name in of_models else {*_LEFT, 'description'}, definition))}"
        for name, definition in definitions.items()
    )
    return _compact(_without(_LEFT, bundled))[:-1] + ',\n"$defs":{\n' + ",\n".join(lines) + "\n}}\n"


_LEFT = {"examples", "default"}


def _without(keywords: Set[str], schema: Any, named: bool = False) -> Any:
    """`named` is true below `properties`, whose keys are names and no keywords."""
    if isinstance(schema, dict):
        kept = ((key, value) for key, value in schema.items() if named or key not in keywords)
        return {key: _without(keywords, value, key == "properties" and not named) for key, value in kept}
    if isinstance(schema, list):
        return [_without(keywords, item) for item in schema]
    return schema


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
