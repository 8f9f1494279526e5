"""Stands for rclone between local directories, `:local:/path`, for the few commands the chart's scripts use.

Run as a program: `fake_rclone.py sync|copy|lsf|purge …`. A real rclone on the PATH is used instead of it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def _files(root: Path) -> dict[Path, Path]:
    """Relative -> whole path; hidden directories at the top are those the scripts exclude."""
    found = (path for path in root.rglob("*") if path.is_symlink() or path.is_file())
    return {path.relative_to(root): path for path in found if not path.relative_to(root).parts[0].startswith(".")}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _same(one: Path, other: Path) -> bool:
    return not one.is_symlink() and other.exists() and one.read_bytes() == other.read_bytes()


def main(command: str, *words: str) -> int:
    flags = {"--backup-dir": "", "--exclude": ""}
    places, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if word in flags:
            flags[word] = rest.pop(0)
        elif not word.startswith("-"):
            places.append(Path(word.removeprefix(":local:")))
    if command == "lsf":
        folders = [path for path in places[0].glob("*") if path.is_dir()]
        print("".join(f"{path.name}/\n" for path in folders), end="")
        return 0 if places[0].is_dir() else 3
    if command == "purge":
        shutil.rmtree(places[0])
        return 0
    source, target = places
    new, old = _files(source), _files(target) if target.is_dir() else {}
    for name, path in old.items():
        if command == "sync" and not (name in new and _same(new[name], path)):
            _copy(path, Path(flags["--backup-dir"].removeprefix(":local:")) / name)
            path.unlink()
    for name, path in new.items():
        if not _same(path, target / name):
            _copy(path, target / name)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
