"""`gpu-inference cluster`: a cluster for trying things out, on this machine or one that is there already."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from gpu_inference.cluster import inventory
from gpu_inference.cluster.embedded import EmbeddedCluster
from gpu_inference.cluster.existing import ExistingCluster
from gpu_inference.cluster.kind import KindCluster
from gpu_inference.cluster.progress import console_progress
from gpu_inference.cluster.provider import Provider
from gpu_inference.cluster.state import folder_of, provider_of
from gpu_inference.errors import UserError
from gpu_inference.paths import ROOT

RULES = ROOT / "ci" / "prometheus-adapter" / "values.yaml"
_DEFAULT_NAME = "default"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions up, status, down and kubeconfig with their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    up = actions.add_parser("up", help="start a cluster that stays until `cluster down`")
    up.add_argument("--cloud", choices=inventory.known(), default="generic", help="whose nodes (default: %(default)s)")
    up.add_argument(
        "--sync-period",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help="of the HPA controller (default: %(default)s)",
    )
    up.add_argument(
        "--rules", type=Path, default=RULES, metavar="FILE",
        help="prometheus-adapter rules of the external metrics API (default: those of the runtime presets)",
    )  # fmt: skip
    up.add_argument("--workers", type=int, default=2, metavar="N", help="of a kind cluster (default: %(default)s)")
    up.add_argument(
        "--install-packages", action="store_true",
        help="let apt install podman for a kind cluster where there is no docker or podman",
    )  # fmt: skip
    up.add_argument(
        "--crds", action="store_true",
        help="accept objects of optional APIs (LeaderWorkerSet, PodMonitor, HTTPRoute …); nothing acts on them",
    )  # fmt: skip
    status = actions.add_parser("status", help="show the parts of a cluster and whether each is alive")
    down = actions.add_parser("down", help="end a cluster and remove everything of it")
    kubeconfig = actions.add_parser("kubeconfig", help="print the path of a cluster's kubeconfig")
    for action in (up, status, down, kubeconfig):
        action.add_argument("--name", default=_DEFAULT_NAME, help="of the cluster (default: %(default)s)")
        action.add_argument(
            "--provider", choices=("embedded", "kind", "existing"),
            help="default: what a cluster of that name is, else embedded",
        )  # fmt: skip
        action.add_argument(
            "--kubeconfig", type=Path, metavar="FILE", help="of an existing cluster (default: KUBECONFIG)"
        )


def run(args: argparse.Namespace) -> int:
    """Runs one action. 0 when it worked; `status` is 1 when a part of the cluster is not alive."""
    if args.kubeconfig and args.provider != "existing":
        raise UserError("--kubeconfig is for an existing cluster", fix="add --provider existing")
    return {"up": _up, "status": _status, "down": _down, "kubeconfig": _kubeconfig}[args.action](args)


def _find(args: argparse.Namespace) -> Provider:
    return ExistingCluster(args.kubeconfig) if args.provider == "existing" else _kind_of(args).attach(args.name)


def _kind_of(args: argparse.Namespace) -> type[EmbeddedCluster] | type[KindCluster]:
    """The class of the cluster that is meant: as said, else as its state says."""
    provider = args.provider or provider_of(folder_of(args.name))
    return KindCluster if provider == KindCluster.PROVIDER else EmbeddedCluster


def _up(args: argparse.Namespace) -> int:
    cluster: Provider
    if args.provider == "existing":
        cluster = ExistingCluster(args.kubeconfig)
    elif args.provider == "kind":
        cluster = KindCluster(
            args.name,
            cloud=args.cloud,
            workers=args.workers,
            sync_period=args.sync_period,
            rules=args.rules,
            crds=args.crds,
            install=args.install_packages,
            detached=True,
            progress=console_progress(),
        )
    else:
        cluster = EmbeddedCluster(
            args.name,
            cloud=args.cloud,
            sync_period=args.sync_period,
            rules=args.rules,
            crds=args.crds,
            detached=True,
            progress=console_progress(),
        )
    cluster.up()
    path = shlex.quote(str(cluster.kubeconfig))
    print(f"KUBECONFIG={path}")
    print(f"next: helm install llm chart/ -f values/prod.yaml --kubeconfig {path}")
    return 0


def _status(args: argparse.Namespace) -> int:
    parts = _find(args).status()
    for part in parts:
        print(f"{part.name:<24} {part.pid or '-':>8} {'alive' if part.alive else 'dead'}")
    return 0 if all(part.alive for part in parts) else 1


def _down(args: argparse.Namespace) -> int:
    if args.provider == "existing":
        raise UserError("an existing cluster is not ours to end", fix="leave --provider away to end one of ours")
    _kind_of(args).remove(args.name)
    print(f"cluster {args.name} is gone")
    return 0


def _kubeconfig(args: argparse.Namespace) -> int:
    print(_find(args).kubeconfig)
    return 0
