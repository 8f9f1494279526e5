"""What nodes need of the machine beside a container engine, given while there are any and put back afterwards.

Each node's systemd, containerd and kubelet watch files: the kernel's default of 128 inotify instances a user is used up
by two clusters of three nodes, and a kubelet without any is never ready (kind.sigs.k8s.io/docs/user/known-issues, "Pod
errors due to too many open files").
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

_MODULES = "lib/modules"  # every node mounts it; a machine whose kernel has no modules may be without it
_INSTANCES = "proc/sys/fs/inotify/max_user_instances"
_WANTED_INSTANCES = 1024


def prepare(record: Path, root: Path = Path("/")) -> None:
    """Makes the folder and raises the limit where that is needed and this user may; `record` says what was before."""
    if os.geteuid() != 0:
        return
    before = _read(record)
    instances = root / _INSTANCES
    with contextlib.suppress(OSError, ValueError):  # a kernel without inotify, or one that does not let us
        found = int(instances.read_text(encoding="utf-8"))
        if found < _WANTED_INSTANCES:
            before.setdefault("instances", found)
            _write(record, before)
            instances.write_text(f"{_WANTED_INSTANCES}\n", encoding="utf-8")
    with contextlib.suppress(OSError):
        if not (root / _MODULES).exists():
            before["modules"] = 1
            _write(record, before)
            (root / _MODULES).mkdir()


def restore(record: Path, root: Path = Path("/")) -> None:
    """Puts back what `prepare` has changed, and only that."""
    before = _read(record)
    with contextlib.suppress(OSError):
        if "instances" in before:
            (root / _INSTANCES).write_text(f"{before['instances']}\n", encoding="utf-8")
    with contextlib.suppress(OSError):  # somebody has put something into it
        if "modules" in before:
            (root / _MODULES).rmdir()
    record.unlink(missing_ok=True)


def _read(record: Path) -> dict[str, int]:
    try:
        return dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write(record: Path, before: dict[str, int]) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(before), encoding="utf-8")
