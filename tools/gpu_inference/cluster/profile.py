"""A cluster profile: what is known of a cluster's nodes and APIs. profile.schema.yaml describes the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from gpu_inference.cluster import quantity
from gpu_inference.errors import UserError
from gpu_inference.values.loader import Document, load
from gpu_inference.values.tree import format_path

Version = tuple[int, int]
Labels = Mapping[str, str]
Amounts = Mapping[str, Fraction]
_VERSION = re.compile(r"v?([0-9]+)\.([0-9]+)([.+-].*)?")
# Differs from node to node, whatever a profile says.
HOSTNAME = "kubernetes.io/hostname"
KARPENTER = "karpenter.sh/nodepool"


@dataclass(frozen=True)
class NodeGroup:
    """Equal nodes. allocatable: of one, in cores, bytes and pieces; others: of all, what pods of others than this chart
    request of extended resources."""

    count: int
    max_count: int | None
    labels: Labels
    taints: Sequence[Mapping[str, str]]
    allocatable: Amounts
    others: Amounts

    @property
    def most(self) -> int:
        """How many there may be."""
        return self.count if self.max_count is None else max(self.count, self.max_count)


@dataclass(frozen=True)
class NodePool:
    """A Karpenter NodePool; grace_seconds and limits are None and empty where it sets none."""

    name: str
    labels: Labels
    taints: Sequence[Mapping[str, str]]
    requirements: Sequence[Mapping[str, Any]]
    limits: Amounts
    grace_seconds: int | None


@dataclass(frozen=True)
class Profile:
    """None is for what the profile does not tell. file: what messages call it."""

    file: str
    version: str | None
    autoscaled: bool
    omitted_labels: Sequence[str]
    groups: Sequence[NodeGroup] | None
    pools: Sequence[NodePool]
    apis: Mapping[str, Sequence[str]] | None
    device_classes: Mapping[str, Mapping[str, str]] | None
    storage_classes: Mapping[str, Mapping[str, bool]] | None
    ingress_classes: Sequence[str] | None
    priority_classes: Mapping[str, int] | None
    prometheuses: Sequence[Mapping[str, Any]] | None

    @property
    def kubernetes(self) -> Version | None:
        return version(self.version) if self.version else None

    @property
    def claimed(self) -> set[str]:
        """Extended resources that DRA stands in for: KEP-5004."""
        found = (entry.get("extendedResourceName", "") for entry in (self.device_classes or {}).values())
        return {name for name in found if name}

    def omits(self, label: str) -> bool:
        """Whether a node may have a label that is not listed."""
        return label == HOSTNAME or any(fnmatchcase(label, pattern) for pattern in self.omitted_labels)


def version(text: str) -> Version:
    """(1, 34) of 1.34, v1.34.2 or v1.34.1-gke.100. UserError for anything else."""
    match = _VERSION.fullmatch(text)
    if not match:
        raise UserError(f"{text!r} is no Kubernetes version", fix="write it as 1.34 or v1.34.2")
    return int(match[1]), int(match[2])


def load_profile(path: Path) -> Profile:
    """A profile from its file. UserError with line and column for what it cannot be."""
    document = load(path)
    for problem in document.problems:
        raise UserError(f"{problem.at}: {problem.message}", fix=problem.fix)
    data = document.tree.plain()
    error = best_match(_validator().iter_errors(data))
    if error:
        raise _refused(document, error)
    version(data.get("kubernetes", "1.0"))
    return Profile(
        file=str(path),
        version=data.get("kubernetes"),
        autoscaled=data.get("autoscaled", False),
        omitted_labels=data.get("omittedLabels", ()),
        groups=[_group(group) for group in data["nodeGroups"]] if "nodeGroups" in data else None,
        pools=[_pool(pool) for pool in data.get("nodePools", ())],
        apis=data.get("apis"),
        device_classes=data.get("deviceClasses"),
        storage_classes=data.get("storageClasses"),
        ingress_classes=data.get("ingressClasses"),
        priority_classes=data.get("priorityClasses"),
        prometheuses=data.get("prometheuses"),
    )


@cache
def _validator() -> Draft202012Validator:
    schema = Path(__file__).with_name("profile.schema.yaml").read_text(encoding="utf-8")
    return Draft202012Validator(yaml.safe_load(schema))


# The stubs call every field of a ValidationError possibly unset.
def _refused(document: Document, error: Any) -> UserError:
    if error.parent is not None:  # of what may be one of several things
        error = error.parent
    path = tuple(error.absolute_path)
    known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    message, fix = str(error.message), "see profile.schema.yaml, or write it anew with gpu-inference cluster profile"
    if error.validator == "additionalProperties":
        unknown = next(key for key in error.instance if key not in known)
        path, message, fix = (*path, unknown), f"unknown key `{unknown}`", f"use one of {', '.join(known)}"
    elif error.validator == "anyOf":
        message, fix = f"{error.instance!r} is no amount", "write it as 8, 500m or 64Gi"
    elif error.validator == "type" and error.validator_value == "string":
        fix = "write it in quotes"
    place = document.tree.find(path)
    at = place.key_at if error.validator == "additionalProperties" and place.key_at else place.at
    return UserError(f"{at}: {format_path(path)}: {message}", fix=fix)


def amounts(data: Mapping[str, Any]) -> dict[str, Fraction]:
    """Resource -> quantity, as numbers."""
    return {resource: quantity.parse(value) for resource, value in data.items()}


def _group(data: Mapping[str, Any]) -> NodeGroup:
    own = amounts(data.get("requestedByChart", {}))
    others = {resource: value - own.get(resource, 0) for resource, value in amounts(data.get("requested", {})).items()}
    return NodeGroup(
        count=data["count"],
        max_count=data.get("maxCount"),
        labels=data.get("labels", {}),
        taints=data.get("taints", ()),
        allocatable=amounts(data["allocatable"]),
        others=others,
    )


def _pool(data: Mapping[str, Any]) -> NodePool:
    return NodePool(
        name=data["name"],
        labels={**data.get("labels", {}), KARPENTER: data["name"]},
        taints=data.get("taints", ()),
        requirements=data.get("requirements", ()),
        limits=amounts(data.get("limits", {})),
        grace_seconds=data.get("terminationGracePeriodSeconds"),
    )
