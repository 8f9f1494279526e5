"""Rows that between them hold every pair of values of every two factors: n factors of a few values in a few dozen rows.

The usual greedy construction (one row at a time, from a pair that is still missing, each further value the one that
brings most missing pairs), without chance: equal input gives equal rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

Row = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def pairs(row: Mapping[str, str]) -> set[Pair]:
    """Every two values of a row."""
    return set(itertools.combinations(sorted(row.items()), 2))


def rows(factors: Mapping[str, Sequence[str]], allowed: Callable[[Row], bool]) -> tuple[list[Row], set[Pair]]:
    """Rows with every possible pair, and the pairs that no row can have.

    `allowed` judges a row that may still be incomplete: False when it cannot be completed, whatever the rest.
    """
    order = sorted(factors, key=lambda factor: -len(factors[factor]))
    missing = {
        tuple(sorted(((a, x), (b, y))))
        for a, b in itertools.combinations(order, 2)
        for x in factors[a]
        for y in factors[b]
    }
    waiting = sorted(missing)
    made: list[Row] = []
    impossible: set[Pair] = set()
    for pair in waiting:
        if pair not in missing:
            continue
        row = _complete(dict(pair), order, factors, allowed, missing) if allowed(dict(pair)) else None
        if row is None:
            impossible.add(pair)
            missing.discard(pair)
        else:
            made.append(row)
            missing -= pairs(row)
    return made, impossible


def _complete(
    row: Row,
    order: Sequence[str],
    factors: Mapping[str, Sequence[str]],
    allowed: Callable[[Row], bool],
    missing: set[Pair],
) -> Row | None:
    """The row with all factors, by the values that bring most; None when there is no such row."""
    left = [factor for factor in order if factor not in row]
    if not left:
        return row
    # The factor with the fewest values left first: a row that cannot be completed is given up at once.
    options = {factor: [value for value in factors[factor] if allowed({**row, factor: value})] for factor in left}
    factor = min(left, key=lambda factor: len(options[factor]))

    def brings(value: str) -> int:
        mine = (factor, value)
        return sum(((mine, other) if mine < other else (other, mine)) in missing for other in row.items())

    for value in sorted(options[factor], key=lambda value: -brings(value)):
        done = _complete({**row, factor: value}, order, factors, allowed, missing)
        if done:
            return done
    return None
