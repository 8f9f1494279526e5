"""What the demo runs on: an embedded cluster, a namespace with what the values name, the release, the twin."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.process import die_with_parent
from gpu_inference.errors import UserError
from gpu_inference.helm import Helm
from gpu_inference.paths import CHART, ROOT

RELEASE = "llm"
NAMESPACE = "inference"
RULES = ROOT / "ci" / "prometheus-adapter" / "values.yaml"
# Shorter than production's 15 s, like the overlay's windows: the algorithm is the same, the demo takes minutes.
SYNC_SECONDS = 3.0
SCRAPE_SECONDS = 1.0
TWIN_START_SECONDS = 30.0
MODEL_LABEL = "gpu-inference.io/model"
INSTANCE = f"app.kubernetes.io/instance={RELEASE}"
# Everything of a release, and what controllers make of it.
KINDS = (
    "deployments,replicasets,pods,services,endpointslices,horizontalpodautoscalers,poddisruptionbudgets,"
    "serviceaccounts,configmaps,secrets"
)


def start_cluster(name: str, cloud: str, keep: bool, progress: Any) -> EmbeddedCluster:
    """The cluster, not up yet."""
    return EmbeddedCluster(
        name,
        cloud=cloud,
        sync_period=SYNC_SECONDS,
        rules=RULES,
        scrape_interval=SCRAPE_SECONDS,
        twin=True,
        detached=keep,
        progress=progress,
    )


def prerequisites(models: dict[str, Any]) -> list[dict[str, Any]]:
    """The namespace under the restricted Pod Security Standard, and the Secrets and claims that the values name."""
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}}
    ]
    tokens = {spec["model"]["tokenSecret"]["name"]: spec for spec in models.values() if "tokenSecret" in spec["model"]}
    for name, spec in tokens.items():
        data = {spec["model"]["tokenSecret"]["key"]: "the demo downloads nothing"}
        metadata = {"name": name, "namespace": NAMESPACE}
        objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
    for claim in sorted(set(_claims(models))):
        objects += _volume(claim)
    return objects


def _claims(models: dict[str, Any]) -> Iterator[str]:
    for spec in models.values():
        scheme, _, rest = spec["model"]["source"].partition("://")
        if scheme == "pvc":
            yield rest.split("/")[0]


def _volume(claim: str) -> list[dict[str, Any]]:
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    size = {"storage": "100Gi"}
    volume = {
        **shared,
        "capacity": size,
        "claimRef": {"namespace": NAMESPACE, "name": claim},
        "nfs": {"server": "models.invalid", "path": "/"},
    }
    request = {**shared, "volumeName": claim, "resources": {"requests": size}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": claim}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": NAMESPACE},
            "spec": request,
        },
    ]


def apply(cluster: EmbeddedCluster, objects: list[dict[str, Any]]) -> None:
    """Create the objects. Raises UserError with the API server's words."""
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


@dataclass(frozen=True)
class Release:
    """What helm installed: the objects by kind, and the objects of each model by kind."""

    objects: list[dict[str, Any]]

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> number of objects."""
        return dict(sorted(Counter(o["kind"] for o in self.objects).items()))

    def name(self, kind: str, model: str) -> str:
        """Name of a model's object of a kind."""
        return next(
            o["metadata"]["name"]
            for o in self.objects
            if o["kind"] == kind and o["metadata"].get("labels", {}).get(MODEL_LABEL) == model
        )

    def missing(self, cluster: EmbeddedCluster) -> list[str]:
        """kind/name of the objects that the API server does not have."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": self.objects})
        found = cluster.kubectl("get", "-n", NAMESPACE, "-f", "-", "-o", "json", "--ignore-not-found", input=items)
        there = {(o["kind"], o["metadata"]["name"]) for o in json.loads(found or '{"items": []}')["items"]}
        return [
            f"{k}/{n}" for k, n in ((o["kind"], o["metadata"]["name"]) for o in self.objects) if (k, n) not in there
        ]


def render(helm: Helm, layers: list[Path]) -> Release:
    """What `install` will install, without test hooks. Raises UserError for values that the chart refuses."""
    objects = helm.template(RELEASE, CHART, layers=layers, namespace=NAMESPACE)
    return Release([o for o in objects if "helm.sh/hook" not in (o["metadata"].get("annotations") or {})])


def install(helm: Helm, layers: list[Path]) -> None:
    """`helm install` into the cluster that `helm` is bound to."""
    helm.install(RELEASE, CHART, layers=layers, namespace=NAMESPACE)


def leftovers(cluster: EmbeddedCluster) -> list[str]:
    """kind/name of what carries the release's label, and of Helm's own records of it."""
    labelled = cluster.kubectl("get", KINDS, "-n", NAMESPACE, "-l", INSTANCE, "-o", "name")
    records = cluster.kubectl("get", "secrets", "-n", NAMESPACE, "-l", f"owner=helm,name={RELEASE}", "-o", "name")
    return (labelled + records).split()


class Twin:
    """The process that stands for the GPUs. It ends with this process unless `detached`."""

    def __init__(self, cluster: EmbeddedCluster, models: dict[str, Any], detached: bool) -> None:
        folder = cluster.state_dir  # goes with the cluster
        resolved = folder / "resolved.json"
        resolved.write_text(json.dumps({RELEASE: models}))
        self._log = folder / "twin.log"
        command = [sys.executable, "-m", "gpu_inference.cli", "twin", "--embedded", "--port", str(cluster.twin_port)]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--kubeconfig", str(cluster.kubeconfig), "--resolved", str(resolved)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,  # Ctrl-C is handled here, in order
                preexec_fn=None if detached else die_with_parent,
            )

    def wait(self) -> None:
        """Until it listens. Raises UserError with its last words."""
        deadline = time.monotonic() + TWIN_START_SECONDS
        while "listening" not in self._log.read_text():
            self.check()
            if time.monotonic() > deadline:
                raise UserError(f"the twin does not listen after {TWIN_START_SECONDS:.0f} s", exit_code=1)
            time.sleep(0.1)

    def check(self) -> None:
        """Raises UserError if it has ended."""
        if self.process.poll() is not None:
            last = (self._log.read_text().strip().splitlines() or ["no message"])[-1]
            raise UserError(f"the twin ended with exit code {self.process.returncode}: {last}", exit_code=1)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to one that does not listen to it."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
