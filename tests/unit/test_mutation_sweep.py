"""Whatever is broken in a values file, one place at a time, is found by `validate`, and refused by Helm where the
schema or a check of the chart says so."""

from __future__ import annotations

import functools
import re

import pytest
from support.render import helm

import mutation_sweep
from gpu_inference.paths import ROOT

# Rules the chart's own checks know, too.
SHARED = {
    rule
    for path in (ROOT / "tests" / "schema" / "negative").glob("*.yaml")
    for rule in re.findall(r"^# expects: \S+ (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
}


@functools.cache
def tried():
    everything = (mutant for file in mutation_sweep.FILES for mutant in mutation_sweep.mutants(file))
    return list(mutation_sweep.escapes(everything))


def test_nothing_escapes_but_what_is_waived():
    waivers = mutation_sweep.read_waivers()
    assert [str(mutant) for mutant, found in tried() if not found and not mutation_sweep.waived(mutant, waivers)] == []


def test_every_kind_is_tried():
    assert len(tried()) > 2500
    assert {mutant.kind for mutant, _ in tried()} == {"key", "type", "enum", "preset", "negated"}


@pytest.mark.parametrize("waiver", mutation_sweep.read_waivers(), ids=lambda waiver: waiver["places"][0])
def test_every_waiver_is_about_something_and_says_why(waiver):
    for place in waiver["places"]:
        one = [{**waiver, "places": [place]}]
        assert any(not found and mutation_sweep.waived(mutant, one) for mutant, found in tried()), place
    assert len(waiver["reason"].split()) > 5


def test_helm_refuses_what_it_can_know():
    """Of one mutant of each kind at each place, every fourth: `python tools/mutation_sweep.py --helm` tries all."""
    known = [m for m, found in tried() if any(f.severity == "error" and f.rule in SHARED for f in found)]
    sample = list(mutation_sweep.one_of_each(known))[::4]
    assert len(sample) > 100
    assert [str(mutant) for mutant in sample if not mutation_sweep.refused(helm(), mutant)] == []


@pytest.mark.parametrize(
    ("key", "wrong"), [("replicas", "replcias"), ("env", "evn"), ("aa", "aax"), ("a", "ax"), ("off", "offx")]
)
def test_a_misspelled_key_is_another_one(key, wrong):
    assert mutation_sweep.misspelled(key) == wrong
