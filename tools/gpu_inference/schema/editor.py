"""The schema for editors: the chart's, but that a file need not say what the chart's defaults already say."""

from __future__ import annotations

import json

from gpu_inference.schema.bundle import bundle


def render() -> str:
    """The text of schema/values.schema.json."""
    schema = bundle()
    # Helm fills the defaults in before it asks; an editor sees the file alone.
    del schema["allOf"]
    return json.dumps(schema, ensure_ascii=False, indent=1) + "\n"
