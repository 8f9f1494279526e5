"""What a server's GPU memory goes to, and how many tokens and sequences the KV cache holds.

    budget     = (visible memory - DRIVER) * fraction
    KV         = budget - weights - activations - graphs - runtime          per GPU
    activations = max(2 * batched * 3 (width / TP + hidden), LOGIT * sequences * vocabulary)
                  + 2 * batched * top_k (hidden + 2 expert width / TP)      experts' inputs and outputs
    capacity   = KV / bytes of a sequence at the context * context          as vLLM logs "GPU KV cache size"

Engines differ in what the fraction is of (`Basis`): of all memory (vLLM), of all memory but for weights and cache only
(SGLang), of what weights and buffers leave (TensorRT-LLM, LMDeploy). The rest is vLLM's.

Derived, not fitted: weights and cache (from the shapes of the layers), the first term of activations (the widest moment
of a gated MLP: its two inputs and its output; residual, normalised and new hidden states), block rounding (vLLM
v1/kv_cache_interface.py). The experts' term was given its form with Qwen3-30B-A3B in view, and is left out for mxfp4,
as gpt-oss showed none. Fitted to vLLM 0.19.0's own report of 49 runs on an H100
(github.com/llm-d-incubation/llm-d-planner, docs/accuracy/vllm-v0.19.0-accuracy-report.md, commit 2d557dc): LOGIT to the
activations of Llama-3.1-8B and Qwen3-8B, RUNTIME and RUNTIME_TENSOR to "non-torch", GRAPHS to the mean of its CUDA
graphs (half of it with the fewer graphs of 256 sequences: an assumption). DRIVER: torch sees 14.56, 22.07 and 79.19 GiB
of the 15.00, 22.49 and 79.65 GiB that nvidia-smi shows of a T4, an L4 and an H100. Newer versions take the graphs from
the budget (`Layout.graphs`); 0.19 had them outside. Version 0.11 needed 38 bytes a logit.

Not modelled: LoRA, speculative decoding, encoder caches of multimodal models, --max-num-batched-tokens and other flags
of extraArgs, prefix caching (which shares blocks), padding of hybrid models' groups of layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gpu_inference.serving.engine import Limits
from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.model import ModelShape

GIB = 2**30
DRIVER = 0.5 * GIB
LOGIT = 15.4  # bytes: 16 and 32 bits of it, and sorting them with their 64-bit positions for top-k and top-p
RUNTIME = 0.25 * GIB
RUNTIME_TENSOR = 2.1 * GIB  # with NCCL's and all-reduce's buffers
GRAPHS = {256: 0.5 * GIB, 1024: 1.0 * GIB}

Basis = Literal["total", "static", "free"]


@dataclass(frozen=True)
class Layout:
    """How a model is spread and what the server may take: `fraction` of the memory that `basis` says."""

    tensor: int = 1
    pipeline: int = 1
    fraction: float = 0.92
    basis: Basis = "total"
    max_sequences: int = 0  # 0: the engine's default for the GPU
    pods: int = 1  # that a replica is spread over, each with a part of the pipeline
    graphs: bool = True  # CUDA graphs are taken from the budget

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest GPU, and what fits there. `kv_bytes_per_gpu` is negative when the weights alone are too
    much."""

    gpus: int
    budget_bytes_per_gpu: float
    weights_bytes_per_gpu: float
    activation_bytes_per_gpu: float
    graph_bytes_per_gpu: float
    runtime_bytes_per_gpu: float
    kv_bytes_per_gpu: float
    kv_bytes_per_token_per_gpu: float
    kv_bytes_per_sequence_per_gpu: float
    context_tokens: int
    longest_context_tokens: int
    kv_capacity_tokens: int
    concurrent_sequences: float
    max_sequences: int

    @property
    def fits(self) -> bool:
        """Whether the server starts: one sequence of the context fits the cache."""
        return self.kv_bytes_per_gpu >= self.kv_bytes_per_sequence_per_gpu

    @property
    def sequences_at_context(self) -> int:
        """Whole sequences of the context that run at once."""
        return min(self.max_sequences, int(self.concurrent_sequences))


def memory(shape: ModelShape, gpu: Gpu, layout: Layout, context: int) -> Memory:
    """context: tokens of the longest sequence, at least 1."""
    model, tensor, pipeline = shape.architecture, layout.tensor, layout.pipeline
    limits = Limits.defaults(gpu, 0, layout.max_sequences)
    visible = gpu.memory_bytes - DRIVER
    weights = model.weight_bytes(shape.weights, tensor, pipeline)
    activations = _activations(shape, tensor, limits)
    graphs = GRAPHS[256 if limits.max_sequences <= 256 else 1024] if layout.graphs else 0.0
    runtime = RUNTIME_TENSOR if tensor > 1 else RUNTIME
    buffers = activations + graphs + runtime
    budget = visible if layout.basis == "free" else visible * layout.fraction
    free = budget - weights - (0.0 if layout.basis == "static" else buffers)
    if layout.basis == "free" and free > 0:
        free *= layout.fraction
    stage = -(-model.layers // pipeline) / model.layers

    def sequence(tokens: int) -> float:
        return stage * model.kv_bytes_per_sequence(tokens, limits.max_batched_tokens, shape.kv_bytes, tensor)

    concurrent = max(0.0, free / sequence(context))
    return Memory(
        gpus=layout.gpus,
        budget_bytes_per_gpu=budget,
        weights_bytes_per_gpu=weights,
        activation_bytes_per_gpu=activations,
        graph_bytes_per_gpu=graphs,
        runtime_bytes_per_gpu=runtime,
        kv_bytes_per_gpu=free,
        kv_bytes_per_token_per_gpu=stage * model.kv_bytes_per_token(shape.kv_bytes, tensor),
        kv_bytes_per_sequence_per_gpu=sequence(context),
        context_tokens=context,
        longest_context_tokens=_longest(sequence, free, max(context, model.context)),
        kv_capacity_tokens=int(concurrent * context),
        concurrent_sequences=concurrent,
        max_sequences=limits.max_sequences,
    )


def _activations(shape: ModelShape, tensor: int, limits: Limits) -> float:
    """Bytes of a step's largest intermediate results, which the engine measures with a full batch before it sizes the
    cache."""
    model, batched = shape.architecture, limits.max_batched_tokens
    layer = 2 * batched * 3 * (model.intermediate / tensor + model.hidden)
    logits = LOGIT * limits.max_sequences * model.vocab
    experts = 2 * batched * model.top_k * (model.hidden + 2 * model.expert / tensor)
    if shape.weights == "mxfp4":
        experts = 0  # its kernels keep none: gpt-oss took what the logits take
    return max(layer, logits) + experts


def _longest(sequence: Callable[[int], float], free: float, most: int) -> int:
    """Tokens of the longest sequence, of at most `most`, that fits `free` bytes."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if sequence(middle) <= free else (low, middle - 1)
    return low
