"""The reference of the chart's values, chart/README.md: every key with type, default, meaning and an example, from
the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gpu_inference.schema.bundle import follow, source

_INTRO = """\
# gpu-inference

Runs GPU inference servers on any Kubernetes cluster, many models per release.

```sh
helm install llm chart/ -f values/prod.yaml
```

This page is generated from `schema/` by `gpu-inference schema docs`. `gpu-inference validate FILE` checks values
against it, as Helm itself does.

A model's values come from these places, the last one wins: the cloud preset's scheduling, `modelDefaults`, the runtime
preset's `defaults`, the accelerator preset's `defaults`, `models.<name>`. Maps are merged, lists are replaced. In
maps of your own entries (env, tolerations, nodeSelector, absentNodeLabels, volumes, claims, writable, podLabels,
podAnnotations) `false` removes an inherited entry.
"""

# heading, text, definition (none: the root)
_SECTIONS = (
    ("Release", "Keys at the top of a values file.", ""),
    ("Model", "Keys of `modelDefaults` and of every `models.<name>`.", "model"),
    ("Runtime preset", "Keys of a file in `chart/runtimes` and of `runtimes.<name>`.", "runtime"),
    ("Accelerator preset", "Keys of a file in `chart/accelerators` and of `accelerators.<name>`.", "accelerator"),
    ("Cloud preset", "Keys of a file in `chart/clouds` and of `clouds.<name>`.", "cloud"),
)
# Tables of their own, or none of the reader's business: not expanded where they occur.
_LEAVES = frozenset(("model", "runtime", "accelerator", "cloud"))
_HEAD = "| key | type | default | meaning | example |\n|---|---|---|---|---|\n"


def render() -> str:
    """The text of chart/README.md."""
    root, definitions = source()
    parts = [_INTRO]
    for heading, text, name in _SECTIONS:
        schema = definitions[name] if name else root
        table = "".join(f"| {' | '.join(row)} |\n" for row in rows(schema, "", schema.get("default")))
        parts.append(f"## {heading}\n\n{text}\n\n{_HEAD}{table}")
    return "\n".join(parts)


def rows(schema: Mapping[str, Any], prefix: str, default: Any) -> Iterator[tuple[str, ...]]:
    """A row (key, type, default, meaning, example) for each leaf below a schema; `default` is what a parent says of
    it."""
    inherited = default if isinstance(default, dict) else {}
    for key, raw in schema.get("properties", {}).items():
        child = follow(raw)
        said = child.get("default", inherited.get(key))
        path = f"{prefix}{key}"
        closed = child.get("additionalProperties") is False
        if closed and raw.get("$ref", "").rpartition("/")[2] not in _LEAVES:
            yield from rows(child, f"{path}.", said)
        else:
            yield (
                f"`{path}`",
                _type(child),
                _code(said),
                _cell(child["description"]),
                _code(*child.get("examples", [])[:1]),
            )


def _type(schema: Mapping[str, Any]) -> str:
    schema = follow(dict(schema))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value) if value == '' else value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    kind = schema["type"]
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    return " or ".join(kind) if isinstance(kind, list) else kind


def _code(*value: Any) -> str:
    """Flow YAML in backticks; nothing for no value."""
    if not value or value[0] is None:
        return ""
    return f"`{_cell(_flow(value[0]))}`"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return value if isinstance(value, str) and value else json.dumps(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
