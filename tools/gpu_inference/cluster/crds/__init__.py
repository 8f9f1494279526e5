"""CustomResourceDefinitions of optional APIs: enough of each for an API server to judge objects.

Each file here holds the kinds of one API group, hand-written from the source it names: the fields with their types,
what is required, what is refused. Strict validation refuses a field that is not listed, unless its parent is left open.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_REVIEWED = {"api-approved.kubernetes.io": "unapproved, hand-written for tests"}


def definitions() -> list[dict[str, Any]]:
    """One CustomResourceDefinition for each kind, ordered by name."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        group = path.stem
        for kind, data in yaml.safe_load(path.read_text(encoding="utf-8"))["kinds"].items():
            found.append(_definition(group, kind, data))
    return found


def _definition(group: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": data["spec"], "status": _OPEN}}
    version = {
        "name": data["version"],
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, **({"scale": data["scale"]} if "scale" in data else {})},
    }
    names = {"kind": kind, "listKind": f"{kind}List", "plural": data["plural"], "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{data['plural']}.{group}", "annotations": _REVIEWED},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }
