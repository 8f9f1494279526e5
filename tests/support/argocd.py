"""Argo CD itself, without its user interface: its controllers and its repository server as processes beside an embedded
cluster, and a Git repository for them to read."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.ports import Ports
from gpu_inference.cluster.process import die_with_parent
from gpu_inference.cluster.provider import Provider
from gpu_inference.paths import CHART, VALUES

from .cluster import apply, get, wait_for

NAMESPACE = "argocd"
# Newer ones are no Go modules: their gitops-engine is a module that no module proxy has.
BINARIES = ("argocd", "miniredis", "helm3")
_LAST = {"health": "status", "operationState": "phase"}
_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True)
class Repository:
    """A Git repository with the chart and the environments' values."""

    path: Path

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def change(self, file: str, change: Any) -> str:
        """Applies `change` to the values in a file, commits them, and returns the commit."""
        path = self.path / file
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        self._git("commit", "--quiet", "--all", "--message", file)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *words: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        done = subprocess.run(
            ["git", "-C", self.path, *identity, *words], capture_output=True, text=True, check=True, env=_environment()
        )
        return done.stdout


def repository(path: Path) -> Repository:
    """A new one, branch `main`."""
    shutil.copytree(CHART, path / CHART.name)
    shutil.copytree(VALUES, path / VALUES.name)
    made = Repository(path)
    made._git("init", "--quiet", "--initial-branch", "main")
    made._git("add", ".")
    made._git("commit", "--quiet", "--message", "all")
    return made


def custom_resources(cluster: Provider) -> None:
    """The kinds of Argo CD with any contents: the schemas are the API server's affair in another test, and these have
    the fields the controllers write. Of the three, ApplicationSets alone have a status subresource (manifests/crds)."""
    names = {"Application": "applications", "ApplicationSet": "applicationsets", "AppProject": "appprojects"}
    for kind, plural in names.items():
        served = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": _ANYTHING}}
        if kind == "ApplicationSet":
            served["subresources"] = {"status": {}}
        spec = {
            "group": "argoproj.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [served],
        }
        name = f"{plural}.argoproj.io"
        api = "apiextensions.k8s.io/v1"
        apply(
            cluster,
            {"apiVersion": api, "kind": "CustomResourceDefinition", "metadata": {"name": name}, "spec": spec},
        )
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")


@contextlib.contextmanager
def argo_cd(cluster: Provider, config: dict[str, str], folder: Path) -> Iterator[None]:
    """Argo CD with `config` in argocd-cm; progressive syncs are on. Its logs lie in `folder`."""
    found = find_or_build(BINARIES)
    tools = folder / "bin"
    tools.mkdir(parents=True)
    (tools / "helm").symlink_to(found["helm3"])
    _configure(cluster, config)
    ports = Ports(("repo", "redis", "repo metrics", "metrics", "applicationset metrics", "probe", "webhook"))
    repo, redis = ports.address("repo"), ports.address("redis")
    to_repo = ("--repo-server-plaintext", "--redis", redis)
    kube = ("--kubeconfig", str(cluster.kubeconfig), "--namespace", NAMESPACE)
    commands = {
        "argocd-repo-server": ("--address=127.0.0.1", f"--port={ports['repo']}", "--metrics-address=127.0.0.1",
            f"--metrics-port={ports['repo metrics']}", "--disable-tls", "--redis", redis),
        "argocd-application-controller": (*kube, *to_repo, f"--repo-server={repo}",
            f"--metrics-port={ports['metrics']}", "--app-resync=5", "--app-resync-jitter=0",
            "--self-heal-timeout-seconds=1", "--self-heal-backoff-timeout-seconds=1"),
        "argocd-applicationset-controller": (*kube, "--repo-server-plaintext", f"--argocd-repo-server={repo}",
            f"--metrics-addr={ports.address('applicationset metrics')}", f"--probe-addr={ports.address('probe')}",
            f"--webhook-addr={ports.address('webhook')}", "--enable-progressive-syncs"),
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(ports.close)
        stack.enter_context(_running([str(found["miniredis"]), redis], folder, "miniredis", tools, cluster.kubeconfig))
        for name, options in commands.items():
            stack.enter_context(_running([str(found["argocd"]), *options], folder, name, tools, cluster.kubeconfig))
        yield


def _configure(cluster: Provider, config: dict[str, str]) -> None:
    metadata = {"namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "argocd"}}
    apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    data = {"argocd-cm": config, "argocd-rbac-cm": {}, "argocd-gpg-keys-cm": {}, "argocd-tls-certs-cm": {}}
    for name, content in data.items():
        found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": content}
        apply(cluster, found)
    key = base64.b64encode(os.urandom(32)).decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "argocd-secret", **metadata}}
    apply(cluster, {**secret, "stringData": {"server.secretkey": key}})


@contextlib.contextmanager
def _running(command: list[str], folder: Path, name: str, tools: Path, kubeconfig: Path) -> Iterator[None]:
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    scratch = folder / f"{name}.tmp"
    scratch.mkdir()
    env = {**_environment(), "PATH": path, "ARGOCD_BINARY_NAME": name, "ARGOCD_GPG_ENABLED": "false"}
    env |= {"TMPDIR": str(scratch), "HOME": str(scratch)}
    # The cluster of an Application, https://kubernetes.default.svc, is that of the kubeconfig.
    env |= {"ARGOCD_FAKE_IN_CLUSTER": "true", "KUBECONFIG": str(kubeconfig)}
    with (folder / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=scratch, preexec_fn=die_with_parent)
        try:
            yield
            assert child.poll() is None, f"{name} ended by itself: {folder / f'{name}.log'}"
        finally:
            child.kill()
            child.wait()


def _environment() -> dict[str, str]:
    """Nothing of the caller's Git or proxies."""
    kept = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    return {key: value for key, value in kept.items() if not key.startswith(("GIT_", "ARGOCD_"))}


def application(cluster: Provider, name: str) -> dict[str, Any]:
    """The status of an Application as Argo CD reports it; empty where it has not yet."""
    return (get(cluster, "application", name, "-n", NAMESPACE) or {}).get("status", {})


def settled(cluster: Provider, name: str, revision: str = "", seconds: float = 120) -> dict[str, Any]:
    """The status of an Application once it is Synced and Healthy (at a revision), judged anew after this call."""
    before = application(cluster, name).get("reconciledAt")
    refresh(cluster, name)

    def done() -> dict[str, Any] | None:
        status = application(cluster, name)
        sync = status.get("sync", {})
        parts = (
            sync.get("status"),
            status.get("health", {}).get("status"),
            status.get("operationState", {}).get("phase"),
        )
        good = parts == ("Synced", "Healthy", "Succeeded")
        fresh = status.get("reconciledAt") != before
        return status if good and fresh and revision in ("", sync.get("revision")) else None

    try:
        return wait_for(done, seconds, f"{name} synced and healthy")
    except AssertionError:
        raise AssertionError(f"{name} did not settle: {yaml.safe_dump(application(cluster, name))}") from None


def refresh(cluster: Provider, name: str) -> None:
    """Has Argo CD look again at once."""
    cluster.kubectl(
        "annotate", "application", name, "-n", NAMESPACE, "argocd.argoproj.io/refresh=normal", "--overwrite"
    )
