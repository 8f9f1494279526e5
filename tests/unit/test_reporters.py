"""The formats `gpu-inference validate` writes, each read back as its consumer reads it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from gpu_inference.report import Finding, Report
from gpu_inference.reporters import FORMATS, reporter

BAD = Finding("./prod.yaml", 3, 7, "name-length", "$.models.a", "100%: a|b, c:d e", "shorten it")
MILD = replace(BAD, line=1, column=2, rule="runtime-status", path="$", severity="warning")
LINES = {"./prod.yaml": ["cloud: aks", "models:", "\ta:   1\r"]}
REPORT = Report([BAD, MILD], ["./prod.yaml", "dev.yaml + own.yaml"], LINES)


def written(name: str, report: Report = REPORT, verbosity: int = 1) -> str:
    out = io.StringIO()
    reporter(name)(out, verbosity).write(report)
    return out.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_found_is_written_too(name):
    assert "name-length" not in written(name, Report([], ["dev.yaml"]))


def test_text_shows_the_line():
    lines = written("text").splitlines()
    assert lines[0].startswith("./prod.yaml:3:7: $.models.a: 100%")
    excerpt = lines[lines.index("  3 | \ta:   1") :]
    # The caret stands under the seventh column, the tab before it repeated.
    assert excerpt[1] == "    | \t     ^"
    assert excerpt[1].index("^") == excerpt[0].index("1")
    assert " | " not in written("text", verbosity=0)


def test_text_has_no_excerpt_of_what_it_cannot_show():
    for lines in ([], ["", "", " " * 5], ["", "", "x" * 500]):
        assert " | " not in written("text", replace(REPORT, sources={"./prod.yaml": lines}, findings=[BAD]))


def test_sarif():
    log = json.loads(written("sarif"))
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert {r["ruleId"] for r in run["results"]} == {r["id"] for r in rules}
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    first = run["results"][0]
    place = first["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "prod.yaml"}, "region": {"startLine": 3, "startColumn": 7}}
    assert [r["level"] for r in run["results"]] == ["error", "warning"]
    moved = json.loads(written("sarif", replace(REPORT, findings=[replace(BAD, line=30, message="101%")])))
    assert moved["runs"][0]["results"][0]["partialFingerprints"] == first["partialFingerprints"]


def test_github_commands_hold_no_line_ends_and_errors_come_first():
    lines = written("github", replace(REPORT, findings=[MILD, BAD])).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]
    properties, message = lines[0].removeprefix("::error ").split("::", 1)
    assert dict(p.split("=") for p in properties.split(",")) == {
        "file": "./prod.yaml",
        "line": "3",
        "col": "7",
        "title": "name-length%3A $.models.a",
    }
    assert message == "100%25: a|b, c:d e. Fix: shorten it."
    broken = written("github", Report([replace(BAD, message="a\nb")], []))
    assert broken.count("\n") == 1
    assert "a%0Ab" in broken


def test_gitlab():
    issues = json.loads(written("gitlab"))
    assert [issue["severity"] for issue in issues] == ["major", "minor"]
    assert issues[0]["location"] == {"path": "prod.yaml", "lines": {"begin": 3}}
    assert len({issue["fingerprint"] for issue in issues}) == 2


@pytest.mark.parametrize(("fail_on", "failures"), [("error", 1), ("warning", 2), ("info", 2), ("never", 0)])
def test_junit_counts_what_fails(fail_on, failures):
    report = replace(REPORT, fail_on=fail_on)
    suite = ElementTree.fromstring(written("junit", report).split("\n", 1)[1])
    assert [case.get("name") for case in suite] == ["./prod.yaml", "dev.yaml + own.yaml"]
    assert len(suite.findall("testcase/failure")) == failures
    assert len(suite.findall("testcase/system-out")) == 2 - failures
    assert (suite.get("tests"), suite.get("failures")) == ("2", str(min(failures, 1)))
    assert report.exit_code == bool(failures)


def test_a_markdown_row_is_a_line():
    text = written("markdown")
    assert text.startswith("### Values failed: 2 findings in 2 values sets\n")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) == 2
    assert "a\\|b, c:d e" in rows[0]
