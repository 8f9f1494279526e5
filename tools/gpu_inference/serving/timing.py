"""How long one engine step takes: a roofline of memory traffic and arithmetic.

    step   = T0 + ranks + SEQUENCE * sequences + max(memory, arithmetic)
    memory = (weights read + cached tokens read * KV bytes per token) / (TP * bandwidth * 0.8)
    arithmetic = 2 * active * decodes / (TP * FLOPS * 0.6) + (2 * active * prefill + attention) / (TP * FLOPS * 0.5)
    attention  = 4 * hidden * layers * (token pairs)           half of n^2 pairs for a causal prompt of n tokens
    ranks  = 2 * layers * ALL_REDUCE when TP > 1               two all-reduces a layer

Bandwidth efficiency 0.8 is aiconfigurator's (systems/*.yaml). T0, SEQUENCE and ALL_REDUCE are fitted to two published
measurements: llm-d workload-variant-autoscaler, docs/tutorials/parameter-estimation.md (Llama-3.1-8B, inter-token
latency 7.0 ms at batch 1 and 8.7 ms at 64, taken to be an H100), and aiconfigurator
tools/accuracy_tracking/silicon_refs.csv (Qwen3-32B, two H100, 1024/1024 tokens at 32 concurrent: 20.06 ms a token).
Not modelled: prefix caching, speculative decoding, CUDA graph sizes, overlap of pipeline stages (stages add memory,
not speed), experts of a mixture shared between the tokens of a batch.
"""

from __future__ import annotations

from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.model import ModelShape

BANDWIDTH_EFFICIENCY = 0.8
DECODE_EFFICIENCY = 0.6
PREFILL_EFFICIENCY = 0.5
T0 = 1.0e-3  # s a step: launch, scheduling, sampling
SEQUENCE = 17e-6  # s a sequence and step: sampling, detokenizing, scheduling
ALL_REDUCE = 10e-6  # s, of a batch's activations over the GPUs of a node


class StepTimes:
    """Step times of one model on `tensor` x `pipeline` GPUs."""

    def __init__(self, gpu: Gpu, model: ModelShape, tensor: int = 1, pipeline: int = 1) -> None:
        self.gpu, self.model, self.tensor, self.pipeline = gpu, model, tensor, pipeline
        # Constants of every step, worked out once: a simulation takes millions of steps.
        flops = gpu.compute_flops(model.compute) * tensor
        read = gpu.bandwidth * tensor * BANDWIDTH_EFFICIENCY
        self._fixed = T0 + (2 * model.layers * ALL_REDUCE if tensor > 1 else 0.0)
        self._byte = 1 / read
        self._kv = model.kv_bytes_per_token / read
        self._decode = 2 * model.active_parameters / (flops * DECODE_EFFICIENCY)
        self._prefill = 2 * model.active_parameters / (flops * PREFILL_EFFICIENCY)
        self._pair = 4 * model.hidden * model.layers / (flops * PREFILL_EFFICIENCY)
        self._active_bytes = model.active_weight_bytes
        self._all_bytes = model.weight_bytes

    def step(self, sequences: int, decodes: int, cached: float, prefill: int = 0, pairs: float = 0.0) -> float:
        """Seconds of one step: `decodes` sequences of `sequences` produce a token each, reading `cached` tokens of KV
        cache; `prefill` prompt tokens are computed, attending to `pairs` (token, earlier token) pairs."""
        weights = min(self._all_bytes, self._active_bytes * (decodes + prefill))
        memory = weights * self._byte + cached * self._kv
        arithmetic = decodes * self._decode + prefill * self._prefill + pairs * self._pair
        return self._fixed + SEQUENCE * sequences + max(memory, arithmetic)

    def decode(self, batch: int, context: float) -> float:
        """Seconds between two tokens with `batch` sequences of `context` tokens each and no prefill."""
        return self.step(batch, batch, batch * context)

    def prefill_rate(self) -> float:
        """Prompt tokens per second when arithmetic bounds and prompts are short."""
        return 1 / self._prefill
