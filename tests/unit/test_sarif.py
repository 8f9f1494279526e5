"""SARIF as its standard's own JSON schema has it, which an npm package carries."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from gpu_inference.cli import main
from gpu_inference.paths import cache_dir
from gpu_inference.validate.catalogue import catalogue

PACKAGE, VERSION = "@microsoft/jest-sarif", "1.0.0-beta.0"
CASES = Path(__file__).parents[1] / "schema"


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    folder = cache_dir() / f"sarif-schema-{VERSION}"
    path = folder / "node_modules" / PACKAGE / "lib/schemas/sarif-2.1.0-rtm.5.json"
    if not path.exists():
        words = ["npm", "install", "--silent", "--ignore-scripts", "--prefix", str(folder), f"{PACKAGE}@{VERSION}"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm cannot install {PACKAGE} {VERSION}: {done.stderr[-200:]}")
    text = json.loads(path.read_text(encoding="utf-8"))
    assert "2.1.0" in text["title"]
    return Draft7Validator(text, format_checker=Draft7Validator.FORMAT_CHECKER)


def written(capsys, *files: Path) -> dict:
    main(["validate", "-o", "sarif", "--fail-on", "never", *map(str, files)])
    log: dict = json.loads(capsys.readouterr().out)
    return log


@pytest.fixture
def log(capsys) -> dict:
    """The log of every case there is: of nearly all rules."""
    return written(capsys, *sorted(CASES.glob("*/*.yaml")))


def test_valid(schema, log, capsys):
    assert list(schema.iter_errors(log)) == []
    assert list(schema.iter_errors(written(capsys, CASES / "positive" / "kitchen-sink.yaml"))) == []


def test_the_schema_refuses_what_is_none(schema, log):
    (run,) = log["runs"]
    run["results"][0]["level"] = "fatal"
    run["tool"]["driver"]["rules"][0]["helpUri"] = 1
    del run["results"][1]["message"]
    assert len(list(schema.iter_errors(log))) >= 3


def test_rules_are_the_catalogues(log):
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert len(rules) > 60
    for rule in rules:
        entry = catalogue()[rule["id"]]
        assert rule["shortDescription"]["text"] == entry.summary
        assert entry.why in rule["fullDescription"]["text"]
        assert rule["helpUri"] in entry.evidence
        level = {"error": "error", "warning": "warning", "info": "note"}[entry.severity]
        assert rule["defaultConfiguration"] == {"level": level}
