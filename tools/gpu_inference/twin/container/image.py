"""Writes the twin's container image as an archive, out of this machine's Python: nothing is pulled, nothing is built.

The interpreter, its standard library, the few packages the twin imports, this package and the chart's presets make one
layer of a docker-archive, which `kind load image-archive`, `podman load` and `docker load` take. On Linux only;
ci/twin/Containerfile makes the same image from a published one.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpu_inference.errors import UserError
from gpu_inference.paths import CHART, cache_dir
from gpu_inference.twin.container import rootfs
from gpu_inference.values.presets import load_presets

REPOSITORY = "localhost/gpu-inference/twin"
# A second name of the same image: what an upgrade to another image is tried with.
NEXT = "-next"
USER = 1000
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": rootfs.PYTHONPATH,
    "LD_LIBRARY_PATH": rootfs.LIBRARIES,
    "PYTHONDONTWRITEBYTECODE": "1",
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def build(folder: Path | None = None) -> tuple[Path, str]:
    """The archive, below the cache unless a folder is given, and the image's name with its tag.

    It is written once for each content of what is in it. UserError where this machine's Python cannot be copied.
    """
    if sys.platform != "linux":
        raise UserError("the image is made of a Linux machine's Python", fix="build ci/twin/Containerfile instead")
    folder = folder or cache_dir() / "images"
    tag = _fingerprint()
    target = folder / f"twin-{tag}.tar"
    name = f"{REPOSITORY}:{tag}"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".twin-", dir=folder) as scratch:  # others may write it, too
            new = Path(scratch, target.name)
            _write(new, [name, name + NEXT])
            new.replace(target)
    return target, name


def _fingerprint() -> str:
    """Of all that is copied: versions for what others have made, content for our own."""
    digest = hashlib.sha256(f"{sys.version} {platform.libc_ver()} {rootfs.versions()}".encode())
    for path in sorted([*rootfs.own_files(), *rootfs.presets(CHART)]):
        digest.update(f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:12]


def _write(target: Path, names: list[str]) -> None:
    layer = target.with_suffix(".layer")
    try:
        with tarfile.open(layer, "w") as tar:
            for entry in _entries():
                _add(tar, *entry)
        digest = hashlib.sha256()
        with layer.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        config = {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "User": str(USER),
                "Env": [f"{key}={value}" for key, value in ENVIRONMENT.items()],
                "Entrypoint": ["/usr/local/bin/python3", "-m", "gpu_inference.twin.container.main"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
        }
        raw = json.dumps(config).encode()
        own, data = f"{hashlib.sha256(raw).hexdigest()}.json", f"{digest.hexdigest()}/layer.tar"
        manifest = json.dumps([{"Config": own, "RepoTags": names, "Layers": [data]}]).encode()
        with tarfile.open(target, "w") as tar:
            _add(tar, own, raw)
            tar.add(layer, data)
            _add(tar, "manifest.json", manifest)
    finally:
        layer.unlink(missing_ok=True)


Content = bytes | str | None  # a file's bytes, what a link points at, or None for a directory


def _entries() -> Iterator[tuple[str, Content, int]]:
    """(path, content, mode) of everything in the layer, directories before what is in them."""
    made: set[str] = set()
    for path, content, mode in _files():
        for parent in reversed(Path(path).parents[:-1]):
            if str(parent) not in made:
                made.add(str(parent))
                yield str(parent), None, 0o755
        if path not in made:
            made.add(path)
            yield path, content, mode


def _files() -> Iterable[tuple[str, Content, int]]:
    for folder, mode in {"tmp": 0o1777, "dev": 0o755, "proc": 0o755, "sys": 0o755, "etc": 0o755}.items():
        yield folder, None, mode
    yield "etc/passwd", f"root:x:0:0::/:/bin/false\ntwin:x:{USER}:{USER}::/tmp:/bin/false\n".encode(), 0o644
    yield from rootfs.interpreter()
    yield from rootfs.packages()
    yield from rootfs.own(CHART)
    yield from rootfs.programs(load_presets("runtimes"))


def _add(tar: tarfile.TarFile, path: str, content: Content, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(path)
    info.mode = mode
    if content is None:
        info.type = tarfile.DIRTYPE
    elif isinstance(content, str):
        info.type, info.linkname = tarfile.SYMTYPE, content
    else:
        info.size = len(content)
    tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
