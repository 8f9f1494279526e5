"""Every case through Helm, both majors, and through `validate`: they agree, and a negative case fails for what it says.

A negative case starts with one line `# expects: <path> <rule>` for each thing that is wrong with it. A warning case
expects warnings only, and Helm renders it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.render import MAJORS, render

from gpu_inference.errors import UserError
from gpu_inference.schema.bundle import follow, source
from gpu_inference.validate.engine import Subject, check
from gpu_inference.values.loader import load

HERE = Path(__file__).parent
POSITIVE = sorted((HERE / "positive").glob("*.yaml"))
NEGATIVE = sorted((HERE / "negative").glob("*.yaml"))
WARNING = sorted((HERE / "warning").glob("*.yaml"))
EXPECTS = re.compile(r"^# expects: (\S+) (\S+)$", re.MULTILINE)


def findings(path: Path, severity: str = "error") -> set[tuple[str, str]]:
    """(path, rule) of what is wrong, or just worth a warning."""
    found = check([Subject([load(path)])]).findings
    return {(finding.path, finding.rule) for finding in found if finding.severity == severity}


def helm_refuses(path: Path, major: int) -> str:
    try:
        render(layers=[path], major=major)
    except UserError as error:
        return error.message
    return ""


@pytest.mark.parametrize("path", POSITIVE, ids=lambda path: path.stem)
def test_positive(path):
    assert findings(path) == set()
    for major in MAJORS:
        assert not helm_refuses(path, major), major


@pytest.mark.parametrize("path", NEGATIVE, ids=lambda path: path.stem)
def test_negative(path):
    expected = set(EXPECTS.findall(path.read_text(encoding="utf-8")))
    assert expected, "say what is expected"
    assert findings(path) == expected
    for major in MAJORS:
        assert helm_refuses(path, major), major


@pytest.mark.parametrize("path", WARNING, ids=lambda path: path.stem)
def test_warning(path):
    expected = set(EXPECTS.findall(path.read_text(encoding="utf-8")))
    assert expected, "say what is expected"
    assert findings(path, "warning") == expected
    report = check([Subject([load(path)])])
    assert {finding.severity for finding in report.findings} == {"warning"}
    assert report.exit_code == 0
    for major in MAJORS:
        assert not helm_refuses(path, major), major


def test_every_finding_has_a_place_and_a_fix():
    for path in [*NEGATIVE, *WARNING]:
        for finding in check([Subject([load(path)])]).findings:
            assert finding.file == str(path), path.stem
            assert finding.fix, path.stem
            assert finding.message, path.stem


def test_kitchen_sink_sets_every_key():
    sink = load(HERE / "positive" / "kitchen-sink.yaml").tree.plain()

    def missing(schema, value, path=""):
        for key, child in follow(schema).get("properties", {}).items():
            if key not in value:
                yield f"{path}.{key}"
            elif isinstance(value[key], dict):
                yield from missing(child, value[key], f"{path}.{key}")

    assert list(missing(source()[1]["model"], sink["models"]["chat"])) == []
    assert source()[0]["properties"].keys() == sink.keys()
