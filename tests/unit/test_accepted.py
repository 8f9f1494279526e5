"""Findings that a comment or an earlier report accepts."""

from __future__ import annotations

from datetime import date

import pytest

from gpu_inference.cli import main
from gpu_inference.validate.engine import Subject, check
from gpu_inference.values.loader import parse

EXPOSED = "open-service"
MODEL = """\
models:
  a:
    runtime: vllm
    model: {source: "hf://org/name"}
    accelerator: {type: nvidia-l4}
"""
TODAY = date(2026, 11, 21)


def findings(comment: str, same_line: bool = False, today: date = TODAY) -> set[tuple[str, int, str]]:
    service = "    service: {type: LoadBalancer}"
    text = f"{MODEL}{service}  {comment}\n" if same_line else f"{MODEL}    {comment}\n    # and\n{service}\n"
    report = check([Subject([parse(text.encode(), "v.yaml")])], today)
    return {(f.rule, f.line, f.severity) for f in report.findings}


def test_without_a_comment_it_is_found():
    assert {rule for rule, _, severity in findings("") if severity == "warning"} == {EXPOSED}


@pytest.mark.parametrize("same_line", [True, False])
def test_accepted(same_line):
    assert findings(f"# gpu-inference: ignore {EXPOSED} until 2026-11-21: inside only", same_line) == set()


def test_the_day_after_the_last_it_is_back():
    found = findings(f"# gpu-inference: ignore {EXPOSED} until 2026-11-20: inside only")
    assert {(rule, severity) for rule, _, severity in found} == {(EXPOSED, "warning"), ("ignore-expired", "warning")}


def test_another_rule_is_not_meant():
    found = findings("# gpu-inference: ignore name-length until 2027-01-01: why")
    assert {rule for rule, _, _ in found} == {EXPOSED, "ignore-unused"}


@pytest.mark.parametrize(
    "rest",
    [
        "",
        f" {EXPOSED}",
        f" {EXPOSED} until 2027-01-01",
        f" {EXPOSED} until 2027-01-01: ",
        f" {EXPOSED} until 2027-13-01: why",
    ],
)
def test_reason_and_day_are_needed(rest):
    found = findings(f"# gpu-inference: ignore{rest}")
    assert ("ignore-unreadable", 6, "error") in found
    assert EXPOSED in {rule for rule, _, _ in found}


def test_a_baseline_hides_what_it_knows_wherever_it_has_moved(tmp_path, capsys):
    values, baseline = tmp_path / "v.yaml", tmp_path / "known.json"
    values.write_text(MODEL + "    service: {type: LoadBalancer}\n")
    assert main(["validate", str(values), "-o", "json", "--fail-on", "warning"]) == 1
    baseline.write_text(capsys.readouterr().out)
    values.write_text("# more\n" + MODEL + "    service: {type: LoadBalancer}\n")
    words = ["validate", str(values), "--fail-on", "warning", "--baseline", str(baseline)]
    assert main(words) == 0
    values.write_text(MODEL + "    service: {type: LoadBalancer}\n    replica: 2\n")
    assert main(words) == 1
    assert EXPOSED not in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "{", "[]", '{"findings": [{}]}', '{"findings": 1}'])
def test_what_is_no_baseline(tmp_path, capsys, text):
    values, baseline = tmp_path / "v.yaml", tmp_path / "known.json"
    values.write_text(MODEL)
    if text is not None:
        baseline.write_text(text)
    assert main(["validate", str(values), "--baseline", str(baseline)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
