"""Many files in one call: the same report as one by one, a bar on a terminal, and a quiet end on Ctrl-C."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_inference.errors import UserError
from gpu_inference.inputs import File, files
from gpu_inference.paths import VALUES
from gpu_inference.validate import many
from gpu_inference.validate.engine import together

WRONG = "models: {a: {replicas: many}}\n"


@pytest.fixture
def folder(tmp_path):
    """Forty files: every scenario twice, and some with mistakes."""
    for number in range(2):
        for path in VALUES.glob("*.yaml"):
            (tmp_path / f"{number}-{path.name}").write_text(path.read_text())
        (tmp_path / f"{number}-a.yaml").write_text(WRONG)
    return tmp_path


def test_several_processes_report_what_one_does(folder):
    found = list(files([folder]))
    assert len(found) > 2 * 16
    alone, shared = (together(many.judge_all(found, processes=processes)) for processes in (1, 3))
    assert alone == shared
    assert [finding.file for finding in alone.errors] == [str(folder / f"{n}-a.yaml") for n in range(2)]
    assert alone.checked == [str(file.path) for file in found]


def test_a_file_that_cannot_be_read_ends_it(folder):
    with pytest.raises(UserError, match=r"cannot read .*missing\.yaml") as caught:
        many.judge_all([*files([folder]), File(folder / "missing.yaml")], processes=2)
    assert caught.value.fix


def test_a_bar_goes_to_the_terminal_and_only_there(folder, monkeypatch, capsys):
    monkeypatch.setattr(many, "_PATIENCE_SECONDS", 0.0)
    many.judge_all(list(files([folder]))[:3], processes=1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    many.judge_all(list(files([folder]))[:3], processes=1)
    out, err = capsys.readouterr()
    assert not out
    assert "3/3" in err


@pytest.mark.skipif(sys.platform != "linux", reason="children start in another way")
@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_is_quiet(folder, whole_group, monkeypatch):
    """On a terminal the children get it, too. They are slow here, so that there is something to interrupt."""
    code = f"""
import os, sys, time
from pathlib import Path
from gpu_inference.validate import many
from gpu_inference import cli
many._cores = lambda: 2
def slow(*_):
    os.write(1, b"begun\\n")
    time.sleep(600)
many._judge_files = slow
sys.exit(cli.main(["validate", {str(folder)!r}]))
"""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    assert process.wait(300) == 130  # not the 600 s of the children
    process.stdout.close()
    try:
        said = os.read(terminal, 65536)
    except OSError:  # nobody has written to it, and nobody will
        said = b""
    assert b"Traceback" not in said
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "children are left"
        time.sleep(0.1)
