"""The formats of a report, one module each, loaded when asked for."""

from __future__ import annotations

from importlib import import_module

from gpu_inference.report import Reporter

_CLASSES = {
    "text": "TextReporter",
    "json": "JsonReporter",
    "sarif": "SarifReporter",
    "github": "GithubReporter",
    "gitlab": "GitlabReporter",
    "junit": "JunitReporter",
    "markdown": "MarkdownReporter",
}
FORMATS = tuple(_CLASSES)


def reporter(name: str) -> type[Reporter]:
    """The class that writes format `name`, one of FORMATS."""
    found: type[Reporter] = getattr(import_module(f"gpu_inference.reporters.{name}"), _CLASSES[name])
    return found
