"""What rules may know besides the values: the cluster that these are for, and who renders them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_inference.cluster.profile import Profile
    from gpu_inference.validate.rendered.check import Renderer


@dataclass(frozen=True, slots=True)
class Context:
    """None is for what nobody told. kube_version: (1, 34); renderer: makes the objects, where these are to be judged;
    production: whether rules for that count."""

    kube_version: tuple[int, int] | None = None
    cluster: Profile | None = None
    renderer: Renderer | None = None
    production: bool = False


NOTHING_KNOWN = Context()
