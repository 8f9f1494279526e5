"""Rules of prometheus-adapter's external metrics: read from its own configuration format and turned into PromQL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.errors import UserError

_TEMPLATE = re.compile(r"<<\s*(.*?)\s*>>")
# The one construct of Go's templates that is supported: a text with the values of one label, where the selector has it.
_WITH = re.compile(r'<<\s*with index \.LabelValuesByName "(\w+)"\s*>>(.*?)<<\s*end\s*>>')
_FIELDS = (".Series", ".LabelMatchers", ".GroupBy")
_REQUIREMENT = re.compile(r"(?P<key>[\w./-]+)\s+(?P<operator>in|notin)\s+\((?P<values>[^)]*)\)")
_LABEL = re.compile(r"[A-Za-z_]\w*")


class SelectorError(Exception):
    """A label selector that is not valid, or has no PromQL counterpart."""


@dataclass(frozen=True)
class Rule:
    """One entry of `externalRules`. name_as may hold $1 or ${1} of name_matches."""

    series_query: str
    name_matches: str
    name_as: str
    metrics_query: str
    namespace_label: str
    namespaced: bool

    def metric_name(self, series: str) -> str | None:
        """The external metric's name for `series`; None when the rule's `matches` does not fit."""
        if not re.search(self.name_matches, series):
            return None
        return re.sub(self.name_matches, re.sub(r"\$\{?(\d+)\}?", r"\\g<\1>", self.name_as), series, count=1)

    def query(self, series: str, namespace: str, selector: str) -> str:
        """PromQL for the metric of `series` in `namespace`, for the Kubernetes label selector `selector`."""
        matchers = selector_matchers(selector)
        said = {key: "|".join(values) for key, _, values in map(_parse, _split(selector))}
        template = _WITH.sub(lambda match: _with(match[2], said.get(match[1])), self.metrics_query)
        if self.namespaced and namespace:
            matchers.append(f'{self.namespace_label}="{_escape(namespace)}"')
        values = {".Series": series, ".LabelMatchers": ",".join(matchers), ".GroupBy": ""}
        return _TEMPLATE.sub(lambda match: values[match[1]], template)


def load_rules(path: Path) -> list[Rule]:
    """The rules in `path`: prometheus-adapter's config (`externalRules`) or its chart's values (`rules.external`).

    Raises UserError for a file that cannot be read, has no such rules, or uses what is not supported.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"cannot read the rules {path}: {error}".splitlines()[0], fix="give a YAML file of rules"
        ) from None
    content = content if isinstance(content, dict) else {}
    raw = content.get("externalRules") or (content.get("rules") or {}).get("external")
    if not isinstance(raw, list) or not raw:
        raise UserError(f"{path} has no external rules", fix="put them under `externalRules` or `rules.external`")
    return [_rule(entry, f"{path}: rule {number}") for number, entry in enumerate(raw, start=1)]


def _rule(entry: Any, where: str) -> Rule:
    try:
        resources, name = entry.get("resources", {}), entry.get("name", {})
        rule = Rule(
            series_query=entry["seriesQuery"],
            name_matches=name.get("matches") or ".*",
            name_as=name.get("as") or "$0",
            metrics_query=entry["metricsQuery"],
            namespace_label=_namespace_label(resources),
            namespaced=resources.get("namespaced", True),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{where} is not complete: {error}", fix="give seriesQuery, resources, name and metricsQuery"
        ) from None
    for field in _TEMPLATE.findall(_WITH.sub("", rule.metrics_query)):
        if field not in _FIELDS:
            raise UserError(
                f"{where}: <<{field}>> is not supported", fix=f"use {', '.join(f'<<{f}>>' for f in _FIELDS)}"
            )
    return rule


def _namespace_label(resources: dict[str, Any]) -> str:
    for label, target in (resources.get("overrides") or {}).items():
        if target.get("resource") in ("namespace", "namespaces"):
            return str(label)
    template = resources.get("template") or "<<.Resource>>"
    return _TEMPLATE.sub("namespace", template)


def selector_matchers(selector: str) -> list[str]:
    """PromQL label matchers of a Kubernetes label selector ("a=b,c in (d,e),!f"). Raises SelectorError.

    As prometheus-adapter does it: a set of one value is an equality, more are a regular expression.
    """
    matchers = []
    for part in _split(selector):
        key, operator, values = _parse(part)
        if not _LABEL.fullmatch(key):
            raise SelectorError(f"{key!r} cannot be a Prometheus label")
        negate = "!" if operator == "notin" else ""
        if operator in ("exists", "absent"):
            matchers.append(f'{key}!=""' if operator == "exists" else f'{key}=""')
        elif len(values) == 1:
            matchers.append(f'{key}{negate}="{_escape(values[0])}"')
        else:
            joined = "|".join(values)
            matchers.append(f'{key}{negate or "="}~"{_escape(joined)}"')
    return matchers


def _with(text: str, value: str | None) -> str:
    """What is between `with` and `end`: nothing where the selector does not have the label."""
    return re.sub(r"<<\s*\.\s*>>", lambda _: value or "", text) if value else ""


def _split(selector: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _parse(part: str) -> tuple[str, str, list[str]]:
    if match := _REQUIREMENT.fullmatch(part):
        return match["key"], match["operator"], [value.strip() for value in match["values"].split(",")]
    if match := re.fullmatch(r"([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)", part):
        return match[1], "notin" if match[2] == "!=" else "in", [match[3]]
    if match := re.fullmatch(r"(!?)\s*([\w./-]+)", part):
        return match[2], "absent" if match[1] else "exists", []
    raise SelectorError(f"cannot parse the label selector at {part!r}")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
