"""What `validate` finds by estimates is what `estimate` says, for every model of the catalogue on every accelerator."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_inference.cli import main
from gpu_inference.errors import UserError
from gpu_inference.estimate import spec as estimates
from gpu_inference.estimate.memory import Layout, memory
from gpu_inference.estimate.spec import Estimate, estimate_for
from gpu_inference.resolve import chart_defaults, resolve, resolve_values
from gpu_inference.serving.catalogue import PATH, catalogue
from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.model import shape_from_values
from gpu_inference.validate.catalogue import catalogue as rules
from gpu_inference.validate.context import NOTHING_ESTIMATED
from gpu_inference.validate.rules import broken_rules
from gpu_inference.validate.schema_errors import Mistake
from gpu_inference.values.presets import load_presets, overlay

ACCELERATORS = load_presets("accelerators")
GPUS = {name: Gpu.from_preset(name, preset) for name, preset in ACCELERATORS.items()}
ESTIMATED = {name for name, rule in rules().items() if rule.needs == "estimate"}
NAMES = {re.sub(r"[^a-z0-9]+", "-", name.lower().partition("/")[2]): name for name in catalogue()}


def values_of(models: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = chart_defaults().tree.plain() | {"models": models}
    return values


def found(values: Mapping[str, Any]) -> dict[str, list[Mistake]]:
    """What rules on estimates find, by model."""
    mistakes: dict[str, list[Mistake]] = {name: [] for name in values["models"]}
    for mistake in broken_rules(values):
        if mistake.rule in ESTIMATED:
            mistakes[str(mistake.path[1])].append(mistake)
    return mistakes


def one(own: dict[str, Any]) -> tuple[Estimate, list[Mistake]]:
    base = {
        "runtime": "vllm",
        "accelerator": {"type": "nvidia-l4"},
        "model": {"source": "hf://meta-llama/Llama-3.1-8B-Instruct", "contextLength": 8192},
    }
    values = values_of({"m": overlay(base, own)})
    return estimate_for(resolve_values(values)["models"]["m"]), found(values)["m"]


def all_of_them(accelerator: str, count: int, context: int) -> dict[str, Any]:
    return values_of(
        {
            short: {
                "runtime": "vllm",
                "model": {"source": f"hf://{name}"} | ({"contextLength": context} if context else {}),
                "accelerator": {"type": accelerator, "count": count},
                "parallelism": {"tensor": count},
            }
            for short, name in NAMES.items()
        }
    )


@pytest.mark.parametrize("accelerator", sorted(ACCELERATORS))
@pytest.mark.parametrize(("count", "context"), [(1, 0), (8, 8192)])
def test_rules_say_what_estimates_say(accelerator: str, count: int, context: int) -> None:
    """And what the fix names makes the context fit."""
    values = all_of_them(accelerator, count, context)
    specs, mistakes = resolve_values(values)["models"], found(values)
    for name, spec in specs.items():
        estimate = estimate_for(spec)
        said = {(problem.code, problem.path, problem.severity) for problem in estimate.problems}
        assert {(m.rule, ".".join(map(str, m.path[2:])), m.severity) for m in mistakes[name]} == said
        assert ("does-not-fit" in {code for code, _, _ in said}) == (not estimate.memory.fits)
        assert estimate.fits == (estimate.memory.fits and "error" not in {severity for _, _, severity in said})
        for mistake in mistakes[name]:
            assert re.search(r"\d", mistake.message), mistake.message
            short = re.match(r"set it to (\d+), or", mistake.fix)
            if mistake.rule == "does-not-fit" and short:
                spec["model"]["contextLength"] = int(short[1])
                assert estimate_for(spec).memory.fits


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(catalogue())),
    gpu=st.sampled_from(sorted(GPUS)),
    tensor=st.sampled_from([1, 2, 4]),
    context=st.integers(1, 200_000),
    more=st.integers(1, 100_000),
)
def test_more_gpus_and_shorter_requests_never_hurt(name: str, gpu: str, tensor: int, context: int, more: int) -> None:
    shape = shape_from_values({"source": f"hf://{name}"})
    now = memory(shape, GPUS[gpu], Layout(tensor=tensor), context)
    assert memory(shape, GPUS[gpu], Layout(tensor=tensor), context + more).kv_bytes_per_sequence_per_gpu >= (
        now.kv_bytes_per_sequence_per_gpu
    )
    if now.fits:
        for larger in (Layout(tensor=2 * tensor), Layout(tensor=tensor, pipeline=2)):
            assert memory(shape, GPUS[gpu], larger, context).fits


def test_nothing_is_said_of_what_is_not_known() -> None:
    runtimes = [name for name, preset in load_presets("runtimes").items() if preset["api"] == "openai"]
    for runtime in [*runtimes, "triton", "custom"]:
        own = {"runtime": runtime, "model": {"source": "hf://acme/tales-9b"}, "accelerator": {"type": "nvidia-t4"}}
        assert found(values_of({"m": own})) == {"m": []}
    # An accelerator of one's own without figures: sizes and load times are not known either.
    tiny = {"resource": "acme.com/npu", "nodeLabels": {}, "defaults": {}}
    values = all_of_them("npu", 1, 8192) | {"accelerators": {"npu": tiny}}
    assert not any(found(values).values())


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        # Certainly too large, and too large by less than an estimate is off.
        ({"model": {"contextLength": 40_000}}, [("does-not-fit", "error")]),
        ({"model": {"contextLength": 34_000}}, [("does-not-fit", "warning")]),
        # Only vLLM is known to refuse it.
        ({"runtime": "sglang", "model": {"contextLength": 100_000}}, [("does-not-fit", "warning")]),
        # Nothing is measured of a shape that is guessed; but weights are weights.
        (
            {"model": {"source": "hf://acme/tales-8b", "parametersBillion": 8, "contextLength": 60_000}},
            [("does-not-fit", "warning")],
        ),
        (
            {"model": {"source": "hf://acme/t", "parametersBillion": 20, "weightsDtype": "bf16"}},
            [("does-not-fit", "error")],
        ),
        (
            {"model": {"source": "hf://acme/t", "parametersBillion": 20}},
            [("does-not-fit", "warning")],
        ),
        # What an argument does to memory is not known.
        ({"model": {"contextLength": 40_000}, "extraArgs": ["--cpu-offload-gb=10"]}, []),
        ({"model": {"contextLength": 40_000}, "extraArgs": ["--enable_prefix_caching"]}, [("does-not-fit", "error")]),
        # Formats that one runtime needs a newer GPU for.
        (
            {"runtime": "trtllm", "accelerator": {"type": "nvidia-a100-40gb"}, "model": {"weightsDtype": "fp8"}},
            [("number-format", "error")],
        ),
        ({"accelerator": {"type": "nvidia-a100-40gb"}, "model": {"weightsDtype": "fp8"}}, []),
        # A download before the server starts is not the startup probe's; one by the server is.
        ({"startup": {"loadSeconds": 120}}, []),
        ({"startup": {"loadSeconds": 120}, "storage": {"download": {"by": "server"}}}, [("load-time", "warning")]),
        ({"startup": {"loadSeconds": 10}}, [("load-time", "error")]),
        ({"runtime": "sglang", "startup": {"loadSeconds": 30}}, []),
        # What the server keeps in the host's memory.
        ({"extraArgs": ["--cpu-offload-gb", "30"]}, [("host-memory", "error")]),
        ({"resources": {"memory": {"requests": "4Gi", "limits": "4Gi"}}}, [("host-memory", "warning")]),
        ({"storage": {"cache": {"sizeLimit": "14Gi"}}}, [("cache-size", "error")]),
        ({"claims": {"cache": {"mountPath": "/cache", "size": "16Gi", "accessModes": ["ReadWriteMany"]}}},
            [("claim-size", "warning")]),
    ],
)  # fmt: skip
def test_severities(own: dict[str, Any], wanted: list[tuple[str, str]]) -> None:
    assert [(mistake.rule, mistake.severity) for mistake in one(own)[1]] == wanted


def test_the_cache_of_llama_cpp_is_counted_as_it_is_set() -> None:
    server = {"runtime": "llama-cpp", "model": {"file": "llama-3.1-8b-Q4_K_M.gguf"}}
    small = {"resources": {"memory": {"requests": "6Gi", "limits": "6Gi"}}}
    assert [mistake.rule for mistake in one(server | small)[1]] == ["host-memory"]
    for less in ({"extraArgs": ["--cache-ram", "512"]}, {"env": {"LLAMA_ARG_CACHE_RAM": "512"}}):
        estimate, mistakes = one(server | small | less)
        assert (estimate.host_cache_mib, mistakes) == (512, [])
    assert one(server)[0].shape.weights == "int4"


def test_who_is_not_told_how_takes_all_gpus() -> None:
    two = {"accelerator": {"count": 2}}
    assert one({"runtime": "llama-cpp"} | two)[0].layout.pipeline == 2
    assert (
        one({"runtime": "nim-1", "model": {"source": "image://", "parametersBillion": 8}} | two)[0].layout.tensor == 2
    )


def test_a_groups_gpus_are_those_of_a_pod() -> None:
    """What is suggested is as the values of a LeaderWorkerSet say it."""
    group = {
        "workload": "LeaderWorkerSet",
        "model": {"source": "pvc://weights/llama-3.1-405b"},
        "accelerator": {"type": "nvidia-h100", "count": 4},
        "parallelism": {"tensor": 4, "pipeline": 2},
    }
    fix = next(mistake.fix for mistake in one(group)[1] if mistake.rule == "does-not-fit")
    assert "accelerator.count: 8 and parallelism.tensor: 8" in fix
    own = overlay(group, {"accelerator": {"count": 8}, "parallelism": {"tensor": 8}})
    assert one(own)[0].memory.fits


def test_a_model_too_large_for_more_or_larger_gpus_gets_both() -> None:
    fix = next(m.fix for m in one({"model": {"source": "hf://meta-llama/Llama-3.1-405B-Instruct"}})[1]
               if m.rule == "does-not-fit")  # fmt: skip
    assert re.search(r"accelerator.type: nvidia-\S+ and accelerator.count: 8 and parallelism.tensor: 8", fix)


def test_an_estimate_is_made_once_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = estimate_for

    def counting(spec: Mapping[str, Any], *rest: Any, **more: Any) -> Estimate:
        made.append(spec["name"])
        return real(spec, *rest, **more)

    monkeypatch.setattr(estimates, "estimate_for", counting)
    values = all_of_them("nvidia-l4", 1, 0)
    list(broken_rules(values))
    assert sorted(made) == sorted(values["models"])
    assert not [mistake for mistake in broken_rules(values, NOTHING_ESTIMATED) if mistake.rule in ESTIMATED]


def test_helm_renders_what_only_estimates_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So values resolve, for whoever wants to know why it does not fit, or has storage of his own."""
    bad = Path(__file__).parents[1] / "rules" / "does-not-fit" / "bad.yaml"
    assert resolve([bad])["models"]
    assert main(["validate", "-q", str(bad)]) == 1
    assert main(["estimate", "-f", str(bad)]) == 1
    assert "does not fit" in capsys.readouterr().out
    with pytest.raises(UserError):
        resolve([bad.parents[1] / "../schema/negative/memory-of-a-shared-gpu.yaml"])


def test_a_config_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, config = tmp_path / "values.yaml", tmp_path / "config.json"
    own = {"source": "hf://acme/tales-8b", "contextLength": 65_536}
    model = {"runtime": "vllm", "model": own, "accelerator": {"type": "nvidia-l4"}}
    values.write_text(json.dumps({"models": {"tales": model}}))
    entry = next(
        e for e in yaml.safe_load(PATH.read_text(encoding="utf-8")) if e["id"].endswith("Llama-3.1-8B-Instruct")
    )
    config.write_text(json.dumps(entry["config"]))
    assert main(["validate", str(values)]) == 0
    assert main(["validate", str(values), "--config", f"tales={config}"]) == 1
    assert "needs 8.00 GiB of KV cache" in capsys.readouterr().out
    for wrong, message in ((str(config), "names no file"), (f"tails={config}", "no values define a model tails"),
                           (f"tales={values}.not", "cannot read")):  # fmt: skip
        assert main(["validate", str(values), "--config", wrong]) == 2
        assert message in capsys.readouterr().err
