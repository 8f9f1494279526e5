"""state.json: what is known of a running cluster of ours."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_inference.errors import UserError
from gpu_inference.paths import cache_dir

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
Process = tuple[int, int]  # pid, start time (see process.start_time)


@dataclass(frozen=True)
class State:
    """A running cluster: addresses, and its processes by pid and start time."""

    name: str
    provider: str
    supervisor: Process
    components: dict[str, Process]
    kubeconfig: str
    api_url: str
    prometheus_url: str
    twin_port: int
    kubectl: str
    cloud: str
    detached: bool

    @property
    def twin_url(self) -> str:
        return f"http://127.0.0.1:{self.twin_port}"


def folder_of(name: str) -> Path:
    """The folder that holds everything of the cluster `name`. UserError for an impossible name."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no cluster name", fix="use at most 40 lower-case letters, digits and '-', such as demo-1"
        )
    return cache_dir() / "clusters" / name


def save(folder: Path, content: State) -> None:
    temporary = folder / ".state.json"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(dataclasses.asdict(content), indent=2), encoding="utf-8")
    temporary.rename(folder / "state.json")


def load(folder: Path) -> State | None:
    """The state saved in `folder`; None when there is none (no cluster, or one that is still starting)."""
    try:
        raw = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    raw["supervisor"] = tuple(raw["supervisor"])
    raw["components"] = {name: tuple(process) for name, process in raw["components"].items()}
    return State(**raw)


def provider_of(folder: Path) -> str:
    """The provider of the cluster in `folder`, "" where there is none; also of one that is starting or was killed."""
    try:
        return (folder / "provider").read_text(encoding="utf-8")
    except OSError:
        return ""


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Makes `folder` empty and ours while the context lasts, then removes it. UserError when a cluster lives there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"a cluster named {folder.name!r} is running already",
                fix=f"gpu-inference cluster down --name {folder.name}, or give another --name",
                exit_code=1,
            ) from None
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        try:
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
