"""Every pair of the big switches, in one release a cloud: equal on both Helms, valid on every Kubernetes."""

from __future__ import annotations

import itertools

import pytest
from support.api_schemas import VERSIONS, known, problems, shape
from support.invariants import breaches
from support.matrix import CLOUDS
from support.objects import name
from support.pairwise import Row, pairs, rows
from support.render import render, render_error
from support.switches import FACTORS, RULES, SWITCHES, UNWISE, broken_rules, combinations, combined, model, paired


@pytest.mark.parametrize("cloud", CLOUDS)
def test_invariants_hold(cloud):
    assert breaches(combined(cloud).objects) == {}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_helm_3_and_helm_4_agree(cloud):
    case = combined(cloud)
    assert render(layers=case.layers, major=3) == case.objects


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_objects_are_valid(cloud, version):
    seen, found = set(), {}
    for obj in combined(cloud).objects:
        key = (obj["kind"], shape(obj))
        if key not in seen and known(obj, version):
            found[name(obj)] = problems(obj, version)
        seen.add(key)
    assert found
    assert {what: p for what, p in found.items() if p} == {}


def test_every_pair_is_there():
    """Counted anew: a pair is missing only where a rule, or several together, leave no row for it."""
    made = combinations()
    there = set().union(*map(pairs, made))
    everything = {
        tuple(sorted(((a, x), (b, y))))
        for a, b in itertools.combinations(FACTORS, 2)
        for x in FACTORS[a]
        for y in FACTORS[b]
    }
    _, impossible = paired()
    assert everything - there == impossible
    # Without rules there is nothing that cannot be: the rules alone leave pairs out.
    assert rows(dict(list(FACTORS.items())[2:]), lambda row: True)[1] == set()
    for switch, values in FACTORS.items():
        assert {row[switch] for row in made} == set(values)


def test_rows_are_the_same_every_time():
    few = dict(list(FACTORS.items())[3:9])
    assert rows(few, lambda row: not broken_rules(row)) == rows(few, lambda row: not broken_rules(row))


def only_this_broken(text: str) -> Row:
    """A row that differs from an accepted one in few switches and breaks just one rule."""
    for row in combinations():
        for first, second in itertools.combinations(FACTORS, 2):
            for x, y in itertools.product(FACTORS[first], FACTORS[second]):
                if broken_rules(changed := {**row, first: x, second: y}) == [text]:
                    return changed
    raise AssertionError(f"no row breaks the rule alone: {text}")


@pytest.mark.parametrize("text", RULES)
def test_what_is_left_out_is_refused_by_the_chart(text):
    """The rules hide nothing that would render: each is a check of the chart's own."""
    row = only_this_broken(text)
    message = render_error({"cloud": row["cloud"], "models": {"m": model(row, "m")}})
    assert "models.m." in message and "Fix: " in message, row


@pytest.mark.parametrize("text", UNWISE)
def test_what_is_unwise_is_rendered_all_the_same(text):
    row = only_this_broken(text)
    assert render({"cloud": row["cloud"], "models": {"m": model(row, "m")}})


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_value_of_a_switch_changes_what_is_rendered(switch):
    """A line of the table that changes nothing would test nothing."""
    first, *others = SWITCHES[switch]
    for value in others:
        # Mixed capacity sets replicas and autoscaling itself.
        own = [r for r in combinations() if switch == "capacity" or r["capacity"] != "mixed"]
        row = next(r for r in own if r[switch] == value and not broken_rules({**r, switch: first}))
        one, other = (
            render({"cloud": row["cloud"], "models": {"m": model({**row, switch: each}, "m")}})
            for each in (value, first)
        )
        assert one != other, value
