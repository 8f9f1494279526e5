"""Where things lie: the project's folders and the cache."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "chart"
VALUES = ROOT / "values"
SCHEMA = ROOT / "schema"
BINARIES = ROOT / "tools" / "binaries"


def cache_dir() -> Path:
    """The cache of built binaries: $XDG_CACHE_HOME/gpu-inference, else ~/.cache/gpu-inference. Not created here."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "gpu-inference"
