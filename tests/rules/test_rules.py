"""Every rule has an entry in the catalogue, values it is found in and values it is not, and every known failure a rule
or the reason why there is none.

tests/rules/<rule>/bad.yaml begins with a line `# expects: <path> <rule>` for each thing that is wrong with it; more
lines, `# <option>: <value>`, are options of validate, see OPTIONS. A rule whose bad values are a case of tests/schema
has good.yaml only.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from gpu_inference.cli import main
from gpu_inference.report import SEVERITIES
from gpu_inference.validate.catalogue import FOLDER, NEEDS, catalogue, dropped, load_yaml, numbers
from gpu_inference.validate.engine import check

HERE = Path(__file__).parent
SCHEMA = HERE.parent / "schema"
RULES = catalogue()
CASES = {path.name: path for path in sorted(HERE.iterdir()) if path.is_dir() and path.name != "__pycache__"}
BAD = {path: path.parent.name for path in sorted(HERE.glob("*/bad.yaml"))}
# The others; theirs are more than one a rule.
SHARED = [*sorted(SCHEMA.glob("negative/*.yaml")), *sorted(SCHEMA.glob("warning/*.yaml"))]
EXPECTS = re.compile(r"^# expects: (\S+) (\S+)$", re.MULTILINE)
# A comment's key -> the option of validate it stands for; a value `true` is none, the name of a file is one beside it.
OPTIONS = {
    "kubernetes": "--kube-version",
    "cluster": "--cluster-profile",
    "render": "--render",
    "production": "--production",
}
# What no values can provoke: no keyword of the schema leads to it today.
UNREACHABLE = {"schema"}


def expected(path: Path) -> set[tuple[str, str]]:
    return set(EXPECTS.findall(path.read_bytes().decode(errors="replace")))


def options(path: Path) -> list[str]:
    words = []
    for key, value in re.findall(r"^# ([a-z]+): (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        if key in OPTIONS:
            beside = path.with_name(value)
            words += [OPTIONS[key], *([] if value == "true" else [str(beside) if beside.is_file() else value])]
    return words


def findings(path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    main(["validate", str(path), "-o", "json", "--fail-on", "never", *options(path)])
    found: list[dict[str, str]] = json.loads(capsys.readouterr().out)["findings"]
    return found


@pytest.mark.parametrize("path", BAD, ids=BAD.values())
def test_bad(path, capsys):
    wanted = expected(path)
    assert BAD[path] in {rule for _, rule in wanted}, "say what is expected"
    found = findings(path, capsys)
    assert wanted <= {(finding["path"], finding["rule"]) for finding in found}
    # Nothing else is wrong with it that one could take for the rule.
    errors = {(finding["path"], finding["rule"]) for finding in found if finding["severity"] == "error"}
    assert errors <= wanted
    for finding in found:
        assert finding["severity"] in RULES[finding["rule"]].severities
        assert finding["message"]
        assert finding["fix"]


@pytest.mark.parametrize("rule", CASES)
def test_good(rule, capsys):
    bad = [finding for finding in findings(CASES[rule] / "good.yaml", capsys) if finding["severity"] == "error"]
    assert bad == []
    assert rule not in {finding["rule"] for finding in findings(CASES[rule] / "good.yaml", capsys)}


def test_every_rule_has_both():
    shared = {rule for path in SHARED for _, rule in expected(path)}
    own = set(BAD.values())
    assert CASES.keys() <= RULES.keys()
    assert RULES.keys() - own - shared == UNREACHABLE
    assert RULES.keys() - CASES.keys() == UNREACHABLE


def test_the_catalogue_has_every_rule_of_the_code():
    """Rules whose names the code puts together are named here."""
    folder = Path(inspect.getfile(check)).parent
    files = [*folder.rglob("*.py"), folder.parent / "estimate" / "problems.py"]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r'istake\(\s*"([a-z]+(?:-[a-z]+)*)"', code)) | {"incomplete-preset"}
    named |= {f"unknown-{what}" for what in ("cloud", "runtime", "accelerator")}
    named |= {f"ignore-{what}" for what in ("unreadable", "expired", "unused")}
    assert len(named) > 70
    assert named - RULES.keys() == set()
    text = {name for name in RULES if name.startswith("yaml-")}
    mentioned = {name for name in RULES.keys() - named - text if f'"{name}"' in code}
    assert RULES.keys() - named - text - mentioned == set()


def test_the_catalogue_has_every_problem_of_text():
    code = "".join(path.read_text(encoding="utf-8") for path in FOLDER.parents[1].glob("[iv][na][pl]u[te]s/*.py"))
    named = set(re.findall(r'(?:_fail|Problem)\(\s*"([a-z-]+)"', code))
    named |= set(re.findall(r'problem\(\s*manifest, \w+, "([a-z-]+)"', code)) | {"parameter"}
    assert {f"yaml-{name}" for name in named} == {name for name in RULES if name.startswith("yaml-")}


@pytest.mark.parametrize("name", RULES)
def test_entry(name):
    rule = RULES[name]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert rule.severities
    assert set(rule.severities) <= {*SEVERITIES}
    assert rule.needs in NEEDS
    for text in (rule.summary, rule.why):
        assert re.fullmatch(r"\S.*\.", text), text
        assert len(text) <= 200, text
    assert rule.evidence
    for url in rule.evidence:
        assert re.fullmatch(r"https://[a-z0-9.-]+/\S*", url), url
    assert set(rule.codes) <= {*numbers()}


def test_every_known_failure_has_a_rule_or_a_reason():
    """Those that have neither yet are printed."""
    covered = {code for rule in RULES.values() for code in rule.codes}
    undecided = set(load_yaml(FOLDER / "dropped.yaml").get("open", ()))
    assert len(numbers()) == len({*numbers()}) == 125
    assert dropped().keys() <= {*numbers()}
    assert all(re.fullmatch(r"\S.*\.", reason, re.DOTALL) for reason in dropped().values())
    assert dropped().keys() & covered == set()
    left = sorted({*numbers()} - covered - dropped().keys())
    print("neither a rule nor a reason:", *left)
    assert set(left) <= undecided


@pytest.mark.parametrize("code", dropped())
def test_what_a_reason_names_is_there(code):
    """Tests by file and name, and files."""
    paths = re.findall(r"\b(?:tests|chart)/[\w./]+\.(?:py|yaml)", dropped()[code])
    text = "".join((HERE.parents[1] / path).read_text(encoding="utf-8") for path in paths)
    for test in re.findall(r"\btest_\w+\b(?!\.py)", dropped()[code]):
        assert f"def {test}(" in text, test
