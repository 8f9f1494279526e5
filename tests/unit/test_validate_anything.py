"""Values nobody thought of: validate has words for all of them, and the same verdict as Helm."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.from_schema import places
from support.render import render

from gpu_inference.errors import UserError
from gpu_inference.paths import ROOT
from gpu_inference.validate.context import NOTHING_ESTIMATED
from gpu_inference.validate.engine import Subject, check
from gpu_inference.values.loader import load, parse

SEED = load(ROOT / "tests" / "schema" / "positive" / "kitchen-sink.yaml").tree.plain()
JUNK = [None, True, False, 0, -1, 1.5, 10**7, "", "x", "a b", "16Gi", "hf://a/b", "\n", [], {}, [1], ["x"], [{}]]
JUNK += [{"a": 1}, {"a": {"b": None}}]
NAMES = ["a", "zz", "on", "env", "containers", "tolerations", "key"]


@st.composite
def damaged(draw):
    """The kitchen sink after one or two entries were replaced, removed or added."""
    values = copy.deepcopy(SEED)
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from([path for path in places(values) if path]))
        parent = values
        for step in way:
            parent = parent[step]
        junk = copy.deepcopy(draw(st.sampled_from(JUNK)))
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            del parent[last]
        elif action == "add" and isinstance(parent, dict):
            parent[draw(st.sampled_from(NAMES))] = junk
        else:
            parent[last] = junk
    return values


def findings(values, **how):
    return check([Subject([parse(json.dumps(values).encode(), "values.json")])], **how).findings


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged())
def test_there_is_a_finding_or_none_but_never_a_crash(values):
    for finding in findings(values):
        assert finding.message
        assert finding.fix
        assert finding.line >= 1


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(damaged())
def test_helm_agrees(values):
    """But for what estimates tell, which Helm makes none of."""
    if any(finding.severity == "error" for finding in findings(values, context=NOTHING_ESTIMATED)):
        with pytest.raises(UserError):
            render(values)
    else:
        render(values)
