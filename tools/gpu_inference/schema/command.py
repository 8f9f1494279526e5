"""`gpu-inference schema`: writes what is generated, or checks that what is committed is up to date."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from gpu_inference.errors import UserError
from gpu_inference.paths import CHART, ROOT, SCHEMA
from gpu_inference.schema.kubernetes import TYPES

# verb -> (module whose render() gives the text, the file, help)
GENERATED: dict[str, tuple[str, Path, str]] = {
    "bundle": ("gpu_inference.schema.bundle", CHART / "values.schema.json", "the schema Helm checks values against"),
    "editor": ("gpu_inference.schema.editor", SCHEMA / "values.schema.json", "the same for editors"),
    "docs": (
        "gpu_inference.schema.docs",
        CHART / "README.md",
        "the tables of every key, its type, default and meaning",
    ),
    "adapter-rules": (
        "gpu_inference.schema.adapter_rules",
        ROOT / "ci" / "prometheus-adapter" / "values.yaml",
        "the metrics of all runtimes as rules for the prometheus-adapter chart",
    ),
    "kubernetes": (
        "gpu_inference.schema.kubernetes",
        TYPES,
        "the fields of Kubernetes' own objects, for `validate --render`",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, (_, target, summary) in GENERATED.items():
        verb = verbs.add_parser(name, help=f"{_shown(target)}: {summary}", description=f"Write {summary}.")
        verb.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is not up to date")


def run(args: argparse.Namespace) -> int:
    module, target, _ = GENERATED[args.what]
    text = importlib.import_module(module).render()
    committed = target.read_text(encoding="utf-8") if target.exists() else ""
    shown = _shown(target)
    if text == committed:
        print(f"{shown} is up to date")
        return 0
    if args.check:
        raise UserError(
            f"{shown} is out of date", fix=f"run `gpu-inference schema {args.what}` and commit it", exit_code=1
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {shown}: {error.strerror}", fix="make the file writable") from error
    print(f"{shown} written")
    return 0


def _shown(target: Path) -> str:
    """From the project's root; of an installed package, one file is not below it."""
    return os.path.relpath(target, ROOT)
