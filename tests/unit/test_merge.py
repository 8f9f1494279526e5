"""Layers keep the position of what they set. That the data are Helm's is test_loader_like_helm.py's business."""

from __future__ import annotations

from gpu_inference.values.loader import parse
from gpu_inference.values.merge import helm_values, merge_layers


def tree(name: str, text: str):
    return parse(text.encode(), name).tree


def test_the_layer_that_set_a_value_last_is_its_place():
    merged = merge_layers([tree("one", "a: {p: 1, q: 2}\nb: 1\n"), tree("two", "\na: {q: 3}\n")])
    assert merged.plain() == {"a": {"p": 1, "q": 3}, "b": 1}
    places = {path: str(merged.find(path).at) for path in (("a", "p"), ("a", "q"), ("b",))}
    assert places == {("a", "p"): "one:1:8", ("a", "q"): "two:2:8", ("b",): "one:2:4"}


def test_defaults_keep_their_place():
    values = helm_values(tree("defaults", "a: {p: 1}\n"), [tree("user", "a: {q: 2}\n")])
    assert str(values.find(("a", "p")).at) == "defaults:1:8"
    assert str(values.find(("a", "q")).key_at) == "user:1:5"


def test_a_list_is_replaced_with_its_places():
    values = helm_values(tree("defaults", "a: [1, 2]\n"), [tree("user", "a: [3]\n")])
    assert values.plain() == {"a": [3]}
    assert str(values.find(("a", 0)).at) == "user:1:5"


def test_a_null_deletes_a_default_and_nothing_else():
    values = helm_values(tree("defaults", "a: {p: 1}\nb: 2\n"), [tree("user", "a: {p: null, q: null}\nb: ~\nc: ~\n")])
    assert values.plain() == {"a": {"q": None}, "c": None}


def test_a_later_layer_undoes_a_null():
    values = helm_values(tree("defaults", "a: {p: 1}\n"), [tree("one", "a: ~\n"), tree("two", "a: {q: 2}\n")])
    assert values.plain() == {"a": {"p": 1, "q": 2}}


def test_layers_are_not_changed():
    one, two = tree("one", "a: {p: 1}\n"), tree("two", "a: {q: 2}\n")
    helm_values(one, [two])
    assert (one.plain(), two.plain()) == ({"a": {"p": 1}}, {"a": {"q": 2}})
