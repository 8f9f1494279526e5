"""`gpu-inference diff`: what every release of a repository becomes between two revisions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from gpu_inference.diff import checkout
from gpu_inference.diff.classify import changes
from gpu_inference.diff.cost import PRICES, read_prices
from gpu_inference.diff.model import EFFECTS, Change, Comparison
from gpu_inference.diff.render import Rendered, releases
from gpu_inference.diff.reporters import FORMATS
from gpu_inference.errors import UserError
from gpu_inference.helm import Helm, find_helm

_EPILOG = f"""\
PATHs are values files, folders and manifests as for `validate`, from the root of the repository; without any, values/.
Effects, from the worst: {", ".join(EFFECTS)}.
Exit code: 0, or 1 for an effect of --fail-on or worse, or 2 for wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="what to compare (default: values)")
    parser.add_argument("--base", required=True, metavar="REF", help="the revision before: a branch, tag or commit")
    parser.add_argument("--head", metavar="REF", help="the revision after (default: the working tree)")
    parser.add_argument("-o", "--output", choices=tuple(FORMATS), default="text", help="format (default: text)")
    parser.add_argument(
        "--fail-on",
        choices=(*EFFECTS, "never"),
        default="deletes-data",
        metavar="EFFECT",
        help="the mildest effect that makes the exit code 1 (default: deletes-data)",
    )
    parser.add_argument("--prices", type=Path, help="a file of prices as diff/prices.yaml")


def run(args: argparse.Namespace) -> int:
    prices = read_prices(args.prices or PRICES)
    root = checkout.root_of(Path.cwd())
    paths = [_inside(root, path) for path in args.paths] or [Path("values")]
    helm = Helm(find_helm())
    with checkout.at(root, args.base) as base, checkout.at(root, args.head) as head:
        if not any((tree / path).exists() for tree in (base, head) for path in paths):
            raise UserError(f"neither revision has {', '.join(map(str, paths))}", fix="name values files or manifests")
        old, new = (dict(releases(helm, tree, paths)) for tree in (base, head))
    comparisons = list(_compared(old, new))
    sys.stdout.write(FORMATS[args.output](comparisons, prices))
    bad = list(EFFECTS)[: list(EFFECTS).index(args.fail_on) + 1] if args.fail_on != "never" else []
    return int(any(comparison.effects & {*bad} for comparison in comparisons))


def _inside(root: Path, path: Path) -> Path:
    """From the root, as a path is there in both revisions."""
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        raise UserError(f"{path} is outside of {root}", fix="name files of the repository")
    return resolved.relative_to(root)


def _compared(old: Mapping[str, Rendered], new: Mapping[str, Rendered]) -> Iterator[Comparison]:
    nothing = Rendered()
    for name in sorted({*old, *new}):
        before, after = old.get(name, nothing), new.get(name, nothing)
        if after.error:
            # Nothing can be said of what would be there.
            yield Comparison(name, [Change(name, "invalid", detail=after.error)], before.fleet, before.fleet)
        else:
            yield Comparison(name, list(changes(before, after)), before.fleet, after.fleet)
