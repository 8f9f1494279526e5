"""Rendered objects against Kubernetes' own types, strictly: a field it does not know is a mistake of its own.

Helm 4 is refused such a field by the API server; with Helm 3 the field is dropped without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from gpu_inference.schema.kubernetes import TYPES
from gpu_inference.validate.rendered.objects import Object, lookup, pods
from gpu_inference.validate.schema_errors import nearest, show
from gpu_inference.values.tree import Path

Version = tuple[int, int]
_FIELD = re.compile(r"(?:(?P<list>\[(?P<unique>[^]]*)])|(?P<map>\{}))?(?P<rest>.*)")
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ (1.36)
_QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?")
_PYTHON: Mapping[str, Any] = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "any": object}
_STABLE = re.compile(r"v\d+")
_DEFAULTS = {"protocol": "TCP"}
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at a path of an object; `about_key`: with the key, not the value."""

    path: Path
    message: str
    fix: str
    about_key: bool = False


@dataclass(frozen=True, slots=True)
class _Type:
    """`list`: None, or the fields its entries differ in; `base`: a scalar, words, or the name of a type."""

    base: str
    list: tuple[str, ...] | None
    map: bool
    required: bool
    since: Version | None
    until: Version | None

    def known(self, version: Version | None) -> bool:
        return version is None or (
            (not self.since or version >= self.since) and (not self.until or version <= self.until)
        )


def problems(obj: Object, version: Version | None = None) -> Iterator[Problem]:
    """What Kubernetes has against an object: one version, or, without one, each that the chart supports. Of a kind that
    is not Kubernetes' own, only the pods are looked at."""
    kind, api = obj["kind"], obj["apiVersion"]
    if lookup(obj, ("metadata", "name")) is None:
        yield Problem(("metadata",), "`name` is missing", "add `name`")
    known = _parse(_read()["kinds"].get(f"{api}/{kind}", "any"))
    if not known.known(version):
        when = f"since {_text(known.since)}" if known.since and version and version < known.since else "no more"
        yield Problem(("apiVersion",), f"Kubernetes {_text(version)} has no {api} {kind}: {when}", "use another one")
    elif known.base != "any":
        yield from _object(obj, known.base, (), version)
    else:
        yield from _unknown_kind(kind, api)
        yield from _object(obj.get("metadata"), "meta.v1.ObjectMeta", ("metadata",), version)
        if not isinstance(obj.get("spec", {}), dict):
            yield _wrong_type(obj["spec"], "a map", ("spec",))
        for pod in pods([obj]):
            yield from _object(pod.template, "core.v1.PodTemplateSpec", pod.path, version)


def versions() -> list[Version]:
    """The minor versions whose types are known, oldest first."""
    return [_version(text) for text in _read()["versions"]]


def _unknown_kind(kind: str, api: str) -> Iterator[Problem]:
    """Kinds of groups that are not Kubernetes' own can be anything, and some of those end in k8s.io, too."""
    kinds = _read()["kinds"]
    group = api.rpartition("/")[0]
    known = {key.rpartition("/")[0].rpartition("/")[0] for key in kinds}
    if f"{api}/{kind}" in kinds or (group not in known and "." in group):
        return
    right = [key.rpartition("/")[0] for key in kinds if key.rpartition("/")[2] == kind]
    if right:
        yield Problem(("apiVersion",), f"there is no {kind} in {api}", f"write {_newest(right)}")
        return
    likely = nearest(kind, {key.rpartition("/")[2] for key in kinds if key.startswith(f"{api}/")})
    fix = f"write {likely}" if likely else "correct apiVersion or kind"
    yield Problem(("kind",), f"{api} has no kind {show(kind)}", fix)


def _newest(apis: list[str]) -> str:
    """The stable one, v2 before v1."""
    return max(apis, key=lambda api: (bool(_STABLE.fullmatch(api.rpartition("/")[2])), api))


def _object(value: Any, type_name: str, path: Path, version: Version | None) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _wrong_type(value, "a map", path)
        return
    fields = _fields(type_name)
    for key, child in value.items():
        field = fields.get(key)
        if field is None or not field.known(version):
            yield _unknown_field(key, field, type_name, (*path, key), version)
        elif child is not None:  # as good as not there
            yield from _value(child, field, (*path, key), version)
    for key, field in fields.items():
        if field.required and field.known(version) and value.get(key) is None:
            yield Problem(path, f"`{key}` is missing", f"add `{key}`")


