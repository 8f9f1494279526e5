"""The command line's front: what it imports, how it exits, what it prints when something is wrong."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import types

import pytest

from gpu_inference import cli
from gpu_inference.errors import UserError

HEAVY = ("jsonschema", "yaml", "kubernetes", "matplotlib", "locust", "aiohttp", "rich", "numpy", "asyncio")


def python(code: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **kwargs)


@pytest.fixture
def verb(monkeypatch):
    """A verb `x` whose run is the function given."""

    def verb(run):
        module = types.ModuleType("x_command")
        module.add_arguments = lambda parser: parser.add_argument("word", nargs="?")
        module.run = run
        monkeypatch.setitem(sys.modules, "x_command", module)
        monkeypatch.setattr(cli, "VERBS", {"x": ("x_command", "does x")})

    return verb


@pytest.mark.parametrize("words", [["-h"], ["validate", "-h"], ["schema", "-h"], ["--version"]])
def test_help_is_light(words):
    code = f"""
import sys
sys.argv = ["gpu-inference", *{words!r}]
from gpu_inference.cli import main
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, None)
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "gpu-inference" in done.stdout


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_has_its_two_functions(name):
    module = importlib.import_module(cli.VERBS[name][0])
    module.add_arguments(argparse.ArgumentParser())
    assert callable(module.run)


@pytest.mark.parametrize("words", [[], ["nonsense"], ["validate", "--nonsense"], ["schema", "nonsense"], ["--vers"]])
def test_usage_is_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    assert "usage: gpu-inference" in capsys.readouterr().err


def test_user_error(verb, capsys):
    def run(args):
        raise UserError("the port is taken", fix="use another one", exit_code=1)

    verb(run)
    assert cli.main(["x"]) == 1
    assert capsys.readouterr().err == "error: the port is taken\nfix: use another one\n"


def test_user_error_without_a_fix(verb, capsys):
    def run(args):
        raise UserError("no")

    verb(run)
    assert cli.main(["x"]) == 2
    assert capsys.readouterr().err == "error: no\n"


def test_interrupt_is_quiet(verb, capsys):
    def run(args):
        raise KeyboardInterrupt

    verb(run)
    assert cli.main(["x"]) == 130
    assert capsys.readouterr() == ("", "")


def test_the_verbs_code_is_the_exit_code(verb):
    verb(lambda args: 7 if args.word == "seven" else 0)
    assert cli.main(["x", "seven"]) == 7
    assert cli.main(["x"]) == 0


def test_a_closed_pipe_is_quiet():
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from gpu_inference.cli import main; sys.exit(main(['resolve']))"
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
