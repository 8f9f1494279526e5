"""What rules may know beside the values: of the cluster they are for, of models, and who renders them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_inference.cluster.profile import Profile
    from gpu_inference.serving.architecture import Architecture
    from gpu_inference.validate.rendered.check import Renderer


@dataclass(frozen=True, slots=True)
class Context:
    """None is for what nobody told. kube_version: (1, 34). architectures: of models by name, beside the catalogue's;
    None where nothing is to be estimated: what only estimates tell, Helm renders. renderer: makes the objects, where
    these are to be judged; production: whether rules for that count."""

    kube_version: tuple[int, int] | None = None
    cluster: Profile | None = None
    architectures: Mapping[str, Architecture] | None = field(default_factory=dict)
    renderer: Renderer | None = None
    production: bool = False


NOTHING_KNOWN = Context()
NOTHING_ESTIMATED = Context(architectures=None)
