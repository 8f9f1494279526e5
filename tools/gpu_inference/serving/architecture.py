"""What a language model is made of: the figures that decide the bytes of its weights and of its KV cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

BLOCK = 16  # tokens a cache block

# Bytes of one weight, with its share of the scales: int4 has one of 16 bits and a zero point for 128 weights, mxfp4 one
# of 8 bits for 32, fp4 (nvfp4) one of 8 bits for 16.
WEIGHT_BYTES = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int4": 0.5 + 2.5 / 128,
    "mxfp4": 0.5 + 1 / 32,
    "fp4": 0.5 + 1 / 16,
}
PLAIN = {"fp32", "bf16", "fp16"}  # formats that all parts of a model are in; the others leave out tables and norms


@dataclass(frozen=True)
class CacheLayers:
    """`count` layers that cache alike: `numbers` a token for each of `heads` KV heads (keys and values), of the last
    `window` tokens only, or of all (0). A latent cache (MLA) is one head that every rank keeps whole."""

    count: int
    heads: int
    numbers: int
    window: int = 0

    def numbers_per_token(self, tensor: int = 1) -> int:
        """Cached numbers of a token on one of `tensor` ranks; a rank holds at least one head."""
        return self.count * self.numbers * max(1, self.heads // tensor)


@dataclass(frozen=True)
class Parameters:
    """Numbers of weights by part: the table of inputs, the matrix of outputs (0: it is that table), attention, MLPs and
    shared experts, routed experts, and what every tensor-parallel rank keeps whole (norms, routers, latent
    projections, vision tower). `active_experts`: of the routed experts, those of one token."""

    embedding: float
    head: float
    attention: float
    mlp: float
    experts: float = 0.0
    replicated: float = 0.0
    active_experts: float = 0.0

    @property
    def total(self) -> float:
        return self.embedding + self.head + self.attention + self.mlp + self.experts + self.replicated

    @property
    def active(self) -> float:
        """Of one token."""
        return self.total - self.experts + self.active_experts

    def scaled(self, factor: float) -> Parameters:
        return Parameters(*(factor * part for part in vars(self).values()))


@dataclass(frozen=True)
class Architecture:
    """A model without its number formats, except those of its own files: `quantization` is the method its
    config.json names ("" without), `unquantized` the parts that method leaves out, `dtype` theirs. `intermediate`:
    width of the widest dense MLP; `expert`: of a routed one, of which a token uses `top_k`. `state_bytes`: what a
    sequence keeps whatever its length (linear attention). `context`: tokens the model is made for."""

    name: str
    layers: int
    hidden: int
    heads: int
    vocab: int
    intermediate: int
    parameters: Parameters
    cache: tuple[CacheLayers, ...]
    context: int
    expert: int = 0
    top_k: int = 0
    state_bytes: float = 0.0
    dtype: str = "bf16"
    quantization: str = ""
    unquantized: frozenset[str] = frozenset()

    @property
    def kv_heads(self) -> int:
        """Of the layers with the fewest: more tensor-parallel ranks than that keep copies."""
        return min(layers.heads for layers in self.cache)

    def sized(self, name: str, parameters: float) -> Architecture:
        """The same shape with another number of parameters."""
        return replace(self, name=name, parameters=self.parameters.scaled(parameters / self.parameters.total))

    def weight_bytes(self, weights: str, tensor: int = 1, pipeline: int = 1, active: bool = False) -> float:
        """Bytes of the weights in format `weights` on the fullest GPU of `tensor` x `pipeline`; `active`: of those that
        one token uses.

        A quantized model keeps its tables, norms and routers in 16 bits, as engines load it. Experts in mxfp4 are
        padded to what the kernels take: hidden size to 256, width to 128 (vLLM, quantization/mxfp4.py, Marlin).
        """
        parts = self.parameters
        base = WEIGHT_BYTES[weights if weights in PLAIN else "bf16"]

        def bytes_of(part: str, count: float) -> float:
            return count * (base if part in self.unquantized else WEIGHT_BYTES[weights])

        experts = bytes_of("experts", parts.active_experts if active else parts.experts)
        if weights == "mxfp4" and self.expert and not active:
            padded = _up(self.hidden, 256) * _up(-(-self.expert // tensor), 128) * tensor
            experts *= padded / (self.hidden * self.expert)
        split = bytes_of("attention", parts.attention) + bytes_of("mlp", parts.mlp) + experts
        stage = -(-self.layers // pipeline) / self.layers
        tables = parts.embedding + parts.head if pipeline == 1 else max(parts.embedding, parts.head)
        return (split / tensor + base * parts.replicated) * stage + base * tables / tensor

    def kv_bytes_per_token(self, kv_bytes: float, tensor: int = 1) -> float:
        """Bytes one more token of a long sequence costs on each of `tensor` ranks, over all layers: those with a
        window have forgotten as much."""
        full = [layers for layers in self.cache if not layers.window]
        return kv_bytes * sum(layers.numbers_per_token(tensor) for layers in full or self.cache)

    def kv_bytes_per_sequence(self, tokens: int, batched: int, kv_bytes: float, tensor: int = 1) -> float:
        """Bytes a sequence of `tokens` needs on each of `tensor` ranks, over all layers, in whole blocks.

        As vLLM reckons (v1/kv_cache_interface.py): a layer with a window keeps the window and the `batched` tokens of
        a step, and a block for the window's odd start.
        """
        total = self.state_bytes / tensor
        for layers in self.cache:
            kept, more = (min(layers.window - 1 + batched, tokens), 1) if layers.window else (tokens, 0)
            total += kv_bytes * layers.numbers_per_token(tensor) * BLOCK * (-(-kept // BLOCK) + more)
        return total


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
