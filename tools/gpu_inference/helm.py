"""The only place that runs helm; knows where Helm 3 and Helm 4 differ."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack

import yaml

from gpu_inference.errors import UserError

# Flags by major version. Source: `helm install --help` of 3.22.0 and 4.3.1.
_ROLLBACK_ON_FAILURE = {3: "--atomic", 4: "--rollback-on-failure"}
_BINARIES = {3: "helm3", 4: "helm"}

# What helm prints around its actual message.
_NOISE = re.compile(
    r"^(WARNING: Kubernetes configuration file is .*|Use --debug flag to render .*|level=\w+ .*)$\n?", re.MULTILINE
)
_WRAPPERS = re.compile(
    r"^(Error: |INSTALLATION FAILED: |UPGRADE FAILED: |execution error at \(.*?\): |"
    r"values don't meet the specifications of the schema\(s\) in the following chart\(s\):\s*|gpu-inference:\s*\n)"
)


def find_helm(major: int = 4) -> Path:
    """The pinned helm of a major version, from PATH or the cache, else built. UserError if it can be neither."""
    from gpu_inference.cluster.binaries import find_or_build

    name = _BINARIES[major]
    return find_or_build([name])[name]


class Deployment(TypedDict, total=False):
    """How to install or upgrade; what is left out is as helm has it."""

    layers: Iterable[Path]  # values files, later ones win
    namespace: str
    set_values: Iterable[str]
    wait: bool
    timeout: str  # as helm writes it, "300s"
    atomic: bool  # undo what fails
    flags: Sequence[str]


class Helm:
    """One helm binary, optionally bound to a cluster. Every failure is a UserError with helm's own words."""

    def __init__(self, binary: Path, kubeconfig: Path | None = None) -> None:
        self.binary = binary
        self.kubeconfig = kubeconfig

    @cached_property
    def major(self) -> int:
        return int(self.run("version", "--template", "{{.Version}}").lstrip("v").split(".")[0])

    def run(self, *words: str | Path, stdin: str | None = None) -> str:
        """Standard output of one helm call."""
        command = [str(self.binary), *map(str, words)]
        if self.kubeconfig:
            command += ["--kubeconfig", str(self.kubeconfig)]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UserError(
                f"cannot run {self.binary}: {error.strerror}", fix="check that it is an executable file"
            ) from error
        if done.returncode:
            # `helm lint` says on standard output what is wrong, and only how much on standard error.
            raise UserError(readable(done.stdout if words[0] == "lint" else done.stderr), exit_code=1)
        return done.stdout

    def template(
        self,
        release: str,
        chart: Path,
        layers: Iterable[Path] = (),
        namespace: str = "default",
        set_values: Iterable[str] = (),
        show_only: Iterable[str] = (),
        kube_version: str | None = None,
        flags: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """The objects of a release as plain data, in helm's order."""
        words = [*_values(layers, set_values), *_each("--show-only", show_only), *flags]
        if kube_version:
            words += ["--kube-version", kube_version]
        text = self.run("template", release, chart, "--namespace", namespace, *words)
        return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]

    def lint(
        self, chart: Path, layers: Iterable[Path] = (), set_values: Iterable[str] = (), strict: bool = True
    ) -> str:
        """`helm lint`'s report."""
        return self.run("lint", chart, *_values(layers, set_values), *(["--strict"] if strict else []))

    def install(self, release: str, chart: Path, **how: Unpack[Deployment]) -> str:
        """Installs a release and creates its namespace; `atomic` removes it again if it fails."""
        return self._deploy("install", release, chart, "--create-namespace", **how)

    def upgrade(self, release: str, chart: Path, **how: Unpack[Deployment]) -> str:
        """Upgrades a release, or installs it where there is none; `atomic` goes back if it fails."""
        return self._deploy("upgrade", release, chart, "--install", **how)

    def _deploy(
        self,
        verb: str,
        release: str,
        chart: Path,
        flag: str,
        layers: Iterable[Path] = (),
        namespace: str = "default",
        set_values: Iterable[str] = (),
        wait: bool = False,
        timeout: str = "300s",
        atomic: bool = False,
        flags: Sequence[str] = (),
    ) -> str:
        words = [*_values(layers, set_values), *self._waiting(wait, timeout, atomic), *flags]
        return self.run(verb, release, chart, "--namespace", namespace, flag, *words)

    def rollback(
        self, release: str, revision: int = 0, namespace: str = "default", wait: bool = False, timeout: str = "300s"
    ) -> str:
        """Back to a revision; 0 is the one before."""
        return self.run("rollback", release, str(revision), "--namespace", namespace, *self._waiting(wait, timeout))

    def uninstall(self, release: str, namespace: str = "default", wait: bool = True, timeout: str = "300s") -> str:
        return self.run("uninstall", release, "--namespace", namespace, *self._waiting(wait, timeout))

    def test(self, release: str, namespace: str = "default", timeout: str = "300s") -> str:
        """Runs the release's test hooks."""
        return self.run("test", release, "--namespace", namespace, "--timeout", timeout)

    def package(self, chart: Path, destination: Path, version: str | None = None) -> Path:
        """The chart as a .tgz in `destination`."""
        words = ["--version", version] if version else []
        text = self.run("package", chart, "--destination", destination, *words)
        return Path(text.strip().rsplit(": ", 1)[-1])

    def _waiting(self, wait: bool, timeout: str, atomic: bool = False) -> list[str]:
        rollback = [_ROLLBACK_ON_FAILURE[self.major]] if atomic else []
        return [*rollback, *(["--wait"] if wait else []), "--timeout", timeout]


def readable(stderr: str) -> str:
    """helm's message without what it wraps around it: `Error:`, the template's place, hints at flags."""
    text = _NOISE.sub("", stderr).strip()
    start = text.find("Error: ")
    text = text[start:] if start >= 0 else text
    stripped = _WRAPPERS.sub("", text)
    while stripped != text:
        text, stripped = stripped, _WRAPPERS.sub("", stripped)
    return text.strip() or "helm failed without a word"


def _values(layers: Iterable[Path], set_values: Iterable[str]) -> list[str]:
    return [*_each("--values", layers), *_each("--set", set_values)]


def _each(flag: str, items: Iterable[object]) -> list[str]:
    return [word for item in items for word in (flag, str(item))]
