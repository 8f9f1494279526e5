"""`gpu-inference validate`: values files against the chart's schema and rules."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_inference.errors import UserError
from gpu_inference.report import SEVERITIES, use_color
from gpu_inference.reporters import FORMATS

if TYPE_CHECKING:
    from gpu_inference.serving.architecture import Architecture
    from gpu_inference.validate.context import Context
    from gpu_inference.validate.engine import Subject
    from gpu_inference.validate.rendered.check import Renderer

_EPILOG = """\
Each FILE is judged alone over the chart's defaults. An Argo CD Application or ApplicationSet, a Flux HelmRelease and a
helmfile are judged as the values they install the chart with, a folder by every such file in it. Files given with -f
are layers of one release, merged as Helm merges them; a finding names the layer that set the value. A comment
accepts one:
  # gpu-inference: ignore RULE until YYYY-MM-DD: why
`gpu-inference rules RULE` says why a rule is there.
Exit code: 0 fine, 1 findings of --fail-on's severity or worse, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="a values file, a folder, or a manifest that installs the chart; - is standard input",
    )
    parser.add_argument(
        "-f",
        "--values",
        dest="layers",
        type=Path,
        action="append",
        default=[],
        metavar="LAYER",
        help="a layer, as helm's -f; later ones win",
    )
    parser.add_argument(
        "--render",
        action="store_true",
        help="also render with helm, and judge the objects: for `pod`, `container`, `extraObjects`",
    )
    parser.add_argument(
        "--production",
        action="store_true",
        help="also ask for what production needs: images by digest, models by commit, a NetworkPolicy, a priority",
    )
    parser.add_argument("-o", "--output", choices=FORMATS, default="text", help="format (default: text)")
    parser.add_argument(
        "--fail-on",
        choices=(*reversed(SEVERITIES), "never"),
        default="error",
        metavar="SEVERITY",
        help="the mildest severity that makes the exit code 1: error, warning, info or never (default: error)",
    )
    parser.add_argument(
        "--config",
        dest="configs",
        action="append",
        default=[],
        metavar="MODEL=FILE",
        help="the config.json of a model of the values: its memory and load are estimated by it",
    )
    parser.add_argument(
        "--kube-version", metavar="VERSION", help="of the cluster, as helm's: 1.34 or v1.34.2 (default: the profile's)"
    )
    parser.add_argument(
        "--cluster-profile",
        type=Path,
        metavar="PROFILE",
        help="a cluster's nodes and APIs, as `gpu-inference cluster profile` writes them: also say what would wait for "
        "a node for ever",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="REPORT",
        help="an earlier report in JSON: only what is new is reported",
    )
    parser.add_argument("-q", "--quiet", action="count", default=0, help="findings only")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="also name what was checked")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: auto")


def _architectures(configs: Sequence[str], subjects: Sequence[Subject]) -> dict[str, Architecture]:
    """By the name of the model. UserError for a file that is no config.json, and for a model that nothing defines."""
    found = {}
    for text in configs:
        from gpu_inference.estimate.command import architecture_in

        name, _, path = text.partition("=")
        if not path:
            raise UserError(f"--config {text} names no file", fix="write --config MODEL=FILE")
        models = (layer.tree.child("models") for subject in subjects for layer in subject.layers)
        if not any(tree and tree.child(name) for tree in models):
            raise UserError(f"no values define a model {name}", fix="write --config MODEL=FILE with a model of theirs")
        found[name] = architecture_in(Path(path), name)
    return found


def _context(args: argparse.Namespace, subjects: Sequence[Subject]) -> Context:
    """What the options tell of the cluster and of models; a profile takes modules that nothing else here needs."""
    from gpu_inference.validate.context import Context

    more: dict[str, Any] = {
        "architectures": _architectures(args.configs, subjects),
        "renderer": _renderer() if args.render else None,
        "production": args.production,
    }
    if not (args.kube_version or args.cluster_profile):
        return Context(**more)
    from gpu_inference.cluster.profile import load_profile, version

    profile = load_profile(args.cluster_profile) if args.cluster_profile else None
    known = profile.kubernetes if profile else None
    return Context(version(args.kube_version) if args.kube_version else known, profile, **more)


def _renderer() -> Renderer:
    from gpu_inference.helm import Helm, find_helm
    from gpu_inference.validate.rendered.check import Renderer

    return Renderer(Helm(find_helm()))


def run(args: argparse.Namespace) -> int:
    from gpu_inference.inputs import files, subjects
    from gpu_inference.reporters import reporter
    from gpu_inference.validate.accepted import without_known
    from gpu_inference.validate.engine import Subject, judge, together
    from gpu_inference.validate.many import judge_all
    from gpu_inference.values.loader import load

    if not args.files and not args.layers:
        raise UserError("no values file given", fix="name files to check each alone, or layers of a release with -f")
    if [str(path) for path in (*args.files, *args.layers)].count("-") > 1:
        raise UserError("standard input can be read only once", fix="give - once")
    layers = [Subject([load(path) for path in args.layers])] if args.layers else []
    if args.configs:  # whose models are looked for in all values first
        given = [*subjects(args.files), *layers]
        context = _context(args, given)
        judged = [judge(subject, context) for subject in given]
    else:
        how = partial(judge, context=_context(args, ()))
        judged = judge_all(list(files(args.files)), how, worth=1 if args.render else 16)
        judged += map(how, layers)
    report = replace(together(judged), fail_on=args.fail_on)
    if args.baseline:
        report = replace(report, findings=without_known(report.findings, args.baseline))
    verbosity = 1 + args.verbose - args.quiet
    reporter(args.output)(sys.stdout, verbosity, use_color(args.color)).write(report)
    return report.exit_code
