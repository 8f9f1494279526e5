"""What rules may know of the cluster that the values are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_inference.cluster.profile import Profile


@dataclass(frozen=True, slots=True)
class Context:
    """None is for what nobody told. kube_version: (1, 34)."""

    kube_version: tuple[int, int] | None = None
    cluster: Profile | None = None


NOTHING_KNOWN = Context()
