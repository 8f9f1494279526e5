"""Rules that count with --production: what may be left open while a model is tried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gpu_inference.resolve import scheme, served
from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.validate.security_rules import COMMIT

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model


def _image(model: Model) -> Iterator[Mistake]:
    image = model.spec["image"]
    if not image.get("digest"):
        shown = f"{image['repository']}:{image['tag']}"
        message = f"{shown} is what the registry says today: a tag can be moved"
        yield model.mistake("unpinned-image", "image.digest", message, "set it to sha256:…, as the registry shows it")


def _revision(model: Model) -> Iterator[Mistake]:
    source, revision = served(model.spec, model.runtime), model.spec["model"].get("revision", "")
    if scheme(source) == "hf" and not COMMIT.fullmatch(revision):
        message = f"{revision} is no commit" if revision else f"is not set, so the weights are {source}'s newest"
        fix = "set it to a commit, 40 hexadecimal digits"
        yield model.mistake("unpinned-model", "model.revision", message, fix)


def _policy(model: Model) -> Iterator[Mistake]:
    if not model.spec["networkPolicy"]["enabled"]:
        message = "every pod of the cluster reaches every port of the server"
        yield model.mistake("no-network-policy", "networkPolicy.enabled", message, "set it to true")


def _priority(model: Model) -> Iterator[Mistake]:
    if not model.spec.get("priorityClassName"):
        message = "is not set, so that no batch job gives way when GPUs are scarce"
        fix = "set it to an entry of priorityClasses, or to an existing PriorityClass"
        yield model.mistake("no-priority", "priorityClassName", message, fix)


_ALL: tuple[Callable[[Model], Iterator[Mistake]], ...] = (_image, _revision, _policy, _priority)


def production(model: Model) -> Iterator[Mistake]:
    for rule in _ALL if model.context.production else ():
        yield from rule(model)


RULES = (production,)
