"""A cluster that is already there: never created, changed in its settings, or deleted by us."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from gpu_inference.cluster.binaries import find_or_build
from gpu_inference.cluster.provider import Capabilities, ComponentStatus, Provider
from gpu_inference.errors import UserError

_TIMEOUT_SECONDS = 30


class ExistingCluster(Provider):
    """Whatever `kubeconfig` points at: its argument, else $KUBECONFIG, else ~/.kube/config."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        # Of a list of files in $KUBECONFIG kubectl itself makes one configuration, with the first's current context.
        first = next((part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part), "")
        self._kubeconfig = kubeconfig or Path(first or Path.home() / ".kube" / "config")
        self._kubectl = Path(shutil.which("kubectl") or "")
        self.name = "existing"

    @property
    def kubeconfig(self) -> Path:
        return self._kubeconfig

    @property
    def kubectl_path(self) -> Path:
        if not self._kubectl.is_file():
            self._kubectl = find_or_build(["kubectl"])["kubectl"]
        return self._kubectl

    @property
    def capabilities(self) -> Capabilities:
        served = self.kubectl("api-versions").split()
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        kwok = [node for node in nodes if "kwok.x-k8s.io/node" in node["metadata"].get("annotations", {})]
        return Capabilities(
            real_pods=not kwok,
            gpus=any(node["status"].get("capacity", {}).get("nvidia.com/gpu", "0") != "0" for node in nodes),
            owned=False,
            external_metrics="external.metrics.k8s.io/v1beta1" in served,
        )

    def up(self) -> None:
        if not self.kubeconfig.is_file():
            raise UserError(
                f"there is no kubeconfig at {self.kubeconfig}", fix="set KUBECONFIG or give --kubeconfig FILE"
            )
        command = [str(self.kubectl_path), f"--kubeconfig={self.kubeconfig}", "version", "--request-timeout=10s"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise UserError(
                f"no answer from the cluster of {self.kubeconfig}", fix="check that it runs", exit_code=1
            ) from None
        if done.returncode != 0:
            message = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(
                f"cannot reach the cluster of {self.kubeconfig}: {message}",
                fix="check the file's current context and that the cluster runs",
                exit_code=1,
            )

    def down(self) -> None:
        """Does nothing: the cluster is not ours."""

    def status(self) -> list[ComponentStatus]:
        try:
            self.up()
        except UserError:
            return [ComponentStatus("kube-apiserver", alive=False)]
        return [ComponentStatus("kube-apiserver", alive=True)]
