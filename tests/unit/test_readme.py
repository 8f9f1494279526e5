"""The README is true: its commands run and print what it shows, its values are valid, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_inference.cli import VERBS
from gpu_inference.helm import find_helm
from gpu_inference.paths import ROOT

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CLI = ".venv/bin/gpu-inference "
GI = str(Path(sys.executable).with_name("gpu-inference"))


def sessions() -> list[tuple[str, str]]:
    """(command, output shown below it) of every console block."""
    found = []
    for language, body in BLOCKS:
        if language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append((command.split("  #")[0].strip(), output))
    return found


COMMANDS = [command for command, _ in sessions()]
SHOWN = [(command, output) for command, output in sessions() if command.startswith(CLI)]
INSTALLS = [command for command in COMMANDS if command.startswith("helm install") and "chart/" in command]
VALUES = [body for language, body in BLOCKS if language == "yaml" and re.match(r"(cloud|models|runtimes):", body)]


def test_two_commands_do_everything() -> None:
    assert {"make demo", "make test"} <= set(COMMANDS)
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {command.split()[1] for command in COMMANDS if command.startswith("make ")} <= targets


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command for command, _ in SHOWN])
def test_output_is_what_the_command_prints(command: str, shown: str) -> None:
    words = [GI, *shlex.split(command.removeprefix(CLI))]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert shown.strip() == (done.stdout + done.stderr).strip()


def test_a_validation_is_shown() -> None:
    assert any(" validate " in command and "Fix:" in output for command, output in SHOWN)


@pytest.mark.parametrize("command", INSTALLS)
def test_what_is_installed_renders(command: str) -> None:
    words = shlex.split(command.replace("helm install", "template", 1))
    done = subprocess.run([str(find_helm()), *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "kind: Deployment" in done.stdout


@pytest.mark.parametrize("values", VALUES, ids=[body.split()[1].rstrip(":") for body in VALUES])
def test_values_are_valid(values: str) -> None:
    words = [GI, "validate", "-"]
    done = subprocess.run(words, cwd=ROOT, input=values, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_links_lead_somewhere() -> None:
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert missing == []


def test_every_verb_is_in_the_table() -> None:
    named = set(re.findall(r"^\| `gpu-inference (\w+)", TEXT, re.MULTILINE))
    assert named == set(VERBS)


def test_every_folder_is_in_the_map() -> None:
    tree = next(body for language, body in BLOCKS if language == "" and body.startswith("chart/"))
    for name in re.findall(r"^(\w+)/", tree, re.MULTILINE):
        assert Path(ROOT, name).is_dir(), name
