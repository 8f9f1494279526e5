"""A repository at another revision, in a folder of its own that goes away again."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_inference.errors import UserError


def root_of(folder: Path) -> Path:
    """The working tree a folder is in. UserError outside of one."""
    try:
        return Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
    except UserError as error:
        raise UserError(f"{folder} is in no git repository", fix="run it inside of a checkout") from error


@contextmanager
def at(root: Path, ref: str | None) -> Iterator[Path]:
    """The tree at `ref`; the working tree itself without one. UserError for what is no revision."""
    if ref is None:
        yield root
        return
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip()
    except UserError as error:
        fix = "name a branch, tag or commit; a shallow clone may have to fetch it first"
        raise UserError(f"{ref!r} is no revision of {root}", fix=fix) from error
    with tempfile.TemporaryDirectory(prefix="gpu-inference-diff-") as tmp:
        process = subprocess.Popen(["git", "-C", str(root), "archive", "--format=tar", commit], stdout=subprocess.PIPE)
        with process, tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            archive.extractall(tmp, filter="data")
        # Manifests name files from the root of the repository, which is found by this.
        Path(tmp, ".git").mkdir()
        yield Path(tmp)


def _git(folder: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
    except OSError as error:
        raise UserError(f"cannot run git: {error.strerror}", fix="install git") from error
    if done.returncode:
        raise UserError(done.stderr.decode(errors="replace").strip() or f"git {words[0]} failed")
    return done.stdout
