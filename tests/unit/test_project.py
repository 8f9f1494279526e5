"""The project as a whole: what lies at the top, and what no file may hold."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from gpu_inference.paths import ROOT

TOP = {
    "README.md", "pyproject.toml", "requirements.lock", "Makefile", "LICENSE", "CHANGELOG.md",
    "chart", "values", "schema", "tools", "tests", "ci",
}  # fmt: skip
OPTIONAL = {"docs"}
MADE_BY_TOOLS = {"out", "build", "dist", "__pycache__", "node_modules"}
CACHES = {".git", ".venv", ".ruff_cache", ".mypy_cache", ".pytest_cache", ".hypothesis"}
TEXT = {
    ".py",
    ".md",
    ".yaml",
    ".yml",
    ".json",
    ".toml",
    ".tpl",
    ".txt",
    ".cfg",
    ".sh",
    ".mod",
    ".lock",
    ".html",
    ".css",
    ".js",
    "",
}


def project_files() -> list[Path]:
    """The project's own text files; works from a tarball too."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in CACHES | MADE_BY_TOOLS and not f.endswith(".egg-info")]
        found += [Path(folder, f) for f in files if Path(f).suffix in TEXT and f != "go.sum"]
    return found


FILES = project_files()


def offenders(pattern: str, but: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """file:line of every match of a regular expression."""
    wanted = re.compile(pattern)
    found = []
    for path in FILES:
        if path == Path(__file__) or str(path.relative_to(ROOT)) in but:
            continue
        text = path.read_text(errors="replace")
        if wanted.search(text):
            found += [
                f"{path.relative_to(ROOT)}:{number}"
                for number, line in enumerate(text.splitlines(), 1)
                if wanted.search(line)
            ]
    return found


def test_files_are_found():
    assert len(FILES) > 100


def test_top_level():
    top = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") and p.name not in MADE_BY_TOOLS}
    assert top - OPTIONAL == TOP


def test_no_registry_hosts():
    """Registries are a matter of the machine: nothing here names one."""
    hosts = r"(proxy|sum|registry|index|files|static|repo\d*|deb|pypi)"
    assert offenders(rf"https?://{hosts}\.(?!example\.)|{hosts}\.(golang|pythonhosted|npmjs)\.|\bpypi\.org") == []
    for lock in [
        ROOT / "requirements.lock",
        *ROOT.glob("tools/binaries/**/*.txt"),
        *ROOT.glob("tools/binaries/*/go.sum"),
    ]:
        # A digest is base64, which may begin with two slashes: "h1://…".
        assert "://" not in lock.read_text().replace(" h1:", " "), lock


def test_no_machine_paths():
    """Absolute paths of somebody's machine."""
    assert offenders(r"(?<![\w./])/(work|root|Users)/\w") == []


def test_no_merge_leftovers():
    assert offenders(r"^(<{7}|>{7})( |$)") == []


def test_every_runtime_dependency_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text().lower()
    wanted = [*project["dependencies"], *(d for group in project["optional-dependencies"].values() for d in group)]
    for requirement in wanted:
        name = re.split(r"[<>=\[ ]", requirement)[0].lower()
        assert re.search(rf"^{re.escape(name)}==", lock, flags=re.MULTILINE), name
    assert "--hash=sha256:" in lock


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_readme_shows(command):
    assert command in (ROOT / "README.md").read_text()


def test_makefile_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = re.findall(r"^(?:\$ )?make ([a-z]+)|`make ([a-z]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert {first or second for first, second in shown} <= targets


def test_ci_calls_the_test_command():
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_relative_links_of_the_documents_resolve():
    broken = []
    for document in [p for p in FILES if p.suffix == ".md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                path = (document.parent / target).resolve()
                if not path.exists():
                    broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert broken == []
