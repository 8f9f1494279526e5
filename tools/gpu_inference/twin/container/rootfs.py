"""The files of the image: (path in it, bytes, mode), a path's target as text for a link."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import gpu_inference
from gpu_inference.errors import UserError
from gpu_inference.paths import CHART
from gpu_inference.values.presets import load_presets

File = tuple[str, bytes | str | None, int]

BASE = "opt/twin"
SITE = f"{BASE}/site"  # packages
LIBRARIES = "/usr/local/lib/twin"
PYTHONPATH = f"/{BASE}/tools:/{SITE}:/{BASE}/programs"
# What the twin imports; what these need follows from them.
ROOTS = ("aiohttp", "PyYAML")
# No server needs them, and they are half of the library.
LEFT_OUT = re.compile(
    r"(^|/)(test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|pydoc_data|site-packages|dist-packages|__pycache__)(/|$)"
    r"|^config-|^lib-dynload/_(test|tkinter|dbm|gdbm|curses)|\.(a|exe)$"
)
PROGRAM = """#!/usr/local/bin/python3
import sys
from gpu_inference.twin.container.main import main
sys.exit(main({command} + sys.argv[1:]))
"""
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


def interpreter() -> Iterator[File]:
    """Python below /usr/local, and the shared libraries it and its modules were linked with."""
    binary = Path(sys.executable).resolve()
    yield f"usr/local/bin/{VERSION}", binary.read_bytes(), 0o755
    yield "usr/local/bin/python3", VERSION, 0o777
    library = Path(sysconfig.get_path("stdlib"))
    modules = [binary]
    for path in _below(library):
        name = path.relative_to(library).as_posix()
        if not LEFT_OUT.search(name):
            modules += [path] if path.suffix == ".so" else []
            yield from _module(f"usr/local/lib/{VERSION}/{name}", path)
    modules += [path for _, path in _distributed() if path.suffix == ".so"]
    yield from _linked(modules)


def packages() -> Iterator[File]:
    """The distributions of ROOTS and what they need."""
    for name, path in _distributed():
        yield from _module(f"{SITE}/{name}", path)


def own(chart: Path) -> Iterator[File]:
    """This package, and of the chart what it reads."""
    package = Path(gpu_inference.__file__).parent
    for path in own_files():
        yield from _module(f"{BASE}/tools/gpu_inference/{path.relative_to(package).as_posix()}", path)
    for path in presets(chart):
        yield f"{BASE}/chart/{path.relative_to(chart).as_posix()}", path.read_bytes(), 0o644


def programs(runtimes: Mapping[str, Mapping[str, Any]]) -> Iterator[File]:
    """What the presets' commands start: a program by that name, or a module of Python's."""
    for preset in runtimes.values():
        words = list(preset.get("command") or ())
        if words[:2] == ["python3", "-m"]:
            *folders, module = words[2].split(".")
            for depth in range(1, len(folders) + 1):
                yield f"{BASE}/programs/{'/'.join(folders[:depth])}/__init__.py", b"", 0o644
            text = PROGRAM.format(command=words[:3])
            yield f"{BASE}/programs/{'/'.join([*folders, module])}.py", text.encode(), 0o644
        elif words and words[0] not in ("bash", "sh"):
            place = words[0].lstrip("/") if "/" in words[0] else f"usr/local/bin/{words[0]}"
            yield place, PROGRAM.format(command=words[:1]).encode(), 0o755


def own_files() -> list[Path]:
    """The files of this package that a server needs."""
    package = Path(gpu_inference.__file__).parent
    wanted = ("twin", "serving", "estimate", "values")
    files = [path for name in wanted for path in _below(package / name)] + sorted(package.glob("*.py"))
    return [path for path in files if "__pycache__" not in path.parts]


def presets(chart: Path) -> list[Path]:
    """The chart's data."""
    folders = ("runtimes", "accelerators")
    return [chart / "Chart.yaml", *(path for folder in folders for path in sorted((chart / folder).glob("*.yaml")))]


def versions() -> str:
    """Of the packages in the image."""
    return " ".join(f"{name}={distribution(name).version}" for name in _needed())


def _needed() -> list[str]:
    """ROOTS and all they need here, in order of name."""
    found: set[str] = set()
    todo = list(ROOTS)
    while todo:
        name = re.split(r"[\s;<>=!\[(~]", todo.pop())[0].lower()
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError as error:
            if name in {root.lower() for root in ROOTS}:
                raise UserError(f"{name} is not installed", fix="install the extra `all`") from error
            continue  # needed on other systems or by other versions of Python
        found.add(name)
        todo += [requirement for requirement in requires if "extra ==" not in requirement]
    return sorted(found)


def _distributed() -> Iterator[tuple[str, Path]]:
    for name in _needed():
        for file in distribution(name).files or ():
            path = Path(str(file.locate()))
            if ".." not in file.parts and path.is_file() and path.suffix in (".py", ".so"):
                yield file.as_posix(), path


def _module(place: str, path: Path) -> Iterator[File]:
    """A file; of Python also what it compiles to: the root file system is read-only, and compiling takes a second."""
    data = path.read_bytes()
    yield place, data, 0o755 if path.suffix == ".so" else 0o644
    if path.suffix != ".py":
        return
    folder, _, name = place.rpartition("/")
    try:
        code = compile(data, f"/{place}", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return  # templates of code, not code
    compiled = importlib._bootstrap_external._code_to_hash_pyc(code, importlib.util.source_hash(data), False)  # type: ignore[attr-defined]
    yield f"{folder}/__pycache__/{name[:-3]}.{sys.implementation.cache_tag}.pyc", bytes(compiled), 0o644


def _linked(modules: list[Path]) -> Iterator[File]:
    """Shared libraries, by the names they are asked for; the loader at its own place."""
    said = subprocess.run(["ldd", *map(str, modules)], capture_output=True, text=True, check=False).stdout
    found = dict(re.findall(r"^\s+(\S+) => (/\S+) \(", said, re.MULTILINE))
    loader = re.search(r"^\s+(/\S+) \(", said, re.MULTILINE)
    if loader is None:
        raise UserError("ldd tells no libraries of this Python", fix="build ci/twin/Containerfile instead")
    yield loader[1].lstrip("/"), Path(loader[1]).read_bytes(), 0o755
    for name, path in sorted(found.items()):
        yield f"{LIBRARIES.lstrip('/')}/{name}", Path(path).read_bytes(), 0o755


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _main(target: Path) -> None:
    """Write all but the interpreter below a folder, for an image that has one."""
    for name, content, mode in (*packages(), *own(CHART), *programs(load_presets("runtimes"))):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else b"")
        path.chmod(mode)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
