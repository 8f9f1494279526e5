"""Mounts that others leave behind."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")


def below(folder: Path, table: str) -> list[str]:
    """The mount points under `folder` in the text of a mountinfo file, innermost first."""
    points = (
        re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in table.splitlines()
    )
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)


def unmount_below(folder: Path) -> None:
    """Unmounts everything under `folder`, where this user may."""
    for point in below(folder.resolve(), _TABLE.read_text(encoding="utf-8")):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


@contextlib.contextmanager
def mounts_end(folder: Path) -> Iterator[None]:
    """Nothing is mounted under `folder` after the block, however it ends: it can be removed."""
    try:
        yield
    finally:
        unmount_below(folder)
