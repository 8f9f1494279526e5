"""The node image: kind's published one where it can be pulled, else one made here, once."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from gpu_inference.cluster import golang
from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.kind.engine import Engine
from gpu_inference.cluster.kind.image import archive, plan, rootfs
from gpu_inference.cluster.process import die_with_parent, lock, run_group
from gpu_inference.cluster.progress import Progress, Tick, step
from gpu_inference.errors import UserError
from gpu_inference.paths import BINARIES, cache_dir

_REGISTRY_SECONDS = 15
_STEPS = (
    "node image: packages of the distribution (about 60 s)",
    "node image: kind's files and the binaries",
    "node image: the control plane's images",
    "node image: import (about 30 s)",
)
_TOOLS = ("debootstrap", "chroot")
_CHANGES = (
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]', "ENV container=docker", "STOPSIGNAL SIGRTMIN+3"
)  # fmt: skip
_CONTAINERD = """\
version = 3
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "{state}/containerd.sock"
[ttrpc]
  address = "{state}/ttrpc.sock"
"""


def ensure(engine: Engine, progress: Progress) -> str:
    """The name of a node image that the engine has; pulled or made if need be. UserError when neither can be."""
    with lock(cache_dir() / "lock" / f"node-image-{engine.name}"):
        source = plan.distribution()
        local = plan.local_name(source) if source else ""
        for image in (plan.PUBLISHED, local):
            if image and engine.has_image(image):
                return image
        if _pull(engine, progress):
            return plan.PUBLISHED
        if not source:
            raise _cannot("this is no Debian or Ubuntu with apt sources")
        if os.geteuid() != 0:
            raise _cannot("that needs root")
        missing = [tool for tool in _TOOLS if not shutil.which(tool)]
        if missing:
            raise _cannot(f"there is no {missing[0]}")
        _build(engine, local, source, progress)
        return local


def _cannot(why: str) -> UserError:
    return UserError(
        f"kind's node image cannot be pulled, and none can be made here: {why}",
        fix=f"let {plan.PUBLISHED.partition('@')[0]} be pulled, or as root: apt-get install debootstrap",
        exit_code=1,
    )


def _pull(engine: Engine, progress: Progress) -> bool:
    """Whether the published image was pulled. A registry that cannot be reached is found out about in seconds."""
    with contextlib.suppress(UserError):
        engine.run("manifest", "inspect", plan.PUBLISHED, timeout=_REGISTRY_SECONDS)
        what = f"pull {plan.PUBLISHED.partition('@')[0]} (400 MB)"
        with step(progress, what, 1, 1) as tick:
            command = [str(engine.path), "pull", "--quiet", plan.PUBLISHED]
            code, _ = run_group(command, cwd=None, env=engine.environment, tick=tick)
        return code == 0
    return False


def _build(engine: Engine, name: str, source: plan.Distribution, progress: Progress) -> None:
    binaries = find_or_build(plan.binaries(), progress)
    kind_module = golang.module_folder(BINARIES / "kind", "sigs.k8s.io/kind", progress)
    cache_dir().mkdir(parents=True, exist_ok=True)
    for left in cache_dir().glob(".node-image-*"):  # of a build that was killed; we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=".node-image-") as folder:
        root = Path(folder) / "root"
        with step(progress, _STEPS[0], 1, len(_STEPS)) as tick:
            rootfs.debootstrap(root, source, tick)
        with step(progress, _STEPS[1], 2, len(_STEPS)):
            rootfs.configure(root, kind_module, binaries)
        with step(progress, _STEPS[2], 3, len(_STEPS)) as tick:
            _import_images(root, Path(folder), binaries, tick)
        with step(progress, _STEPS[3], 4, len(_STEPS)) as tick:
            _import_root(engine, root, name, tick)
    old = engine.run("images", "--format", "{{.Repository}}:{{.Tag}}", name.rpartition(":")[0]).split()
    for image_name in old:
        if image_name != name:
            engine.run("rmi", image_name, check=False)  # one that a node uses stays


def _import_images(root: Path, folder: Path, binaries: Mapping[str, Path], tick: Tick) -> None:
    """Puts the images into the content store that the node's containerd will find, without unpacking them."""
    started = time.monotonic()
    config = (root / "etc/containerd/config.toml").read_text(encoding="utf-8")
    names = plan.needed_images(binaries["kubeadm"], config)
    with _containerd(root / "var/lib/containerd", folder / "containerd", binaries["containerd"]) as address:
        for binary in plan.IN_IMAGES:
            tick(time.monotonic() - started)
            tar = folder / "image.tar"
            archive.write(image(binary, names[binary], binaries[binary], root), tar)
            command = [str(binaries["ctr"]), f"--address={address}", "--namespace=k8s.io", "images", "import"]
            done = subprocess.run([*command, "--no-unpack", "--digests", str(tar)], capture_output=True, text=True)
            tar.unlink()
            if done.returncode != 0:
                raise UserError(f"ctr images import of {binary} failed: {done.stderr.strip()}", exit_code=1)


