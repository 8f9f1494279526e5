"""Finds the pinned tool binaries, or builds them from the Go modules in tools/binaries into the cache.

Order: the cache, PATH, $KUBEBUILDER_ASSETS (these two only with exactly the pinned version), else a build. A build
writes to a temporary file and renames it, so a build that is cut off leaves the cache as it was.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from gpu_inference.cluster import golang
from gpu_inference.cluster.process import lock, run_group
from gpu_inference.cluster.progress import Progress, Tick, silent, step
from gpu_inference.errors import UserError
from gpu_inference.paths import BINARIES, cache_dir

_VERSION_TIMEOUT_SECONDS = 15


@dataclass(frozen=True)
class Binary:
    """One row of tools/binaries/binaries.yaml."""

    name: str
    module: Path
    package: str
    version_args: tuple[str, ...]
    version: str
    cold_seconds: int
    tags: tuple[str, ...] = ()
    set: tuple[str, ...] = ()

    @property
    def ldflags(self) -> str:
        return " ".join(["-s -w", *(f"-X {variable}" for variable in self.set)])

    @property
    def key(self) -> str:
        """Changes with everything the binary is built from, so that a stale cache entry is never used."""
        digest = hashlib.sha256()
        own = sorted(self.module.glob("*.go"))  # where the main package is ours
        for path in (self.module / "go.mod", self.module / "go.sum", *own):
            digest.update(path.read_bytes())
        digest.update(
            "\0".join([self.package, self.ldflags, *self.tags, platform.system(), platform.machine()]).encode()
        )
        return digest.hexdigest()[:12]

    @property
    def cached(self) -> Path:
        """Where the cache keeps it: a folder of its own, so that the folder can go on PATH."""
        return cache_dir() / "bin" / f"{self.name}-{self.version.lstrip('v')}-{self.key}" / self.name


@cache
def table(path: Path = BINARIES / "binaries.yaml") -> dict[str, Binary]:
    """All known binaries by name."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: Binary(
            name=name,
            module=path.parent / row["module"],
            package=row["package"],
            version_args=tuple(row.get("versionArgs", ())),
            version=row["version"],
            cold_seconds=row["coldSeconds"],
            tags=tuple(row.get("tags", ())),
            set=tuple(row.get("set", ())),
        )
        for name, row in rows.items()
    }


def find_or_build(names: Sequence[str], progress: Progress | None = None) -> dict[str, Path]:
    """Paths of the binaries `names`, built into the cache where they are found nowhere.

    Raises UserError for an unknown name, when there is no usable Go toolchain, or when a build fails.
    """
    progress = progress or silent
    known = table()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"unknown binary {unknown[0]!r}", fix=f"use one of {', '.join(known)}")
    found = {name: find(known[name]) for name in names}
    missing = [known[name] for name in names if found[name] is None]
    try:
        built = _build_all(missing, progress) if missing else {}
    except OSError as error:
        raise UserError(
            f"cannot build into {cache_dir()}: {error}",
            fix="free disk space there, or set XDG_CACHE_HOME to a folder that can be written",
            exit_code=1,
        ) from None
    return {name: path or built[name] for name, path in found.items()}


def _build_all(missing: Sequence[Binary], progress: Progress) -> dict[str, Path]:
    go = golang.toolchain(required=max(golang.go_line(binary.module) for binary in missing), progress=progress)
    return {
        binary.name: _build_locked(binary, go, progress, number, len(missing))
        for number, binary in enumerate(missing, start=1)
    }


def find(binary: Binary) -> Path | None:
    """The binary where it already is, in its pinned version; None when it has to be built."""
    if binary.cached.exists():
        return binary.cached
    if not binary.version_args:
        return None
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    candidates = [shutil.which(binary.name), shutil.which(binary.name, path=assets) if assets else None]
    for candidate in candidates:
        if candidate and _has_version(Path(candidate), binary):
            return Path(candidate)
    return None


def _has_version(path: Path, binary: Binary) -> bool:
    """Whether the binary at `path` says the pinned version."""
    try:
        done = subprocess.run(
            [path, *binary.version_args], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return binary.version in (done.stdout + done.stderr).replace(",", " ").split()


def _build_locked(binary: Binary, go: Path, progress: Progress, number: int, total: int) -> Path:
    what = f"build {binary.name} {binary.version} (the first time about {binary.cold_seconds} s)"
    with step(progress, what, number, total) as tick, lock(cache_dir() / "lock" / binary.cached.parent.name):
        if not binary.cached.exists():
            _build(binary, go, tick)
    return binary.cached


def _build(binary: Binary, go: Path, tick: Tick) -> None:
    target = binary.cached
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".build-*"):  # of a build that was killed; we hold the lock, so nobody is at it
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        output = Path(folder) / binary.name
        command = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", binary.ldflags]
        command += ["-tags", ",".join(binary.tags), "-o", output, binary.package]
        code, log = run_group([str(part) for part in command], cwd=binary.module, env=golang.environment(), tick=tick)
        if code != 0 or not output.exists():
            raise UserError(
                f"building {binary.name} failed: {_last_lines(log)}",
                fix="check the network and the free disk space, then run the same command again",
                exit_code=1,
            )
        output.rename(target)


def _last_lines(log: str, count: int = 3) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "no output"
