"""Container images as files, in the format of `docker save`: one layer, made of files and links, always the same."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """names: its references; files: path in the image -> file it is a copy of (executable); links: path in the image
    -> target; folders: empty ones that it needs."""

    names: Sequence[str]
    entrypoint: Sequence[str]
    files: Mapping[str, Path]
    links: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()


def architecture() -> str:
    """This machine's, as container images call it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def write(image: Image, target: Path) -> None:
    """Writes the image to the file `target`."""
    with tempfile.TemporaryFile(dir=target.parent) as layer:
        with tarfile.open(fileobj=layer, mode="w") as tar:
            _fill(tar, image)
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        config = {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": list(image.entrypoint), "Env": [_PATH]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        raw = json.dumps(config, sort_keys=True).encode()
        name, layer_name = f"{hashlib.sha256(raw).hexdigest()}.json", f"{digest}/layer.tar"
        manifest = [{"Config": name, "RepoTags": list(image.names), "Layers": [layer_name]}]
        size = layer.seek(0, io.SEEK_END)
        layer.seek(0)
        with tarfile.open(target, "w") as tar:
            for path, content in ((name, raw), ("manifest.json", json.dumps(manifest).encode())):
                tar.addfile(_entry(path, size=len(content)), io.BytesIO(content))
            tar.addfile(_entry(layer_name, size=size), layer)


def _fill(tar: tarfile.TarFile, image: Image) -> None:
    for folder in ("tmp", *image.folders):
        tar.addfile(_entry(folder, tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755))
    for path, source in sorted(image.files.items()):
        with source.open("rb") as content:
            tar.addfile(_entry(path, size=source.stat().st_size), content)
    for path, link in sorted(image.links.items()):
        entry = _entry(path, tarfile.SYMTYPE)
        entry.linkname = link
        tar.addfile(entry)


def _entry(path: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o755, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry
