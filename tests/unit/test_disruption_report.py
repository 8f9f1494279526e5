"""The disruptions' table in the docs is the one of the committed results, and these cover every disruption there is."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from disruption import report
from disruption.traffic import Mix, Result, Run

from gpu_inference.load.records import Record

ROWS = json.loads(report.RESULTS.read_text())


def named() -> set[str]:
    """What the tests pass to `disruption` as a name, and the parameters that become one."""
    found: set[str] = set()
    for path in report.HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "disruption":
                first = node.args[0]
                found |= {first.value} if isinstance(first, ast.Constant) else set()
    return found


def test_the_table_is_the_committed_results() -> None:
    assert report.with_table(report.README.read_text(), ROWS) == report.README.read_text()
    assert report.dump(ROWS) == report.RESULTS.read_text()


def test_every_disruption_has_a_result() -> None:
    assert named() <= {row["scenario"] for row in ROWS}


def test_nothing_failed_but_where_it_had_to() -> None:
    mutations = [row for row in ROWS if row["scenario"].startswith("mutation-")]
    others = [row for row in ROWS if row not in mutations]
    assert [row["scenario"] for row in others if row["failed"]] == []
    assert sum(row["sent"] for row in others) >= 10_000
    assert [row["scenario"] for row in mutations if not row["failed"]] == ["mutation-no-spare-gpu"]


class Load:
    """A replay that began at 0."""

    began = 0.0


def record(sent: float, seconds: float, error: str | None) -> Record:
    return Record("t", sent, sent, 1, e2e=seconds, error=error)


@pytest.mark.parametrize(
    ("sent", "seconds", "lost"),
    [(1, 8, 0), (1, 9.5, 1), (10, 0.1, 1), (11.5, 3, 1), (12.5, 1, 0)],
    ids=["over before", "under way", "while nobody knew", "at the end", "after"],
)
def test_lost_is_only_what_was_under_way_meanwhile(sent: float, seconds: float, lost: int) -> None:
    result = Result("x", "y")
    run: Any = Run(result, Load(), lambda: [])  # type: ignore[arg-type]
    run.lose(10, 12)
    run.judge([record(0, 1, None), record(sent, seconds, "cut")])
    assert (result.sent, result.failed, result.lost, result.slowest) == (2, 1 - lost, lost, 1)


def test_the_mix_is_even() -> None:
    arrivals = Mix(shorts=10, streams=1, tokens=7).arrivals()
    first = [arrival for arrival in arrivals if arrival.time < 10]
    assert len(first) == 110
    assert sum(arrival.output == 7 for arrival in first) == 10
