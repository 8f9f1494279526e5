"""What is known of servers beside their presets, by a word of the command that starts them: a preset of the user's own
that starts the same server is the same to these rules.

vLLM: read in the 0.33.0 wheel (arg_utils.py, utils/argparse_utils.py). SGLang: in the 0.5.23 wheel (server_args.py,
http_server.py: every /health answers after a second at the soonest). llama.cpp: tools/server/README.md, build 11206.
TensorRT-LLM: commands/serve.py of 1.3.0rc29. TorchServe: docs/configuration.md of 0.12.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_inference.validate.rules import Model


@dataclass(frozen=True, slots=True)
class Server:
    """word: what tells it; listen: the flag without which it listens on localhost only; metrics: the flag without which
    it has none; quiet: flags that turn them off; wrong_metrics: a path that is not Prometheus' format; files: a file of
    the preset -> a line it needs, and what is not there without it; aliases: another spelling -> the preset's flag;
    slow_health: paths that take a second at the soonest."""

    word: str
    listen: str = ""
    metrics: str = ""
    quiet: tuple[str, ...] = ()
    wrong_metrics: str = ""
    files: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    underscores: bool = False
    slow_health: tuple[str, ...] = ()


SERVERS = (
    Server(
        "vllm",
        quiet=("--disable-log-stats",),
        underscores=True,
        aliases={
            "-tp": "--tensor-parallel-size",
            "-pp": "--pipeline-parallel-size",
            "-q": "--quantization",
        },
    ),
    Server(
        "sglang.launch_server",
        listen="--host",
        metrics="--enable-metrics",
        aliases={
            "--tensor-parallel-size": "--tp-size",
            "--pipeline-parallel-size": "--pp-size",
            "--model": "--model-path",
        },
        slow_health=("/health", "/health_generate"),
    ),
    Server(
        "llama-server",
        listen="--host",
        metrics="--metrics",
        aliases={
            "-m": "--model",
            "-c": "--ctx-size",
            "-np": "--parallel",
            "-ngl": "--n-gpu-layers",
            "--gpu-layers": "--n-gpu-layers",
            "-a": "--alias",
            "-hf": "--hf-repo",
            "-hfr": "--hf-repo",
            "-hff": "--hf-file",
            "-ctk": "--cache-type-k",
            "-ctv": "--cache-type-v",
        },
    ),
    Server(
        "trtllm-serve",
        listen="--host",
        wrong_metrics="/metrics",
        files={"trtllm.yaml": (("return_perf_metrics: true", "metrics"),)},
    ),
    Server(
        "torchserve",
        files={
            "config.properties": (
                ("metrics_mode=prometheus", "metrics in Prometheus' format"),
                ("inference_address=http://0.0.0.0", "server for anybody but itself"),
            )
        },
    ),
)


def server(model: Model) -> Server | None:
    """The server that a model's command starts; None where it is none of these or the image decides."""
    words = " ".join(command(model))
    return next((known for known in SERVERS if known.word in words), None)


def command(model: Model) -> list[str]:
    """What the container runs, without its arguments."""
    words = model.spec["container"].get("command", model.runtime["command"])
    return [str(word) for word in words] if isinstance(words, list) else []


def below(value: Any, *keys: str) -> Mapping[str, Any]:
    """The map under the keys of `pod` or `container`, which may hold anything; an empty one where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def flags(words: Iterable[object]) -> set[str]:
    """The flags among arguments, without their values."""
    return {str(word).partition("=")[0] for word in words if str(word).startswith("-")}


def told(model: Model) -> dict[str, object]:
    """Flag -> the fixed value, or the path of the model it comes from, of the preset's arguments."""
    return {entry["flag"]: entry.get("value", entry.get("from")) for entry in model.runtime["args"] if "flag" in entry}
