"""`gpu-inference estimate`: what it prints, its exit codes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_inference.cli import main
from gpu_inference.paths import VALUES
from gpu_inference.serving.catalogue import catalogue

PROD = str(VALUES / "prod.yaml")
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192,
}  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    try:
        code = main(["estimate", *words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_models_of_values_files(capsys) -> None:
    code, text, _ = run(capsys, "-f", PROD)
    assert code == 0
    assert "llama: vllm, 1 x nvidia-l4: fits, 11 sequences of 8192 tokens at once" in text
    assert "rerank: not estimated: runtime triton serves no single language model" in text
    code, text, _ = run(capsys, "-f", PROD, "llama")
    assert (code, "rerank" in text) == (0, False)


def test_later_layers_win(capsys, tmp_path) -> None:
    layer = tmp_path / "long.yaml"
    layer.write_text("models: {llama: {model: {contextLength: 131072}}}\n")
    code, text, _ = run(capsys, "-f", PROD, "-f", str(layer), "llama")
    assert code == 1
    assert "does not fit" in text
    assert "error: model.contextLength: one request of 131072 tokens needs 16.00 GiB of KV cache" in text
    assert "try model.kvCacheDtype: fp8" in text


def test_a_model_without_values(capsys) -> None:
    code, text, _ = run(
        capsys, "--model", "Qwen/Qwen3-8B", "--accelerator", "nvidia-l40s", "--tensor", "2", "-o", "json"
    )
    assert code == 0
    found = json.loads(text)["models"][0]
    assert (found["name"], found["accelerator"], found["layout"]["tensor"]) == ("qwen3-8b", "nvidia-l40s", 2)
    assert found["memory"]["fits"] is found["fits"] is True
    assert found["memory"]["context_tokens"] == 40_960
    sizes = [key for key in found["memory"] if "bytes" in key]
    assert len(sizes) == 8
    assert all(key.endswith("_per_gpu") for key in sizes)
    assert found["startup"]["advised_load_seconds"] >= found["startup"]["container_seconds"]


def test_options_reach_the_estimate(capsys) -> None:
    model = ["--model", "acme/tales-70b", "--parameters", "70", "--weights", "fp8", "--kv-cache", "fp8"]
    server = ["--accelerator", "nvidia-h200", "--context", "4096", "--memory-fraction", "0.8", "--runtime", "sglang"]
    options = [*model, *server, "--storage-rate", "2", "-o", "json"]
    found = json.loads(run(capsys, *options)[1])["models"][0]
    assert found["layout"] == {
        "tensor": 1, "pipeline": 1, "fraction": 0.8, "basis": "static", "max_sequences": 0, "pods": 1, "graphs": True,
    }  # fmt: skip
    assert (found["model"]["weights"], found["model"]["exact"], found["runtime"]) == ("fp8", False, "sglang")
    assert found["model"]["parameters"] == pytest.approx(70e9)
    assert found["startup"]["read_seconds"] == pytest.approx(found["startup"]["file_bytes"] / 2e9)


def test_a_config_of_ones_own(capsys, tmp_path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(LLAMA))
    words = ["--model", "acme/mine", "--accelerator", "nvidia-l4", "--config", str(config), "-o", "json"]
    code, text, _ = run(capsys, *words)
    found = json.loads(text)["models"][0]
    assert (code, found["model"]["exact"], found["memory"]["context_tokens"]) == (0, True, 8192)
    assert found["model"]["parameters"] == 8_030_261_248
    code, text, _ = run(capsys, "-f", PROD, "llama", "--config", str(config), "-o", "json")
    assert json.loads(text)["models"][0]["model"]["parameters"] == 8_030_261_248


def test_the_catalogue_is_listed(capsys) -> None:
    code, text, _ = run(capsys, "--list")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == list(catalogue())
    assert {row["id"] for row in json.loads(run(capsys, "--list", "-o", "json")[1])} == set(catalogue())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to estimate"),
        (["--model", "Qwen/Qwen3-8B"], "--model and --accelerator go together"),
        (["-f", PROD, "--context", "10"], "--context and values files exclude each other"),
        (["-f", PROD, "nobody"], "no model 'nobody'"),
        (["-f", PROD, "--config", "x.json"], "--config is of one model"),
        (["-f", PROD, "rerank"], "runtime triton serves no single language model"),
        (["-f", PROD, "llama", "--config", "missing.json"], "cannot read missing.json"),
        (["-f", "missing.yaml"], "missing.yaml"),
        (["--model", "acme/x", "--accelerator", "nvidia-l4"], "has no parametersBillion"),
        (["--model", "Qwen/Qwen3-8B", "--accelerator", "abacus"], "unknown accelerator 'abacus'"),
        (["--model", "x", "--accelerator", "nvidia-l4", "--tensor", "0"], "invalid count value: '0'"),
        (["--model", "x", "--accelerator", "nvidia-l4", "--memory-fraction", "nan"], "invalid fraction of 1 value"),
        (["-f", PROD, "--storage-rate", "-1"], "invalid positive number value: '-1'"),
    ],
)  # fmt: skip
def test_wrong_usage(capsys, words: list[str], message: str) -> None:
    code, text, error = run(capsys, *words)
    assert code in (1, 2)
    assert text == ""
    assert message in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not an object"),
        (b"{}", r"model_type (missing) is not known"),
        (b'{"model_type": "llama"}', "num_hidden_layers is missing"),
    ],
)
def test_a_config_that_is_none(capsys, tmp_path: Path, content: bytes, message: str) -> None:
    config = tmp_path / "config.json"
    config.write_bytes(content)
    code, _, error = run(capsys, "--model", "a/b", "--accelerator", "nvidia-l4", "--config", str(config))
    assert code == 2
    assert message in error
    assert "fix: " in error
