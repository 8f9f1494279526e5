"""An earlier release of the chart, out of git, and what differs between its objects and the working tree's."""

from __future__ import annotations

import fnmatch
import functools
import io
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu_inference.paths import ROOT

from .matrix import OVERLAYS
from .objects import Object, name, pod_templates
from .render import scratch_dir

FIRST = "0.1.0"
# What Kubernetes lets nobody change in an object that is there (its API validation, 1.33 to 1.37): kind -> paths that
# are fixed, or None for those where only the paths of MUTABLE are free.
IMMUTABLE = {
    "Deployment": ("spec.selector",),
    "DaemonSet": ("spec.selector",),
    "Job": ("spec.selector", "spec.template", "spec.completionMode", "spec.completions"),
    "Service": ("spec.clusterIP",),
    "ServiceAccount": (),
    "PersistentVolumeClaim": ("spec.accessModes", "spec.storageClassName", "spec.volumeName", "spec.dataSource"),
    "StatefulSet": None,
}
MUTABLE = (
    "spec.replicas",
    "spec.ordinals",
    "spec.template",
    "spec.updateStrategy",
    "spec.persistentVolumeClaimRetentionPolicy",
    "spec.minReadySeconds",
    "spec.revisionHistoryLimit",
)


def _git(*words: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", b"") or b""
        pytest.skip(f"{FIRST} cannot be had from git: {said.decode().strip() or error}")


def _commit() -> str:
    """The tag of the release; where there is none, the last commit at which the chart says that it is this version."""
    if tag := _git("tag", "--list", f"v{FIRST}").strip():
        return tag.decode()
    newer = "HEAD"
    for commit in _git("rev-list", "HEAD", "--", "chart/Chart.yaml").decode().split():
        if yaml.safe_load(_git("show", f"{commit}:chart/Chart.yaml"))["version"] == FIRST:
            return newer
        newer = f"{commit}^"
    pytest.skip(f"no commit of version {FIRST} in this clone")


@functools.cache
def first_release() -> Path:
    """A folder with chart/ and values/ of the first release. Skips, with the reason, where git has none."""
    folder = scratch_dir(f"release-{FIRST}")
    with tarfile.open(fileobj=io.BytesIO(_git("archive", _commit(), "chart", "values"))) as archive:
        archive.extractall(folder, filter="data")
    return folder


def its_values() -> dict[str, tuple[Path, ...]]:
    """Values set -> layers, of the first release's own values files."""
    files = {path.stem: path for path in sorted((first_release() / "values").rglob("*.yaml"))}
    return {
        stem: (files[OVERLAYS[stem]], path) if stem in OVERLAYS else (path,) for stem, path in files.items()
    }  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One difference."""

    where: str  # Kind/name, of a pod template or of an object
    path: str  # spec.containers[server].args
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.path}: {self.old!r} -> {self.new!r}"


def changes(where: str, old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """Differences of two values; items of lists are told apart by their name, if they have one."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from changes(where, old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif _named(old) and _named(new):
        by_name = [{item["name"]: item for item in items} for items in (old, new)]
        for key in dict.fromkeys([*by_name[0], *by_name[1]]):
            yield from changes(where, by_name[0].get(key), by_name[1].get(key), f"{path}[{key}]")
    elif old != new:
        yield Change(where, path, old, new)


def _named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)


def restarts(old: list[Object], new: list[Object]) -> list[Change]:
    """What differs in pod templates that both releases have: each restarts pods."""
    after = dict(pod_templates(new))
    return [
        change
        for where, template in pod_templates(old)
        if where in after and not where.startswith("Pod/")
        for change in changes(where, template, after[where])
    ]


def refused(old: list[Object], new: list[Object]) -> list[Change]:
    """Changes of fields that Kubernetes does not let anybody change."""
    after = {name(obj): obj for obj in new}
    found = []
    for obj in old:
        if name(obj) not in after or obj["kind"] not in IMMUTABLE:
            continue
        fixed = IMMUTABLE[obj["kind"]]
        for change in changes(name(obj), {"spec": obj.get("spec")}, {"spec": after[name(obj)].get("spec")}):
            free = not _under(change.path, fixed) if fixed is not None else _under(change.path, MUTABLE)
            if not free:
                found.append(change)
    return found


def _under(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith((f"{root}.", f"{root}[")) for root in roots)


def matches(entry: dict[str, str], values: str, change: Change) -> bool:
    """Whether an accepted difference, {values, where, path} with wildcards, is about this one."""
    asked = ((entry.get("values", "*"), values), (entry.get("where", "*"), change.where), (entry["path"], change.path))
    return all(fnmatch.fnmatchcase(is_.replace("[", "("), want.replace("[", "(")) for want, is_ in asked)
