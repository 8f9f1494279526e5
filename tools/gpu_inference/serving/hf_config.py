"""A Hugging Face config.json as an Architecture; its parameters are counted from the shapes of the layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from gpu_inference.errors import UserError
from gpu_inference.serving.architecture import Architecture, CacheLayers, Parameters

Config = Mapping[str, Any]

# model_type of the language model -> what differs from Llama: biases of the attention's projections, norms a layer,
# every how many layers one attends to all tokens (the others have the window), MLPs beside the experts of a layer.
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "mistral": {}, "mixtral": {}, "phi3": {}, "qwen3": {}, "qwen3_moe": {}, "minimax_m2": {},
    "qwen2": {"biases": "qkv"},
    "gpt_oss": {"biases": "qkvo"},
    "gemma2": {"norms": 4, "fullEvery": 2},
    "gemma3_text": {"norms": 4, "fullEvery": 6},
    "gemma4_text": {"norms": 4, "denseBeside": True},
    "llama4_text": {"shared": 1},
    "deepseek_v2": {}, "deepseek_v3": {}, "kimi_k2": {},
    "qwen3_vl_text": {}, "qwen3_vl_moe_text": {}, "qwen3_5_text": {}, "qwen3_5_moe_text": {},
}  # fmt: skip
_MOST = {"num_hidden_layers": 10_000, "depth": 10_000}
_FIX = "give the config.json of the model"
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_PARTS = {"attention": r"attn|attention", "mlp": r"mlp(?!.*(gate$|router))", "experts": r"(?<!shared_)experts"}


class _Reader:
    """Values of a config, with an error that names what is missing."""

    def __init__(self, config: Config, where: str) -> None:
        self.config, self.where = config, where

    def number(self, *names: str, default: int | None = None) -> int:
        """The first of these keys that is set. UserError when none is and there is no default."""
        for name in names:
            value = self.config.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                if not 0 <= value <= _MOST.get(name, 1e9):
                    raise UserError(f"{self.where}: {name} is {value}", fix=_FIX)
                return int(value)
        if default is None:
            raise UserError(f"{self.where}: {' or '.join(names)} is missing", fix=_FIX)
        return default

    def positive(self, *names: str, default: int | None = None) -> int:
        value = self.number(*names, default=default)
        if value < 1:
            raise UserError(f"{self.where}: {names[0]} must be at least 1", fix=_FIX)
        return value


def architecture(config: Config, name: str, where: str = "config.json") -> Architecture:
    """config: the content of a model's config.json; of a multimodal one, `text_config` is what counts. UserError for a
    missing key, or an architecture whose layers are not known here."""
    text = _map(config.get("text_config")) or config
    kind = str(text.get("model_type") or config.get("model_type") or "")
    kind = {"gemma3": "gemma3_text", "gemma4": "gemma4_text", "llama4": "llama4_text"}.get(kind, kind)
    if kind not in _FAMILIES:
        raise UserError(
            f"{where}: model_type {kind or '(missing)'} is not known",
            fix=f"set model.parametersBillion and leave the config out for a coarse estimate; known: "
            f"{', '.join(sorted(_FAMILIES))}",
        )
    family, read = _FAMILIES[kind], _Reader(text, where)
    layers, hidden = read.positive("num_hidden_layers"), read.positive("hidden_size")
    heads, vocab = read.positive("num_attention_heads"), read.positive("vocab_size")
    attention, cache, latent, state = _attention(read, family, layers, hidden, heads)
    mlp = _mlp(read, family, layers, hidden)
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", kind.startswith("gemma"))))
    norms = (family.get("norms", 2) * layers + 1) * hidden
    quantization = _map(config.get("quantization_config") or text.get("quantization_config"))
    return Architecture(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        vocab=vocab,
        intermediate=mlp["width"],
        expert=mlp["expert"],
        top_k=mlp["topK"],
        parameters=Parameters(
            embedding=vocab * hidden,
            head=0 if tied else vocab * hidden,
            attention=attention,
            mlp=mlp["dense"],
            experts=mlp["experts"],
            active_experts=mlp["experts"] * mlp["topK"] / mlp["count"] if mlp["count"] else 0,
            replicated=latent + norms + mlp["router"] + _vision(config, hidden),
        ),
        cache=cache,
        state_bytes=state,
        context=read.positive("max_position_embeddings", default=8192),
        dtype=_DTYPES.get(str(text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype")), "bf16"),
        quantization=_method(quantization),
        unquantized=_left_out(quantization),
    )


def _attention(
    read: _Reader, family: Config, layers: int, hidden: int, heads: int
) -> tuple[float, tuple[CacheLayers, ...], float, float]:
    """(weights, what is cached, weights that every rank keeps, bytes of state a sequence keeps)."""
    config = read.config
    if config.get("kv_lora_rank"):
        return _latent_attention(read, layers, hidden, heads)
    head_dim = read.positive("head_dim", default=max(1, hidden // heads))
    kv_heads = read.positive("num_key_value_heads", default=heads)
    kinds = Counter(_kinds(read, family, layers))
    biases = family.get("biases", "qkvo" if config.get("attention_bias") else "")
    gate = 2 if config.get("attn_output_gate") else 1
    total, cached, state = 0.0, [], 0.0
    for kind, count in kinds.items():
        if kind == "linear_attention":
            weights, kept = _linear_attention(read, hidden)
            total, state = total + count * weights, state + count * kept
            continue
        full = kind == "full_attention"
        size = read.positive("global_head_dim", default=head_dim) if full else head_dim
        own = read.positive("num_global_key_value_heads", default=kv_heads) if full else kv_heads
        query, key = heads * size * gate, own * size
        values = 0 if full and config.get("attention_k_eq_v") else key
        bias = {"q": query, "k": key, "v": values, "o": hidden}
        total += count * (hidden * (query + key + values) + heads * size * hidden + sum(bias[part] for part in biases))
        window = 0 if full else read.positive("sliding_window")
        cached.append(CacheLayers(count, own, 2 * size, window))
    if not cached:
        raise UserError(f"{read.where}: no layer has attention", fix=_FIX)
    return total, tuple(cached), 0.0, state


def _kinds(read: _Reader, family: Config, layers: int) -> list[str]:
    """Kind of attention of each layer. Chunks (Llama 4) count as full: that is how vLLM caches them."""
    config = read.config
    named = config.get("layer_types")
    if isinstance(named, list) and named:
        if len(named) != layers:
            raise UserError(
                f"{read.where}: layer_types has {len(named)} entries, num_hidden_layers is {layers}",
                fix=_FIX,
            )
        return ["full_attention" if kind == "chunked_attention" else str(kind) for kind in named]
    every = read.number("sliding_window_pattern", default=family.get("fullEvery", 0))
    if every:
        return ["sliding_attention" if (index + 1) % every else "full_attention" for index in range(layers)]
    windowed = bool(config.get("sliding_window")) and config.get("use_sliding_window") is not False
    return ["sliding_attention" if windowed else "full_attention"] * layers


def _latent_attention(
    read: _Reader, layers: int, hidden: int, heads: int
) -> tuple[float, tuple[CacheLayers, ...], float, float]:
    """Multi-head latent attention (DeepSeek): a token caches one compressed vector and its rotary part."""
    rank, rope = read.positive("kv_lora_rank"), read.positive("qk_rope_head_dim")
    nope, values = read.positive("qk_nope_head_dim"), read.positive("v_head_dim")
    queries = read.number("q_lora_rank", default=0)
    split = (queries or hidden) * heads * (nope + rope) + rank * heads * (nope + values) + heads * values * hidden
    whole = hidden * queries + hidden * (rank + rope)
    return layers * split, (CacheLayers(layers, 1, rank + rope),), layers * whole, 0.0


def _linear_attention(read: _Reader, hidden: int) -> tuple[float, float]:
    """(weights, bytes of state a sequence keeps) of a gated delta net layer (Qwen3.5)."""
    key_heads, value_heads = read.positive("linear_num_key_heads"), read.positive("linear_num_value_heads")
    key, value = read.positive("linear_key_head_dim"), read.positive("linear_value_head_dim")
    kernel = read.positive("linear_conv_kernel_dim")
    keys, values = key_heads * key, value_heads * value
    convolved = 2 * keys + values
    weights = hidden * (convolved + values + 2 * value_heads) + values * hidden + convolved * kernel
    state = 4 if read.config.get("mamba_ssm_dtype") == "float32" else 2
    return weights, value_heads * key * value * state + convolved * (kernel - 1) * 2


def _mlp(read: _Reader, family: Config, layers: int, hidden: int) -> dict[str, Any]:
    """Weights of the MLPs: `dense` (with shared experts), `experts`, `router`; `count` experts a layer, a token uses
    `topK` of width `expert`; `width` of the widest dense one."""
    config = read.config
    count = read.number("num_experts", "num_local_experts", "n_routed_experts", default=0)
    if not count:
        width = read.positive("intermediate_size")
        dense = 3.0 * layers * hidden * width
        return {"dense": dense, "experts": 0, "router": 0, "count": 0, "topK": 0, "expert": 0, "width": width}
    expert = read.positive("moe_intermediate_size", "intermediate_size")
    top_k = read.positive("num_experts_per_tok", "top_k_experts")
    if top_k > count:
        raise UserError(f"{read.where}: {top_k} experts a token, of {count}", fix=_FIX)
    shared = read.number("shared_expert_intermediate_size", default=0)
    shared = shared or expert * read.number("n_shared_experts", default=family.get("shared", 0))
    plain = read.number("first_k_dense_replace", default=0)
    step = read.positive("interleave_moe_layer_step", "decoder_sparse_step", default=1)
    only = config.get("mlp_only_layers")
    plain += (layers - plain) - (layers - plain) // step + (len(only) if isinstance(only, list) else 0)
    if plain > layers:
        raise UserError(f"{read.where}: {plain} dense layers, of {layers}", fix=_FIX)
    sparse = layers - plain
    inner = read.number("intermediate_size_mlp", "intermediate_size", default=0)
    dense_layers = layers if family.get("denseBeside") else plain
    biases = sparse * count * (2 * expert + hidden) if "o" in family.get("biases", "") else 0
    return {
        "dense": 3.0 * hidden * (dense_layers * inner + sparse * shared),
        "experts": 3.0 * sparse * count * hidden * expert + biases,
        "router": sparse * hidden * count,
        "count": count,
        "topK": top_k,
        "expert": expert,
        "width": max(inner if dense_layers else 0, shared),
    }


def _vision(config: Config, hidden: int) -> float:
    """Weights of the vision tower and its projection, roughly: 4 h^2 and two matrices of the MLP a layer, Gemma 4's
    with a third."""
    tower = _map(config.get("vision_config"))
    if not tower:
        return 0.0
    read = _Reader(tower, "vision_config")
    layers, width = read.number("num_hidden_layers", "depth", default=0), read.number("hidden_size", default=0)
    inner = read.number("intermediate_size", default=4 * width)
    matrices = 3 if tower.get("model_type") == "gemma4_vision" else 2
    return layers * (4.0 * width * width + matrices * width * inner) + width * hidden


def _method(quantization: Config) -> str:
    """Name of the quantization, for those that name only the tool: what its groups of layers are in."""
    method = str(quantization.get("quant_method") or quantization.get("quant_algo") or "").lower()
    if method not in ("compressed-tensors", "modelopt"):
        return method
    named = str(quantization.get("quant_algo") or quantization.get("format") or "").lower()
    for known in ("nvfp4", "mxfp4", "fp8", "int8"):
        if known in named:
            return known
    groups = _map(quantization.get("config_groups"))
    weights = _map(_map(next(iter(groups.values()), None)).get("weights"))
    sort = f"{weights.get('num_bits')} {weights.get('type', 'int')}"
    return {"4 float": "nvfp4", "8 float": "fp8", "8 int": "int8", "4 int": "int4"}.get(sort, method)


def _left_out(quantization: Config) -> frozenset[str]:
    """Parts that stay in 16 bits in all layers, by the names of the modules that are excluded."""
    names = quantization.get("modules_to_not_convert") or quantization.get("ignore")
    listed = [str(name) for name in names] if isinstance(names, list) else []
    everywhere = [name for name in listed if "*" in name or "re:" in name]
    return frozenset(part for part, pattern in _PARTS.items() if any(re.search(pattern, name) for name in everywhere))


def _map(value: Any) -> Config:
    return value if isinstance(value, Mapping) else {}
