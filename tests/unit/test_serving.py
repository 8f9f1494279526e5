"""The serving model against published measurements and against the scheduler's own rules."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_inference.serving.batch import BatchEngine, Job, Service
from gpu_inference.serving.engine import BLOCK, Engine, Limits, Sequence
from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.model import CATALOGUE, formats, shape_from_values, shape_of
from gpu_inference.serving.timing import StepTimes
from gpu_inference.values.presets import load_presets


def gpu(mib: float, gbps: float, bf16: float, capability: str) -> Gpu:
    preset = {
        "memory": {"visibleMiB": mib},
        "bandwidthGBps": gbps,
        "tflops": {"bf16": bf16},
        "computeCapability": capability,
    }
    return Gpu.from_preset("test", preset)


# Data sheets and aiconfigurator systems/*.yaml.
L4 = gpu(23034, 300, 121, "8.9")
L40S = gpu(46068, 864, 362, "8.9")
A100_40 = gpu(40960, 1555, 312, "8.0")
A100_80 = gpu(81920, 2039, 312, "8.0")
H100 = gpu(81559, 3350, 989, "9.0")
H200 = gpu(143771, 4800, 989, "9.0")
LLAMA = CATALOGUE["llama-3.1-8b"]


def closed_loop(times: StepTimes, concurrency: int, prompt: int, output: int, requests: int) -> tuple[float, float]:
    """(mean time to first token, mean time per output token) in ms of a load that keeps `concurrency` requests in
    flight."""
    engine = Engine(times, Limits.defaults(times.gpu, times.kv_tokens(0.92)))
    numbers = itertools.count()
    now, done = 0.0, []
    for _ in range(concurrency):
        engine.submit(Sequence(str(next(numbers)), prompt, output), now)
    while len(done) < requests:
        result = engine.next_step(now)
        assert result is not None
        now = result.end
        for sequence in result.finished:
            done.append(sequence)
            engine.submit(Sequence(str(next(numbers)), prompt, output), now)
    steady = done[concurrency:]
    first = sum(s.first_token - s.arrival for s in steady) / len(steady)
    each = sum((s.last_token - s.first_token) / (s.output - 1) for s in steady) / len(steady)
    return first * 1e3, each * 1e3


@pytest.mark.parametrize(
    ("name", "layers_kv_bytes"),
    [("llama-3.1-8b", 131_072), ("llama-3.1-70b", 327_680), ("qwen2.5-7b", 57_344), ("qwen3-32b", 262_144)],
)
def test_kv_bytes_per_token(name: str, layers_kv_bytes: int) -> None:
    assert CATALOGUE[name].kv_bytes_per_token == layers_kv_bytes


@pytest.mark.parametrize(
    ("device", "tokens", "prefill"),
    [
        (L4, 34_700, 3_800),
        (L40S, 204_000, 11_300),
        (A100_40, 167_000, 9_700),
        (A100_80, 468_000, 9_700),
        (H100, 465_000, 30_800),
        (H200, 923_000, 30_800),
    ],
)
def test_llama_capacity_and_prefill_rate(device: Gpu, tokens: int, prefill: int) -> None:
    times = StepTimes(device, LLAMA)
    assert times.kv_tokens(0.92) == pytest.approx(tokens, rel=0.01)
    assert times.prefill_rate() == pytest.approx(prefill, rel=0.02)


def test_a_model_that_does_not_fit_has_no_cache() -> None:
    assert StepTimes(gpu(15360, 320, 65, "7.5"), LLAMA).kv_tokens(0.92) <= 0


@pytest.mark.parametrize(("batch", "milliseconds"), [(1, 7.0), (64, 8.7)])
def test_llama_on_h100_meets_the_measured_inter_token_latency(batch: int, milliseconds: float) -> None:
    assert StepTimes(H100, LLAMA).decode(batch, 192) * 1e3 == pytest.approx(milliseconds, rel=0.02)
    assert closed_loop(StepTimes(H100, LLAMA), batch, 128, 128, 4 * batch)[1] == pytest.approx(milliseconds, rel=0.05)


def test_qwen3_32b_on_two_h100_meets_the_measured_time_per_token() -> None:
    """aiconfigurator silicon_refs.csv: TTFT 236.8 ms, TPOT 20.06 ms. The time to first token depends on how the load
    generator spreads its arrivals: here all requests are equally long and arrive together, so only its size is
    checked."""
    first, each = closed_loop(StepTimes(H100, CATALOGUE["qwen3-32b"], tensor=2), 32, 1024, 1024, 128)
    assert each == pytest.approx(20.06, rel=0.10)
    assert 60 < first < 800


def test_vllm_defaults_follow_the_gpu() -> None:
    assert (Limits.defaults(H100, 1).max_sequences, Limits.defaults(H100, 1).max_batched_tokens) == (1024, 8192)
    assert (Limits.defaults(A100_80, 1).max_sequences, Limits.defaults(L4, 1).max_batched_tokens) == (256, 2048)
    assert Limits.defaults(L4, 1, max_sequences=7).max_sequences == 7


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"weightsDtype": "fp8"}, ("fp8", "fp8")),
        ({"quantization": "awq_marlin"}, ("int4", "bf16")),
        ({"dtype": "float16"}, ("fp16", "fp16")),
        ({"dtype": "auto"}, ("bf16", "bf16")),
        ({}, ("bf16", "bf16")),
    ],
)
def test_formats_of_the_weights(model: dict, expected: tuple[str, str]) -> None:
    assert formats(model) == expected


def test_shape_from_values_reads_size_and_cache_format() -> None:
    shape = shape_from_values(
        {"source": "hf://RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", "weightsDtype": "fp8", "kvCacheDtype": "fp8_e4m3"}
    )
    assert (shape.layers, shape.weight_bytes, shape.kv_bytes_per_token) == (32, 8.03e9, 65_536)


def test_unknown_model_takes_the_closest_shape_and_its_own_size() -> None:
    shape = shape_of("acme-9b", 9)
    assert (shape.parameters, shape.layers) == (9e9, 32)
    assert shape_of("acme-65b", 65).layers == 80
    with pytest.raises(ValueError, match="parametersBillion"):
        shape_of("acme")


def test_missing_figure_is_named() -> None:
    with pytest.raises(ValueError, match="bandwidthGBps"):
        Gpu.from_preset("x", {"memory": {"visibleMiB": 1}, "tflops": {"bf16": 1}})
    with pytest.raises(ValueError, match="no FLOPS for bf16"):
        StepTimes(Gpu("x", 1, 1, {"int8": 1.0}), LLAMA)


def small_engine(**limits: int) -> Engine:
    figures = {"max_sequences": 4, "max_batched_tokens": 64, "kv_tokens": 16 * BLOCK} | limits
    return Engine(StepTimes(H100, LLAMA), Limits(**figures))


def drain(engine: Engine, now: float = 0.0) -> list[Sequence]:
    finished = []
    while (result := engine.next_step(now)) is not None:
        now = result.end
        finished += result.finished
    return finished


def test_a_long_prompt_is_prefilled_in_chunks_beside_decodes() -> None:
    engine = small_engine()
    engine.submit(Sequence("decoding", 8, 20), 0.0)
    first = engine.next_step(0.0)
    assert first is not None
    engine.submit(Sequence("long", 150, 2), first.end)
    prefills, now = [], first.end
    while len(prefills) < 3:
        result = engine.next_step(now)
        assert result is not None
        now = result.end
        prefills.append(result.prefill)
        assert "decoding" in [s.id for s in result.tokens]
    assert prefills == [63, 63, 24]


def test_sequences_beyond_the_limit_wait_in_order() -> None:
    engine = small_engine(max_sequences=2)
    for number in range(5):
        engine.submit(Sequence(str(number), 4, 3), 0.0)
    engine.begin_step(0.0)
    assert (len(engine.running), [s.id for s in engine.waiting]) == (2, ["2", "3", "4"])
    engine.complete_step()
    assert [s.id for s in drain(engine)] == ["0", "1", "2", "3", "4"]


def test_a_full_cache_preempts_the_youngest_and_still_finishes() -> None:
    engine = small_engine(kv_tokens=8 * BLOCK)
    for number in range(4):
        engine.submit(Sequence(str(number), 2 * BLOCK - 1, 2 * BLOCK), 0.0)
    finished = drain(engine)
    assert len(finished) == 4
    assert sum(s.preemptions for s in finished) > 0
    assert finished[0].id == "0"
    assert finished[0].preemptions == 0


def test_abort_frees_the_cache_and_emits_nothing_more() -> None:
    engine = small_engine()
    kept, dropped, queued = Sequence("kept", 20, 3), Sequence("dropped", 20, 3), Sequence("queued", 20, 3)
    for sequence in (kept, dropped, queued):
        engine.submit(sequence, 0.0)
    engine.abort(queued)
    engine.begin_step(0.0)
    engine.abort(dropped)
    assert [s.id for s in engine.complete_step().tokens] == ["kept"]
    drain(engine)
    assert (engine.free_blocks, dropped.generated, queued.generated) == (engine.blocks, 0, 0)


def test_what_can_never_run_is_refused() -> None:
    engine = small_engine()
    with pytest.raises(ValueError, match="KV cache"):
        engine.submit(Sequence("x", 15 * BLOCK, BLOCK + 1), 0.0)
    with pytest.raises(ValueError, match="at least one"):
        engine.submit(Sequence("x", 0, 1), 0.0)


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 120), st.integers(1, 60)), min_size=1, max_size=25),
    sequences=st.integers(1, 6),
    tokens=st.integers(8, 128),
)
def test_invariants(requests: list[tuple[float, int, int]], sequences: int, tokens: int) -> None:
    """Whatever arrives: every request ends with its tokens, times never go back, the cache is never overdrawn and
    ends empty; and a second run of the same arrivals is identical."""

    def run() -> list[tuple[str, float, float, int]]:
        engine = small_engine(max_sequences=sequences, max_batched_tokens=tokens)
        arrivals = sorted((at, str(i), p, o) for i, (at, p, o) in enumerate(requests))
        now, ended = 0.0, []
        while arrivals or engine.running or engine.waiting:
            while arrivals and (arrivals[0][0] <= now or not (engine.running or engine.waiting)):
                at, name, prompt, output = arrivals.pop(0)
                now = max(now, at)
                engine.submit(Sequence(name, prompt, output), at)
            result = engine.next_step(now)
            assert result is not None
            assert result.end > now
            now = result.end
            assert 0 <= engine.free_blocks <= engine.blocks
            assert len(engine.running) <= sequences
            assert len(result.tokens) + result.prefill <= tokens + sequences
            ended += [(s.id, s.first_token, s.last_token, s.generated) for s in result.finished]
            assert all(s.arrival <= s.started < s.first_token <= s.last_token for s in result.finished)
        assert engine.free_blocks == engine.blocks
        return ended

    ended = run()
    assert sorted(name for name, *_ in ended) == sorted(str(i) for i in range(len(requests)))
    assert all(generated == requests[int(name)][2] for name, _, _, generated in ended)
    assert run() == ended


def test_batches_take_what_waits_and_cost_their_items() -> None:
    engine = BatchEngine(Service(batch_seconds=0.01, item_seconds=0.002, max_items=8))
    engine.submit(Job(5), 0.0)
    assert engine.begin_step(0.0) == pytest.approx(0.02)
    for items in (4, 4, 1):
        engine.submit(Job(items), 0.005)
    assert (len(engine.running), len(engine.waiting)) == (1, 3)
    assert engine.complete_step().end == pytest.approx(0.02)
    second = engine.next_step(0.02)
    assert second is not None
    assert ([job.items for job in second.finished], second.end) == ([4, 4], pytest.approx(0.046))
    with pytest.raises(ValueError, match="between 1 and 8"):
        engine.submit(Job(9), 0.0)


def test_instances_work_side_by_side() -> None:
    engine = BatchEngine(Service(batch_seconds=0.01, item_seconds=0.0, max_items=1, instances=2))
    jobs = [Job(1) for _ in range(3)]
    for job in jobs:
        engine.submit(job, 0.0)
    engine.begin_step(0.0)
    assert (len(engine.running), len(engine.waiting)) == (2, 1)
    engine.abort(jobs[0])
    assert engine.complete_step().finished == []
    assert engine.complete_step().finished == [jobs[1]]


def test_a_slice_has_its_part_of_memory_and_speed():
    whole = Gpu.from_preset("nvidia-h100", load_presets("accelerators")["nvidia-h100"])
    part = whole.slice(9984 / 81559)
    assert part.memory_bytes == pytest.approx(9984 * 2**20)
    assert part.bandwidth / whole.bandwidth == pytest.approx(9984 / 81559)
    assert part.compute_flops("bf16") < whole.compute_flops("bf16") / 8
