"""The container engine of a kind cluster: docker, or podman with settings and storage of its own.

podman's configuration, images and volumes lie in the cache, and what must not outlive a boot under /run, so nothing of
the machine's own podman is touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import string
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_inference.cluster.process import run_group
from gpu_inference.cluster.progress import Progress, step
from gpu_inference.errors import UserError
from gpu_inference.paths import cache_dir

FILES = Path(__file__).parent / "files"
# Debian and Ubuntu names: podman with its network, and what a node image is made with.
PACKAGES = (
    "podman", "conmon", "netavark", "aardvark-dns", "iptables", "runc", "debootstrap", "ca-certificates",
)  # fmt: skip
INSTALL_VARIABLE = "GPU_INFERENCE_INSTALL"
_HOW = f"install Docker, or as root podman: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
_CHOICE = "KIND_EXPERIMENTAL_PROVIDER"  # kind's own variable
_PROBE_SECONDS = 20
_MODULES = Path("/lib/modules")  # every node mounts it


@dataclass(frozen=True)
class Engine:
    """name: docker or podman; path: its command; env: what that command and kind need on top of the environment."""

    name: str
    path: Path
    env: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.env}

    def run(self, *args: str, check: bool = True, timeout: float | None = 120, input: bytes | None = None) -> str:
        """Standard output of `docker|podman args`. UserError with its message when it fails or takes too long; with
        check=False what it printed up to then."""
        try:
            done = subprocess.run(
                [self.path, *args], input=input, capture_output=True, env=self.environment, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            if not check:
                return ""
            raise UserError(f"{self.name} {args[0]}: no answer after {timeout:.0f} s", exit_code=1) from None
        if check and done.returncode != 0:
            raise UserError(f"{self.name} {args[0]}: {_last_line(done.stderr)}", exit_code=1)
        return done.stdout.decode(errors="replace")

    def has_image(self, image: str) -> bool:
        return bool(self.run("images", "--quiet", image, check=False).strip())


def find(install: bool = False, progress: Progress | None = None) -> Engine:
    """docker where its daemon answers, else podman where it runs as root; `install` lets apt install podman first.

    $KIND_EXPERIMENTAL_PROVIDER (docker or podman), as with kind itself, leaves only that one. UserError, with every
    reason, when there is none.
    """
    chosen = os.environ.get(_CHOICE)
    reasons = []
    if chosen in (None, "", "docker"):
        reason = docker_problem()
        if not reason:
            return Engine("docker", Path(shutil.which("docker") or "docker"), {_CHOICE: "docker"})
        reasons.append(reason)
    if chosen in (None, "", "podman"):
        if install and not shutil.which("podman"):
            _install(progress)
        reason = podman_problem()
        if not reason:
            return podman()
        reasons.append(reason)
    raise UserError(f"a kind cluster needs docker or podman: {'; '.join(reasons) or f'not {chosen}'}", fix=_HOW)


def docker_problem() -> str:
    """Why docker cannot be used, "" when it can."""
    path = shutil.which("docker")
    if not path:
        return "there is no docker"
    try:
        done = subprocess.run([path, "info"], capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "docker does not answer"
    return "" if done.returncode == 0 else f"docker does not work ({_last_line(done.stderr)})"


def podman_problem() -> str:
    """Why podman cannot be used, "" when it can. Only root's: a kind node of another user's has no metrics adapter."""
    if not shutil.which("podman"):
        return "there is no podman"
    if os.geteuid() != 0:
        return "podman is used as root only"
    try:
        podman().run("info", timeout=_PROBE_SECONDS)
    except UserError as error:
        return f"podman does not work ({error.message})"
    return ""


def podman() -> Engine:
    """podman with the project's own configuration, which is written here."""
    home = cache_dir() / "podman"
    values = {
        "home": str(home),
        "run": str(run_folder(home)),
        "runtime": "runc" if shutil.which("runc") else "crun",  # crun refuses mixed cgroup hierarchies
    }
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("containers.conf", "storage.conf"):
        text = string.Template((FILES / name).read_text(encoding="utf-8")).substitute(values)
        path = home / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    env = {
        _CHOICE: "podman",
        "CONTAINERS_CONF": str(home / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
    }
    return Engine("podman", Path(shutil.which("podman") or "podman"), env)


def run_folder(home: Path) -> Path:
    """Where podman with its files in `home` keeps what must be gone after a reboot: that is how it learns of one."""
    return Path("/run") / f"gpu-inference-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"


def make_modules_folder() -> None:
    """The folder every node mounts, where a kernel without modules has none. UserError when it cannot be made."""
    try:
        _MODULES.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{_MODULES} cannot be made: {error.strerror}", fix=f"mkdir {_MODULES}") from None


def _install(progress: Progress | None) -> None:
    """Installs PACKAGES with apt. UserError where that does not work."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *PACKAGES],
    )
    for number, command in enumerate(commands, start=1):
        with step(progress or (lambda event: None), " ".join(command[:3]), number, len(commands)) as tick:
            code, log = run_group(command, cwd=None, env=env, tick=tick)
        if code != 0:
            raise UserError(f"{' '.join(command[:3])} failed: {_last_line(log.encode())}", fix=_HOW, exit_code=1)


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
