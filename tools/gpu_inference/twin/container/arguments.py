"""A server's command line, read back with the preset that wrote it: `--max-model-len 8192` is model.contextLength."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]


def runtime_of(command: Sequence[str], presets: Mapping[str, Mapping[str, Any]]) -> str:
    """The preset whose command a command line begins with, "" when none does."""
    for name, preset in presets.items():
        own = preset.get("command") or ()
        if own and list(command[: len(own)]) == list(own):
            return name
    return ""


def read(preset: Mapping[str, Any], words: Sequence[str]) -> tuple[Spec, list[str]]:
    """What the arguments after a preset's command say: {section: {field: value}}, and the words that it did not write.

    The other versions' arguments are read as well. A flag that the preset gives a fixed value says nothing here.
    """
    told: Spec = {}
    unknown: list[str] = []
    flags = {entry["flag"]: entry for entry in preset.get("args", ()) if entry.get("flag")}
    positions = [entry for entry in preset.get("args", ()) if not entry.get("flag")]
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, joined, value = word.partition("=")
        entry = flags.get(flag)
        if not word.startswith("-") and positions:
            _tell(told, positions.pop(0), word)
        elif entry is None:
            unknown.append(word)
        elif joined:
            _tell(told, entry, value)
        elif rest and entry.get("value") is not True and not rest[0].startswith("-"):
            _tell(told, entry, rest.pop(0))
        else:
            _tell(told, entry, "true")
    return told, unknown


def takes(preset: Mapping[str, Any], path: str) -> bool:
    """Whether the server is told a field of the spec in its arguments."""
    return any(entry.get("from") == path for entry in preset.get("args", ()))


def _tell(told: Spec, entry: Mapping[str, Any], text: str) -> None:
    section, _, field = entry.get("from", "").partition(".")
    if not field:
        return
    number = re.fullmatch(r"\d+", text) is not None
    value: Any = int(text) if number else float(text) if re.fullmatch(r"\d+\.\d+", text) else text
    told.setdefault(section, {})[field] = text == "true" or value
