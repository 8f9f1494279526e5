"""Hypothesis strategies made of the chart's schema: values that satisfy it, and one setting somewhere in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from gpu_inference.schema.bundle import follow, source
from gpu_inference.validate.verdict import regex

Schema = dict[str, Any]

_WORDS = ["a", "b-1", "llm", "x.example.com/y", "16Gi", "true", "0", "", "ä", "a b", "{{ .Values }}", "hf://a/b"]
_NAMES = ["a", "b", "team-x"]


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of a value itself, and of everything in its maps and lists."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children:
        yield from places(child, (*path, step))


def values_of(schema: Schema) -> st.SearchStrategy[Any]:
    """What a schema of values allows, small."""
    schema = follow(schema)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema and "properties" not in schema:
            beside = {"maximum": schema["maximum"]} if "maximum" in schema else {}
            return st.one_of(*(values_of({**follow(choice), **beside}) for choice in schema[keyword]))
        if keyword in schema and all("required" in choice for choice in schema[keyword]):
            return st.one_of(*(_object(_with(schema, keyword, choice["required"])) for choice in schema[keyword]))
    types = schema.get("type", ["object", "string", "boolean", "integer"])
    return st.one_of(*(_OF_TYPE[name](schema) for name in ([types] if isinstance(types, str) else types)))


def _with(schema: Schema, keyword: str, keys: list[str]) -> Schema:
    """The schema of an object that must have some keys, and none of the other choices'."""
    others = {key for choice in schema[keyword] for key in choice["required"]} - {*keys}
    known = {key: value for key, value in schema["properties"].items() if key not in others}
    return {**schema, "required": [*schema.get("required", ()), *keys], "properties": known}


@st.composite
def setting(draw: st.DrawFn, schema: Schema, names: list[str], top: bool = True) -> Any:
    """One key somewhere below a schema and what it is set to, as values; `names` are those of the models."""
    schema = follow(schema)
    keys = sorted(schema.get("properties", {}))
    rest = schema.get("additionalProperties")
    if top:
        # Most of the schema is a model's.
        keys = ["models"] * 6 + ["modelDefaults"] * 2 + [key for key in keys if key not in ("debug", "global")]
    if keys and "required" not in schema:
        key = draw(st.sampled_from(keys))
        return {key: draw(setting(schema["properties"][key], names, top=False))}
    if isinstance(rest, dict) and schema is follow(source()[0]["properties"]["models"]):
        return {draw(st.sampled_from(names)): draw(setting(rest, names, top=False))}
    if isinstance(rest, dict) and follow(rest) == follow(source()[1]["model"]):
        return {draw(st.sampled_from(names)): draw(setting(rest, names, top=False))}
    return draw(values_of(schema))


def _string(schema: Schema) -> st.SearchStrategy[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
    if "pattern" in schema:
        made = st.from_regex(regex(schema["pattern"]), alphabet=st.characters(min_codepoint=33, max_codepoint=126))
        examples = [example for example in schema.get("examples", []) if isinstance(example, str)]
        made = st.one_of(st.sampled_from(examples), made) if examples else made
    else:
        made = st.sampled_from(_WORDS)
    forbidden = schema.get("not", {}).get("enum", ())
    return made.filter(lambda text: least <= len(text) <= most and text not in forbidden)


def _integer(schema: Schema) -> st.SearchStrategy[int]:
    least = schema.get("minimum", -10)
    return st.integers(least, min(schema.get("maximum", least + 10_000), least + 100_000))


def _number(schema: Schema) -> st.SearchStrategy[float]:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -10))
    most = schema.get("maximum", least + 1000)
    numbers = st.sampled_from([0.25, 0.5, 0.9, 1, 2, 30, 1000]).map(lambda number: least + number)
    return numbers.filter(lambda number: number <= most)


@st.composite
def _object(draw: st.DrawFn, schema: Schema) -> dict[str, Any]:
    known, made = schema.get("properties", {}), {}
    optional = [key for key in known if key not in schema.get("required", ())]
    chosen = draw(st.lists(st.sampled_from(optional), max_size=3, unique=True)) if optional else []
    for key in (*schema.get("required", ()), *chosen):
        made[key] = draw(values_of(known.get(key, schema.get("additionalProperties", {"type": "string"}))))
    rest = schema.get("additionalProperties")
    if isinstance(rest, dict) and len(made) < schema.get("maxProperties", 2):
        names = schema.get("propertyNames", {})
        keys = st.sampled_from(_NAMES) if names == {} else values_of({"type": "string", **follow(names)})
        for key in draw(st.lists(keys, max_size=2, unique=True)):
            made[key] = draw(values_of(rest))
    if not made and schema.get("minProperties"):
        key = draw(st.sampled_from(sorted(known))) if known else "a"
        made[key] = draw(values_of(known.get(key, rest)))
    return made if len(made) <= schema.get("maxProperties", len(made)) else dict([next(iter(made.items()))])


def _array(schema: Schema) -> st.SearchStrategy[list[Any]]:
    least = schema.get("minItems", 0)
    return st.lists(values_of(schema.get("items", {"type": "string"})), min_size=least, max_size=least + 2)


_OF_TYPE = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda _: st.booleans(),
    "object": _object,
    "array": _array,
    "null": lambda _: st.none(),
}