def _value(value: Any, field: _Type, path: Path, version: Version | None) -> Iterator[Problem]:
    if field.list is not None:
        if not isinstance(value, list):
            yield _wrong_type(value, "a list", path)
            return
        for index, item in enumerate(value):
            yield from _value(item, _inner(field.base), (*path, index), version)
        yield from _twice(value, field.list, path)
    elif field.map:
        if not isinstance(value, dict):
            yield _wrong_type(value, "a map", path)
            return
        for key, item in value.items():
            if item is not None:
                yield from _value(item, _inner(field.base), (*path, key), version)
    elif "." in field.base:
        yield from _object(value, field.base, path, version)
    else:
        yield from _scalar(value, field.base, path)


def _scalar(value: Any, base: str, path: Path) -> Iterator[Problem]:
    if "|" in base:
        words = base.split("|")
        if value not in words:
            likely = nearest(str(value), words)
            fix = f"write {likely}" if likely else f"use one of {', '.join(words)}"
            yield Problem(path, f"{show(value)} is not one of {', '.join(words)}", fix)
    elif base == "quantity":
        if isinstance(value, bool) or not (isinstance(value, int | float) or _is_quantity(value)):
            yield Problem(path, f"{show(value)} is no quantity", "write it as in 500m, 2 or 4Gi")
    elif base == "integer-or-string":
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield _wrong_type(value, "an integer or a string", path)
    elif not isinstance(value, _PYTHON[base]) or (isinstance(value, bool) and base in ("integer", "number")):
        article = "an" if base == "integer" else "a"
        yield _wrong_type(value, f"{article} {base}", path)


def _is_quantity(value: Any) -> bool:
    return isinstance(value, str) and bool(_QUANTITY.fullmatch(value))


def _wrong_type(value: Any, wanted: str, path: Path) -> Problem:
    fix = "put it in quotes" if wanted == "a string" and not isinstance(value, dict | list) else f"write {wanted}"
    return Problem(path, f"{show(value)} is not {wanted}, as Kubernetes wants here", fix)


def _twice(entries: list[Any], unique: tuple[str, ...], path: Path) -> Iterator[Problem]:
    """Server-side apply, as Helm 4 does it, refuses the second."""
    seen: set[str] = set()
    for index, entry in enumerate(entries if unique else ()):
        if not isinstance(entry, dict):
            continue
        values = [entry.get(key, _DEFAULTS.get(key)) for key in unique]
        key = json.dumps(values)
        if key in seen:
            what = " and ".join(f"{key} {value}" for key, value in zip(unique, values, strict=True))
            yield Problem(
                (*path, index), f"a second entry of {path[-1]} has the {what}", "remove or rename one of the two"
            )
        seen.add(key)


def _unknown_field(key: str, field: _Type | None, type_name: str, path: Path, version: Version | None) -> Problem:
    if field:
        until = f"Kubernetes has it since {_text(field.since)}" if field.since else f"until {_text(field.until)}"
        return Problem(path, f"`{key}` is unknown to Kubernetes {_text(version)}: {until}", "remove it", about_key=True)
    known = _fields(type_name)
    likely = nearest(key, known, cutoff=0.75)
    below = [name for name, each in known.items() if "." in each.base and key in _fields(each.base)]
    if likely:
        fix = f"write `{likely}`"
    elif below and not known[below[0]].list:
        fix = f"it belongs into `{below[0]}`"
    elif len(known) <= _MOST_NAMED:
        fix = f"use one of {', '.join(known)}"
    else:
        fix = "remove it"
    return Problem(path, f"Kubernetes knows no `{key}` in {_shown(type_name)}", fix, about_key=True)


def _shown(type_name: str) -> str:
    name = type_name.rpartition(".")[2]
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


@cache
def _read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TYPES.read_text(encoding="utf-8"))
    return found


@cache
def _fields(type_name: str) -> Mapping[str, _Type]:
    return {key: _parse(text) for key, text in _read()["types"].get(type_name, {}).items()}


@cache
def _parse(text: str) -> _Type:
    whole, _, versions = text.partition("@")
    found = _FIELD.fullmatch(whole.removesuffix("!"))
    assert found, text
    since, _, until = versions.partition("..")
    unique = tuple(filter(None, found["unique"].split(","))) if found["list"] else None
    between = (_version(since) if since else None, _version(until) if until else None)
    return _Type(found["rest"], unique, bool(found["map"]), whole.endswith("!"), *between)


@cache
def _inner(base: str) -> _Type:
    return _parse(base)


def _version(text: str) -> Version:
    major, minor = text.split(".")
    return int(major), int(minor)


def _text(version: Version | None) -> str:
    return ".".join(map(str, version or ()))
