"""What is known of every rule, data in catalogue/: one file an area, an entry a rule.

    startup-budget:
      codes: [PRB002]      # failures known from the field that it finds, see numbers.yaml; may be left out
      severity: error      # what a finding gets when the rule does not say; [error, warning] where it has two
      needs: values        # what it looks at, one of NEEDS
      summary: The startup probe allows less time than loading takes.
      why: The kubelet restarts the container before the model is loaded, and again, for ever.
      example: "probes: {startup: {failureThreshold: 240, periodSeconds: 5}}"  # what is right; may be left out
      evidence: ["https://…"]

dropped.yaml has the numbers that need no rule, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).with_name("catalogue")
# The values alone; estimates of memory and load time; a cluster's nodes; a Kubernetes version; the rendered objects.
NEEDS = ("values", "estimate", "cluster", "kubernetes", "rendered")
_NO_AREA = ("dropped", "numbers")


@dataclass(frozen=True, slots=True)
class Rule:
    """An entry. severities: the first is what a finding gets when the rule does not say; evidence: URLs."""

    name: str
    area: str
    codes: tuple[str, ...]
    severities: tuple[str, ...]
    needs: str
    summary: str
    why: str
    evidence: tuple[str, ...]
    example: str = ""

    @property
    def severity(self) -> str:
        return self.severities[0]

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.name,
            "area": self.area,
            "codes": list(self.codes),
            "severities": list(self.severities),
            "needs": self.needs,
            "summary": self.summary,
            "why": self.why,
            "example": self.example,
            "evidence": list(self.evidence),
        }


@cache
def catalogue() -> Mapping[str, Rule]:
    """All rules by name, area after area."""
    rules: dict[str, Rule] = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        for name, entry in load_yaml(path).items() if path.stem not in _NO_AREA else ():
            assert name not in rules, f"{name} is in {rules[name].area} and in {path.stem}"
            rules[name] = _rule(name, path.stem, entry)
    return rules


def _rule(name: str, area: str, entry: dict[str, Any]) -> Rule:
    severity = entry.pop("severity")
    severities = (severity,) if isinstance(severity, str) else tuple(severity)
    codes, evidence = (tuple(entry.pop(key, ())) for key in ("codes", "evidence"))
    return Rule(name, area, codes, severities, evidence=evidence, **entry)


@cache
def dropped() -> Mapping[str, str]:
    """Numbers that need no rule, and the reason."""
    return {code: reason for code, reason in load_yaml(FOLDER / "dropped.yaml").items() if code != "open"}


@cache
def numbers() -> tuple[str, ...]:
    """All numbers there are, such as PRB001."""
    kinds: dict[str, int] = load_yaml(FOLDER / "numbers.yaml")
    return tuple(f"{kind}{number:03}" for kind, many in kinds.items() for number in range(1, many + 1))


def load_yaml(path: Path) -> dict[str, Any]:
    # The C parser, where PyYAML has it, takes a tenth of the time.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), loader)
    return found
