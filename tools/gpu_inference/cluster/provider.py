"""The interface of every kind of cluster that tests and the demo can run on."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from gpu_inference.errors import UserError


@dataclass(frozen=True)
class Capabilities:
    """What a test may expect.

    real_pods: containers run and have sockets; gpus: there are nodes with GPU capacity; owned: the cluster is ours, so
    cluster-wide objects may be created; external_metrics: the external metrics API is served.
    """

    real_pods: bool
    gpus: bool
    owned: bool
    external_metrics: bool


@dataclass(frozen=True)
class ComponentStatus:
    """One part of a cluster. pid is None where the part is no local process."""

    name: str
    alive: bool
    pid: int | None = None


class Provider(ABC):
    """A cluster. As a context manager it is up inside the block."""

    name: str

    @abstractmethod
    def up(self) -> None:
        """Returns when pods can be created. UserError when that cannot be."""

    @abstractmethod
    def down(self) -> None:
        """Removes what `up` made, and only that. Safe to call twice."""

    @abstractmethod
    def status(self) -> list[ComponentStatus]:
        """The parts of the cluster and whether each is alive."""

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """A kubeconfig whose current context is this cluster."""

    @property
    @abstractmethod
    def kubectl_path(self) -> Path:
        """The kubectl that `kubectl` runs."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this cluster can do."""

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:
        """Runs kubectl against this cluster and returns its standard output.

        UserError with kubectl's message when it fails; with check=False the output up to then is returned.
        """
        command = [str(self.kubectl_path), f"--kubeconfig={self.kubeconfig}", *args]
        done = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            message = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"kubectl {' '.join(args)}: {message}", exit_code=1)
        return done.stdout

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
