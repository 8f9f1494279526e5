"""Where things lie: the project's folders and the cache."""

from __future__ import annotations

import os
from pathlib import Path

# In a checkout, the checkout; where the package is installed, what the wheel has put beside it.
_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parents[1]
ROOT = _CHECKOUT if (_CHECKOUT / "chart" / "Chart.yaml").is_file() else _HERE.parent / "gpu_inference_files"
CHART = ROOT / "chart"
VALUES = ROOT / "values"
SCHEMA = ROOT / "schema"
BINARIES = ROOT / "tools" / "binaries"


def cache_dir() -> Path:
    """The cache of built binaries: $XDG_CACHE_HOME/gpu-inference, else ~/.cache/gpu-inference. Not created here."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "gpu-inference"
