"""Architectures read from config.json: parameter counts, weights and caches against what is published of the models."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_inference.errors import UserError
from gpu_inference.serving.architecture import WEIGHT_BYTES, CacheLayers
from gpu_inference.serving.catalogue import PATH, catalogue, find
from gpu_inference.serving.hf_config import architecture
from gpu_inference.serving.model import ModelShape, formats, shape_from_values, shape_of

GIB = 2**30
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
MOE = {
    **LLAMA,
    "model_type": "deepseek_v3",
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1408,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}


def served(name: str, **model: Any) -> ModelShape:
    return shape_from_values({"source": f"hf://{name}", **model})


@pytest.mark.parametrize("entry", catalogue().values(), ids=lambda entry: entry.id)
def test_parameters_are_those_the_model_card_says(entry) -> None:
    """Cards round, and some leave out the vision tower; of active ones, some leave out the tables of the vocabulary."""
    parts = entry.architecture.parameters
    assert parts.total / 1e9 == pytest.approx(entry.published["totalBillion"], rel=0.03)
    if "activeBillion" in entry.published:
        low, high = (parts.active - parts.embedding - parts.head) / 1e9, parts.active / 1e9
        assert low * 0.95 <= entry.published["activeBillion"] <= high * 1.05
    else:
        assert parts.active == parts.total or entry.architecture.expert


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # Totals of the safetensors files' headers.
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("llama-3.1-405b", 405_853_388_800),
        ("mixtral-8x7b", 46_702_792_704),
        ("qwen2.5-7b", 7_615_616_512),
        ("qwen3-8b", 8_190_735_360),
        ("gpt-oss-20b", 20_914_757_184),
        ("gpt-oss-120b", 116_829_156_672),
    ],
)
def test_parameters_to_the_last_matrix(name: str, count: int) -> None:
    """What is left are a few thousand: norms of queries and keys, sinks."""
    assert shape_of(name).parameters == pytest.approx(count, rel=2e-6)


@pytest.mark.parametrize(
    ("name", "weights", "tensor", "pipeline", "gib"),
    [
        # vLLM's "Model loading took": llm-d-planner docs/accuracy/vllm-v0.19.0-accuracy-report.md @2d557dc …
        ("llama-3.1-8b", "bf16", 1, 1, 14.99),
        ("llama-3.1-8b", "bf16", 2, 1, 7.51),
        ("llama-3.1-8b", "bf16", 4, 1, 3.77),
        ("llama-3.1-8b", "bf16", 1, 2, 7.51),
        ("llama-3.1-8b", "bf16", 1, 4, 4.26),
        ("llama-3.1-8b", "fp32", 1, 1, 29.98),
        ("llama-3.1-8b", "fp8", 1, 1, 8.49),
        ("qwen2.5-7b", "bf16", 4, 1, 3.55),
        ("qwen3-8b", "bf16", 1, 3, 5.48),
        # … llm-d-benchmark config_explorer/empirical-vllm-memory-results.md @2593348 …
        ("qwen3-0.6b", "bf16", 1, 1, 1.12),
        ("qwen3-32b", "bf16", 1, 1, 61.03),
        ("llama-3.3-70b", "fp8", 1, 1, 67.72),
        ("llama-3.3-70b", "fp8", 2, 1, 33.88),
        # … vllm issues 23278 and 17327, https://myoceane.fr/index.php/ai-vllm-a100-gemma-4/ (2026-04-18).
        ("gpt-oss-120b", "mxfp4", 1, 1, 65.97),
        ("gpt-oss-20b", "mxfp4", 1, 1, 13.72),
        ("qwen3-30b-a3b", "bf16", 4, 1, 14.25),
        ("gemma-4-26b-a4b", "bf16", 1, 1, 48.5),
    ],
)
def test_weights_are_what_vllm_loads(name: str, weights: str, tensor: int, pipeline: int, gib: float) -> None:
    """Within 1.5 %: buffers beside the weights are not counted."""
    assert shape_of(name).architecture.weight_bytes(weights, tensor, pipeline) / GIB == pytest.approx(gib, rel=0.015)


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        ("llama-3.1-8b", 131_072),
        ("llama-3.1-70b", 327_680),
        ("qwen2.5-7b", 57_344),
        ("qwen3-32b", 262_144),
        ("deepseek-v3", 61 * (512 + 64) * 2),
        ("gpt-oss-20b", 12 * 2 * 8 * 64 * 2),  # its full layers only
    ],
)
def test_cache_of_a_token(name: str, bytes_per_token: int) -> None:
    assert shape_of(name).kv_bytes_per_token == bytes_per_token
    assert served(name, kvCacheDtype="fp8_e4m3").kv_bytes_per_token == bytes_per_token / 2


@pytest.mark.parametrize(
    ("name", "tokens", "tensor", "gib", "tolerance"),
    [
        # vLLM's own words, "… GiB KV cache is needed" or "Available KV cache memory" and "GPU KV cache size":
        ("qwen3-coder-30b-a3b", 262_144, 1, 24.0, 0.001),  # vllm issue 34076
        ("llama-3.1-8b", 1952 * 16, 1, 3.81, 0.002),  # vllm issue 10517: 1952 blocks
        ("llama-3.1-8b", 1478 * 16, 1, 2.89, 0.002),
        ("qwen3-235b-a22b", 178_880, 4, 8.11, 0.012),  # vllm issue 21348
        ("qwen3-32b", 16_384, 1, 4.0, 0.001),
    ],
)
def test_cache_of_a_sequence_is_what_vllm_reckons(
    name: str, tokens: int, tensor: int, gib: float, tolerance: float
) -> None:
    found = shape_of(name).architecture.kv_bytes_per_sequence(tokens, 8192, 2, tensor)
    assert found / GIB == pytest.approx(gib, rel=tolerance)


def test_layers_with_a_window_keep_it_and_a_step() -> None:
    """gpt-oss-20b: 12 layers attend to all, 12 to the last 128 tokens; 8 heads of 64, keys and values."""
    model = shape_of("gpt-oss-20b").architecture
    token = 12 * 8 * 64 * 2 * 2
    windowed = 137 * 16  # 127 of the window and 2048 of the step are 2175 tokens: 136 blocks, and one for the odd start
    assert model.kv_bytes_per_sequence(131_072, 2048, 2) == token * (131_072 + windowed)
    assert model.kv_bytes_per_sequence(100, 2048, 2) == token * (7 * 16 + 8 * 16)


def test_a_hybrid_model_caches_a_tenth_of_what_full_attention_would() -> None:
    """Gemma 4 31B on an A100: some 50 GB hold some 525k tokens since vLLM 0.21 and held 55k before, when every layer
    counted as full (vllm issue 43308; both rounded there)."""
    model = shape_of("gemma-4-31b").architecture
    full = sum(2 * layers.numbers_per_token() for layers in model.cache)
    assert 50e9 / full == pytest.approx(55_000, rel=0.06)
    assert 50e9 / model.kv_bytes_per_sequence(262_144, 2048, 2) * 262_144 == pytest.approx(525_000, rel=0.06)


def test_linear_attention_keeps_a_state_and_no_tokens() -> None:
    """Qwen3.5-27B: 48 layers of 48 x 128 x 128 numbers in 32 bits, and the last 3 of 10240 in 16; 16 layers cache."""
    model = shape_of("qwen3.5-27b").architecture
    assert model.state_bytes == 48 * (48 * 128 * 128 * 4 + 10240 * 3 * 2)
    assert model.kv_bytes_per_token(2) == 16 * 4 * 256 * 2 * 2


def test_tensor_parallel_ranks_share_heads_until_there_are_none_left() -> None:
    layers = CacheLayers(count=2, heads=4, numbers=256)
    assert [layers.numbers_per_token(tensor) for tensor in (1, 2, 4, 8)] == [2048, 1024, 512, 512]
    latent = shape_of("deepseek-v3").architecture
    assert latent.kv_bytes_per_token(2, 8) == latent.kv_bytes_per_token(2)


def test_formats_in_order_of_preference() -> None:
    assert served("openai/gpt-oss-20b").weights == "mxfp4"  # its config's own
    assert served("deepseek-ai/DeepSeek-V3").weights == "fp8"
    assert served("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8").weights == "fp8"  # its name
    assert served("Qwen/Qwen2.5-72B-Instruct-AWQ", quantization="awq_marlin").weights == "int4"
    assert served("RedHatAI/Llama-3.3-70B-Instruct-quantized.w4a16").weights == "int4"
    assert served("meta-llama/Llama-3.1-8B", weightsDtype="fp8", quantization="awq").weights == "fp8"
    assert formats({"dtype": "float16"}) == ("fp16", "fp16")
    assert served("a/fp8ish-model", parametersBillion=7).weights == "bf16"
    assert all(0.5 <= size <= 4 for size in WEIGHT_BYTES.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf://RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", "meta-llama/Llama-3.1-8B-Instruct"),
        ("hf://deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("hf://deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "Qwen/Qwen3-8B"),
        ("hf://deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-V3"),
        ("pvc://weights/llama-3.1-405b-instruct", "meta-llama/Llama-3.1-405B-Instruct"),
        ("hf://Qwen/Qwen3-Coder-30B-A3B-Instruct", "Qwen/Qwen3-30B-A3B"),
        ("hf://Qwen/Qwen2.5-72B-Instruct", "Qwen/Qwen2.5-72B-Instruct"),
        ("hf://deepseek-ai/DeepSeek-V3.2", None),
        ("hf://deepseek-ai/DeepSeek-R1-Distill-Something-3B", None),
        ("hf://acme/notqwen3-8b", None),
        ("", None),
    ],
)
def test_a_name_means_a_model(name: str, expected: str | None) -> None:
    found = find(name)
    assert (found.id if found else None) == expected


def test_names_of_the_catalogue_are_unique_and_find_themselves() -> None:
    names = [name for entry in catalogue().values() for name in entry.names]
    assert len(names) == len(set(names))
    for entry in catalogue().values():
        for name in (entry.id, *entry.names):
            found = find(name)
            assert found is not None
            assert found.id == entry.id, name


def test_a_size_that_is_far_off_means_another_model() -> None:
    assert shape_of("llama-3.1-8b", 8).exact
    other = shape_of("llama-3.1-8b-upscaled", 16)
    assert (other.exact, other.parameters) == (False, 16e9)


def test_config_of_a_file() -> None:
    found = architecture(LLAMA, "mine")
    assert found.parameters.total == 8_030_261_248
    assert (found.kv_heads, found.context, found.quantization) == (8, 131_072, "")
    assert architecture({**LLAMA, "tie_word_embeddings": True}, "tied").parameters.head == 0
    nested = architecture({"model_type": "x", "text_config": LLAMA, "vision_config": {}}, "nested")
    assert nested.parameters == found.parameters


@pytest.mark.parametrize(
    ("quantization", "method", "weights", "left_out"),
    [
        ({"quant_method": "fp8"}, "fp8", "fp8", set()),
        ({"quant_method": "awq", "bits": 4}, "awq", "int4", set()),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, "nvfp4", "fp4", set()),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
                "ignore": ["re:.*self_attn.*", "re:.*shared_experts.*"],
            },
            "int4",
            "int4",
            {"attention"},
        ),
        ({"quant_method": "bitsandbytes"}, "bitsandbytes", "bf16", set()),
    ],
)
def test_quantization_of_a_config(quantization: dict, method: str, weights: str, left_out: set[str]) -> None:
    found = architecture({**LLAMA, "quantization_config": quantization}, "x")
    assert (found.quantization, found.unquantized) == (method, left_out)
    assert shape_from_values({}, found).weights == weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_hidden_layers": "32"}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": 0}, "must be at least 1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"vocab_size": float("nan")}, "vocab_size is nan"),
        ({"model_type": "mamba"}, "model_type mamba is not known"),
        ({"model_type": None}, r"model_type \(missing\) is not known"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries"),
        ({"layer_types": ["sliding_attention"] * 32}, "sliding_window is missing"),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "9 experts a token, of 8"),
        ({"num_experts": 8}, "num_experts_per_tok or top_k_experts is missing"),
        ({"num_experts": 8, "num_experts_per_tok": 2, "first_k_dense_replace": 40}, "40 dense layers, of 32"),
    ],
)
def test_what_is_wrong_in_a_config_is_named(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        architecture({**LLAMA, **change}, "x", "there/config.json")
    assert caught.value.message.startswith("there/config.json: ")
    assert caught.value.fix


KEYS = sorted(set(re.findall(r"(\w+):", PATH.read_text())))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**12), st.floats(), st.text(max_size=5),
    st.lists(st.one_of(st.text(max_size=3), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    base=st.sampled_from([LLAMA, MOE]),
    changes=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
)
def test_any_config_is_read_or_refused(base: dict[str, Any], changes: dict[str, Any]) -> None:
    try:
        found = architecture(base | changes, "x")
    except UserError:
        return
    assert found.parameters.total > 0
    assert found.kv_bytes_per_sequence(1000, 2048, 2) >= 0
