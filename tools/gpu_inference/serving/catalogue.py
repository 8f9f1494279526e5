"""Open models whose architecture is known: catalogue.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.serving.architecture import Architecture
from gpu_inference.serving.hf_config import architecture

PATH = Path(__file__).with_name("catalogue.yaml")


@dataclass(frozen=True)
class Entry:
    """A model. names: what in a source or a served name means it; published: {totalBillion, activeBillion}."""

    id: str
    names: tuple[str, ...]
    published: Mapping[str, float]
    architecture: Architecture


@cache
def catalogue() -> dict[str, Entry]:
    """All entries by id."""
    # The C parser, where PyYAML has it, takes a tenth of the time.
    entries: list[dict[str, Any]] = yaml.load(
        PATH.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    return {
        entry["id"]: Entry(
            entry["id"],
            tuple(entry["names"]),
            entry["published"],
            architecture(entry["config"], entry["id"], f"{PATH.name}: {entry['id']}"),
        )
        for entry in entries
    }


@cache
def find(name: str) -> Entry | None:
    """The entry `name` means (a source, a repository or a served name, any case): the one with the longest of its
    names in it. A name ends where no letter, digit or version follows, and what is distilled from a model is not
    that model."""
    best: tuple[int, Entry] | None = None
    name = name.lower()
    for entry in catalogue().values():
        for own in (entry.id.lower().partition("/")[2], *entry.names):
            if own not in name or (best and len(own) <= best[0]):
                continue
            if re.search(rf"(?<![a-z0-9]){re.escape(own)}(?![a-z0-9]|\.\d|-distill|-0528-qwen)", name):
                best = len(own), entry
    return best[1] if best else None
