"""What a comparison finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# From the worst on. What each says about an object, or about a set of values that does not render.
EFFECTS = {
    "invalid": "cannot be rendered",
    "fails": "the upgrade will be refused: the field cannot be changed",
    "deletes-data": "a volume and what is on it will be deleted",
    "restarts": "pods will be replaced",
    "removes": "will be removed",
    "adds": "will be added",
    "scales": "the number of pods will change",
    "updates": "will be changed in place",
    "cosmetic": "labels or annotations only",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One field: its path in the object, what it was and what it becomes, as text; None where it is not there."""

    path: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One object, "kind/name", the worst effect (a key of EFFECTS), and its fields. Of a restart: how many pods at
    least, and the GPU-minutes their reload takes."""

    object: str
    effect: str
    differences: Sequence[Difference] = ()
    pods: int = 0
    gpu_minutes: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fleet:
    """GPUs a release takes, (accelerator, capacity) -> number: at its smallest and at its largest."""

    least: dict[tuple[str, str], int] = field(default_factory=dict)
    most: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One set of values: what it is called, what changes, and its GPUs before and after."""

    name: str
    changes: Sequence[Change]
    before: Fleet
    after: Fleet

    @property
    def effects(self) -> set[str]:
        return {change.effect for change in self.changes}
