"""Kubernetes' own JSON schemas, as the package kubernetes-validate bundles them, strict: unknown fields are errors.

The package's `validate` reads 1.6 MB of definitions for every object; here a validator is made once per kind and
version.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
_FOLDER = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


@functools.cache
def _registry(version: str) -> Registry:
    definitions = json.loads((_FOLDER / f"v{version}.0-local-strict" / "_definitions.json").read_text())
    resource = Resource.from_contents(definitions, default_specification=DRAFT202012)
    return Registry().with_resource("https://kubernetes.io/api/_definitions.json", resource)


@functools.cache
def _validator(version: str, kind: str, api_version: str) -> Draft202012Validator | None:
    group, _, name = api_version.rpartition("/")
    stem = "-".join(filter(None, [kind.lower(), group.split(".")[0], name]))
    file = _FOLDER / f"v{version}.0-local-strict" / f"{stem}.json"
    if not file.exists():
        return None
    return Draft202012Validator(json.loads(file.read_text()), registry=_registry(version))


def known(obj: dict[str, Any], version: str) -> bool:
    """Whether the kind is part of Kubernetes itself in that version; a custom resource is not."""
    return _validator(version, obj["kind"], obj["apiVersion"]) is not None


def problems(obj: dict[str, Any], version: str) -> list[str]:
    """What Kubernetes' schema of a version (such as "1.36") has against an object, as `$.path: message`."""
    validator = _validator(version, obj["kind"], obj["apiVersion"])
    assert validator, f"{obj['kind']} {obj['apiVersion']} is not in Kubernetes {version}"
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(obj)]


def shape(value: Any) -> Any:
    """What a type schema can see of a value: objects of one shape need to be checked once only."""
    if isinstance(value, dict):
        return tuple(sorted((key, shape(item)) for key, item in value.items()))
    if isinstance(value, list):
        return tuple(sorted({shape(item) for item in value}, key=repr))
    return value if isinstance(value, str) and value.isalpha() else type(value).__name__
