"""Kubernetes' own types, for `validate --render`: what fields an object may have, in every supported minor version.

Read from the schemas that the package kubernetes-validate bundles (of the extra `test`; too large to be installed by
everybody), and boiled down to one line a type:

    "core.v1.Container": {"env": "[name]core.v1.EnvVar", "image": "string", "name": "string!", …}

A field is `<list><type><!><@versions>`: `[]` for a list, `[a,b]` for one whose entries differ in the fields a and b,
`{}` for a map; a type of its own, one of several words (`Always|Never`), or a scalar's name; `!` if it must be there;
and, unless all versions have it, the first and the last that do, as in `@1.34..`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpu_inference.errors import UserError

# The file it is written to.
TYPES = Path(__file__).parents[1] / "validate" / "rendered" / "kubernetes.json"
VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
_REF = "#/$defs/"
# Scalars that have a schema of their own, and what users never write.
_SCALARS = {
    "api.resource.Quantity": "quantity",
    "util.intstr.IntOrString": "integer-or-string",
    "meta.v1.Time": "string",
    "meta.v1.MicroTime": "string",
    "meta.v1.FieldsV1": "any",
    "runtime.RawExtension": "any",
}
# The schemas call these strings. Source: the constants in k8s.io/api, core/v1/types.go and batch/v1/types.go, 1.36.
_WORDS = {
    "core.v1.Container.imagePullPolicy": "Always|IfNotPresent|Never",
    "core.v1.Container.terminationMessagePolicy": "FallbackToLogsOnError|File",
    "core.v1.ContainerPort.protocol": "SCTP|TCP|UDP",
    "core.v1.PersistentVolumeClaimSpec.volumeMode": "Block|Filesystem",
    "core.v1.PodSpec.dnsPolicy": "ClusterFirst|ClusterFirstWithHostNet|Default|None",
    "core.v1.PodSpec.preemptionPolicy": "Never|PreemptLowerPriority",
    "core.v1.PodSpec.restartPolicy": "Always|Never|OnFailure",
    "core.v1.SeccompProfile.type": "Localhost|RuntimeDefault|Unconfined",
    "core.v1.AppArmorProfile.type": "Localhost|RuntimeDefault|Unconfined",
    "core.v1.ServicePort.protocol": "SCTP|TCP|UDP",
    "core.v1.ServiceSpec.externalTrafficPolicy": "Cluster|Local",
    "core.v1.ServiceSpec.sessionAffinity": "ClientIP|None",
    "core.v1.ServiceSpec.type": "ClusterIP|ExternalName|LoadBalancer|NodePort",
    "core.v1.Toleration.effect": "NoExecute|NoSchedule|PreferNoSchedule",
    "core.v1.TopologySpreadConstraint.whenUnsatisfiable": "DoNotSchedule|ScheduleAnyway",
    "core.v1.VolumeMount.mountPropagation": "Bidirectional|HostToContainer|None",
    "core.v1.HTTPGetAction.scheme": "HTTP|HTTPS",
    "core.v1.PodSecurityContext.fsGroupChangePolicy": "Always|OnRootMismatch",
    "batch.v1.CronJobSpec.concurrencyPolicy": "Allow|Forbid|Replace",
}


def render() -> str:
    """The text of validate/rendered/kubernetes.json."""
    kinds, types = _versions(_kinds), _versions(_types)
    used = set(_reachable([kind.partition("@")[0] for kind in kinds.values()], types))
    lines = [f"  {json.dumps(name)}: {json.dumps(types[name], sort_keys=True)}" for name in sorted(used)]
    known = ",\n".join(f"  {json.dumps(key)}: {json.dumps(kinds[key])}" for key in sorted(kinds))
    types_text = ",\n".join(lines)
    return f'{{"versions": {json.dumps(VERSIONS)},\n"kinds": {{\n{known}\n}},\n"types": {{\n{types_text}\n}}}}\n'


def _definitions(version: str) -> dict[str, Any]:
    try:
        import kubernetes_validate
    except ImportError as error:
        raise UserError("kubernetes-validate is not installed", fix="pip install '.[test]'") from error
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    found = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return {_short(name): schema for name, schema in found.items()}


def _short(name: str) -> str:
    for prefix in ("io.k8s.api.", "io.k8s.apimachinery.pkg.apis.", "io.k8s.apimachinery.pkg.", "io.k8s."):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _kinds(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """apiVersion/kind -> type; "any" for alpha and beta APIs, which are off by default. Lists are left out."""
    found = {}
    for name, schema in definitions.items():
        for gvk in schema.get("x-kubernetes-group-version-kind", []):
            whole = {"metadata", "kind"} <= schema.get("properties", {}).keys() and not gvk["kind"].endswith("List")
            if whole and name == _own(gvk):
                stable = gvk["version"].lstrip("v").isdigit()
                found["/".join(filter(None, (gvk["group"], gvk["version"], gvk["kind"])))] = name if stable else "any"
    return found


def _own(gvk: Mapping[str, str]) -> str:
    """The name of a kind's type; types that many groups share, such as DeleteOptions, have another."""
    group = (gvk["group"] or "core").split(".")[0]
    return f"{group}.{gvk['version']}.{gvk['kind']}"


def _types(definitions: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _fields(name, schema) for name, schema in definitions.items() if name not in _SCALARS}


def _fields(name: str, schema: Mapping[str, Any]) -> dict[str, str]:
    fields, required = schema.get("properties", {}), schema.get("required", [])
    found = {}
    for key, value in fields.items():
        kind = "any" if key in ("status", "managedFields") else _WORDS.get(f"{name}.{key}") or _type(value)
        found[key] = kind + ("!" if key in required else "")
    return found


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = _short(schema["$ref"].removeprefix(_REF))
        return _SCALARS.get(name, name)
    kinds = schema.get("type", "object")
    kind = kinds if isinstance(kinds, str) else next(each for each in kinds if each != "null")
    if kind == "array":
        unique = schema.get("x-kubernetes-list-map-keys", [])
        return f"[{','.join(unique)}]{_type(schema['items'])}"
    if kind == "object":
        below = schema.get("additionalProperties")
        return "{}" + _type(below) if isinstance(below, dict) else "any"
    return str(kind)


def _versions(read: Any) -> dict[str, Any]:
    """What `read` finds in the definitions of each version, put together; texts say which versions have them."""
    return _together({version: read(_definitions(version)) for version in VERSIONS})


def _together(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key in {key for each in found.values() for key in each}:
        those = [version for version in found if key in found[version]]
        newest = found[those[-1]][key]
        if isinstance(newest, dict):
            result[key] = _together({version: found[version][key] for version in those})
        else:
            since, until = those[0], those[-1]
            every = len(those) == len(found)
            first = "" if since == next(iter(found)) else since
            last = "" if until == list(found)[-1] else until
            result[key] = newest if every else f"{newest}@{first}..{last}"
    return result


def _reachable(names: list[str], types: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in seen or name not in types:
            continue
        seen.add(name)
        yield name
        names += [kind.partition("@")[0].rstrip("!").lstrip("[]{}") for kind in types[name].values() if kind]
        names += [kind.partition("]")[2].partition("@")[0].rstrip("!") for kind in types[name].values()]
