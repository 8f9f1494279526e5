"""One verdict: what `validate` accepts Helm renders, and what it refuses Helm refuses, for values made of the schema.

A case is a file of values/ and a layer over it that sets a few keys to what the schema allows there, or breaks one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.from_schema import setting, values_of
from support.matrix import FILES, scenario
from support.render import as_layer, render

from gpu_inference.errors import UserError
from gpu_inference.paths import ROOT
from gpu_inference.schema.bundle import source
from gpu_inference.validate.engine import Subject, check
from gpu_inference.validate.schema_errors import _validator
from gpu_inference.validate.verdict import compiled, satisfies
from gpu_inference.values.loader import load, parse
from gpu_inference.values.presets import overlay

# Rules the chart's own checks know, too; the others are this program's alone.
SHARED = {
    rule
    for path in (ROOT / "tests" / "schema" / "negative").glob("*.yaml")
    for rule in re.findall(r"^# expects: \S+ (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
}
JUNK = [None, True, False, 0, -1, 1.5, 10**7, "", "x", "a b", "16Gi", [], {}, [1], [{}], {"a": {"b": None}}]
FAST = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)


def paths_of(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from paths_of(child, (*path, key))


@st.composite
def layers(draw, broken=None):
    """(a values file's name, what is laid over it)"""
    name = draw(st.sampled_from(sorted(FILES)))
    models = sorted({model for file in scenario(name).layers for model in load(file).tree.plain().get("models", {})})
    over = {}
    for _ in range(draw(st.integers(1, 2))):
        over = overlay(over, draw(setting(source()[0], models)))
    if draw(st.booleans()) if broken is None else broken:
        *way, last = draw(st.sampled_from([path for path in paths_of(over) if path]))
        parent = over
        for step in way:
            parent = parent[step]
        if draw(st.booleans()):
            parent[last] = draw(st.sampled_from(JUNK))
        else:
            parent[f"{last}x"] = parent.pop(last)
    return name, over


def findings(name, over):
    documents = [load(file) for file in scenario(name).layers]
    return check([Subject([*documents, parse(json.dumps(over).encode(), "over.json")])]).findings


def refusal(files: list[Path]) -> str:
    try:
        render(layers=files)
    except UserError as error:
        return error.message
    return ""


def agree(name, over):
    errors = [finding for finding in findings(name, over) if finding.severity == "error"]
    said = refusal([*scenario(name).layers, as_layer(over)])
    if not errors:
        assert not said, f"validate accepts {name} with {over}"
    elif any(finding.rule in SHARED for finding in errors):
        assert said, f"helm accepts {name} with {over}: {errors[0].path}: {errors[0].message}"


@settings(FAST, max_examples=100)
@given(layers(broken=False))
def test_helm_and_validate_agree_on_what_the_schema_allows(case):
    agree(*case)


@settings(FAST, max_examples=40)
@given(layers(broken=True))
def test_helm_and_validate_agree_on_what_is_broken(case):
    agree(*case)


@settings(FAST, max_examples=15)
@given(st.lists(st.sampled_from(sorted(FILES)), min_size=2, max_size=2, unique=True))
def test_helm_and_validate_agree_on_files_over_each_other(names):
    files = [file for name in names for file in scenario(name).layers]
    errors = [f for f in check([Subject([load(file) for file in files])]).findings if f.severity == "error"]
    assert bool(errors) == bool(refusal(files)), errors


@settings(FAST, max_examples=60)
@given(values_of(source()[0]))
def test_what_is_made_of_the_schema_satisfies_it(values):
    assert [error.message for error in _validator(None).iter_errors(overlay(DEFAULTS, values))] == []


@settings(FAST, max_examples=150)
@given(layers())
def test_both_validators_have_one_verdict(case):
    """The one that only says yes or no, of the bundle that Helm reads, and the one that explains, of the source."""
    _, over = case
    values = overlay(DEFAULTS, over)
    assert satisfies()(values) == _validator(None).is_valid(values)


DEFAULTS = load(ROOT / "chart" / "values.yaml").tree.plain()


def test_an_unknown_keyword_is_noticed():
    try:
        compiled({"properties": {"a": {"uniqueItems": True}}})
    except KeyError as error:
        assert error.args == ("uniqueItems",)
    else:
        raise AssertionError("accepted")
