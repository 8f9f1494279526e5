"""Helm's way of laying values files over each other and over the chart's defaults, positions included.

Mirrors Helm 4.3.1, which differs from 3.22.0 only in nulls among the chart's own defaults (ours have none):
`MergeMaps` in pkg/chart/v2/loader/load.go for the -f layers, `CoalesceValues` in pkg/chart/common/util/coalesce.go
for the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpu_inference.values.tree import Position, Tree


def merge_layers(layers: Sequence[Tree]) -> Tree:
    """The user's values: of the -f layers, first to last, maps are merged and everything else is replaced; a null
    stays."""
    merged = Tree({}, layers[0].at if layers else Position("", 1, 1))
    for layer in layers:
        merged = _merge(merged, layer)
    return merged


def coalesce(defaults: Tree, user: Tree) -> Tree:
    """The user's values over the chart's defaults: a null removes the default below it, and stays where there is none
    to remove."""
    return replace(user, value=_coalesce_maps(_map(defaults), _map(user)))


def helm_values(defaults: Tree, layers: Sequence[Tree]) -> Tree:
    """What `.Values` holds, and what Helm checks against the schema, for `helm template CHART -f layer -f layer`."""
    return coalesce(defaults, merge_layers(layers))


def _map(tree: Tree) -> dict[str, Tree]:
    assert isinstance(tree.value, dict), "values are maps at the top"
    return tree.value


def _merge(below: Tree, above: Tree) -> Tree:
    """`above` wins; where both are maps their keys are united, and a shared key keeps the upper layer's position."""
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    merged = dict(below.value)
    for key, tree in above.value.items():
        merged[key] = _merge(merged[key], tree) if key in merged else tree
    return replace(above, value=merged)


def _coalesce_maps(defaults: dict[str, Tree], user: dict[str, Tree]) -> dict[str, Tree]:
    result = {}
    for key, tree in user.items():
        default = defaults.get(key)
        if tree.value is None and default is not None and default.value is not None:
            continue
        if default is not None and isinstance(tree.value, dict) and isinstance(default.value, dict):
            tree = replace(tree, value=_coalesce_maps(default.value, tree.value))
        result[key] = tree
    return result | {key: tree for key, tree in defaults.items() if key not in user}