def image(binary: str, names: list[str], path: Path, root: Path) -> archive.Image:
    """The image of one binary; what else it needs is taken from the node's own file system in `root`."""
    place = {"coredns": "coredns", "pause": "pause"}.get(binary, f"usr/local/bin/{binary}")
    files, links, folders = {place: path}, {}, []
    if binary == "local-path-provisioner":
        files["bin/busybox"] = root / "bin/busybox"
        links = {f"bin/{applet}": "busybox" for applet in ("sh", "mkdir", "rm")}
    elif binary == "kube-proxy":
        more, links = _packet_filters(root)
        files |= more
        folders = ["run"]
    return archive.Image(names, [f"/{place}"], files, links, folders)


def _packet_filters(root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """iptables, nft and conntrack, with every extension: without its library, a rule of an extension is not written,
    and a Service with two endpoints has none."""
    extensions = sorted(root.glob("usr/lib/*/xtables/*.so"))
    programs = [f"/usr/sbin/{name}" for name in ("xtables-legacy-multi", "xtables-nft-multi", "nft", "conntrack")]
    inside = [f"/{path.relative_to(root)}" for path in extensions if not path.is_symlink()]
    copied = {*programs, *inside, *rootfs.libraries(root, [*programs, *inside])}
    files = {path.lstrip("/"): (root / path.lstrip("/")).resolve() for path in copied}
    links = {str(path.relative_to(root)): str(path.readlink()) for path in extensions if path.is_symlink()}
    for family in ("iptables", "ip6tables"):
        for program in (family, f"{family}-save", f"{family}-restore"):
            links[f"usr/sbin/{program}"] = "xtables-legacy-multi"
    return files, links


@contextlib.contextmanager
def _containerd(root: Path, state: Path, containerd: Path) -> Iterator[Path]:
    """A containerd of our own that only keeps images, in `root`; gives its socket."""
    state.mkdir()
    config = state / "config.toml"
    config.write_text(_CONTAINERD.format(root=root, state=state), encoding="utf-8")
    socket = state / "containerd.sock"
    with (state / "log").open("wb") as log:
        child = subprocess.Popen(
            [containerd, f"--config={config}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while not socket.exists() and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            if not socket.exists():
                lines = (state / "log").read_text(encoding="utf-8", errors="replace").splitlines()
                raise UserError(f"containerd did not start: {lines[-1] if lines else 'no message'}", exit_code=1)
            yield socket
        finally:
            child.terminate()
            child.wait()


def _import_root(engine: Engine, root: Path, name: str, tick: Tick) -> None:
    """Makes an image of the folder."""
    changes = [part for change in _CHANGES for part in ("-c", change)]
    tar = ["tar", "--numeric-owner", "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*"]
    with subprocess.Popen([*tar, "-C", str(root), "-cf", "-", "."], stdout=subprocess.PIPE) as packing:
        assert packing.stdout
        started = time.monotonic()
        child = subprocess.Popen(
            [engine.path, "import", *changes, "-", name], stdin=packing.stdout, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, env=engine.environment, preexec_fn=die_with_parent,
        )  # fmt: skip
        packing.stdout.close()
        try:
            while child.poll() is None:
                time.sleep(0.2)
                tick(time.monotonic() - started)
        except BaseException:
            child.kill()
            packing.kill()
            raise
    if child.returncode != 0 or packing.returncode != 0:
        assert child.stderr
        raise UserError(
            f"{engine.name} import failed: {child.stderr.read().decode(errors='replace').strip()}",
            fix="check the free disk space (3 GB)",
            exit_code=1,
        )
