"""Continuous batching, step by step: who runs, who waits, which tokens come out of each step and when it ends.

The engine is a state machine without a clock. A simulator calls `next_step` in virtual time; a live server calls
`begin_step`, sleeps until the end it returns, and calls `complete_step`. The same arrivals give the same result.

The scheduling is vLLM's V1 (vllm/v1/core/sched/scheduler.py, 0.32): every step has a budget of tokens; running
sequences come first (one token for each decode, the rest of a prompt in chunks), then the queue in order of arrival
while sequences and cache blocks last; when the cache is full the youngest running sequence is preempted and computed
again later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gpu_inference.serving.architecture import BLOCK
from gpu_inference.serving.gpu import Gpu
from gpu_inference.serving.timing import StepTimes


@dataclass(frozen=True)
class Limits:
    """max_sequences run at once; a step computes at most max_batched_tokens; kv_tokens fit the cache."""

    max_sequences: int
    max_batched_tokens: int
    kv_tokens: int

    @classmethod
    def defaults(cls, gpu: Gpu, kv_tokens: int, max_sequences: int = 0) -> Limits:
        """vLLM's defaults for its API server (0.32, vllm/engine/arg_utils.py): by memory, an A100 (8.0) counting as
        small."""
        large = gpu.memory_bytes >= 70 * 2**30 and gpu.compute_capability != "8.0"
        sequences, tokens = (1024, 8192) if large else (256, 2048)
        return cls(max_sequences or sequences, max(tokens, max_sequences), kv_tokens)


@dataclass(eq=False, slots=True)
class Sequence:
    """One request: `prompt` tokens in, exactly `output` tokens out. Times are those of the caller's clock, in
    seconds."""

    id: str
    prompt: int
    output: int
    arrival: float = 0.0
    started: float = -1.0  # first scheduled
    first_token: float = -1.0
    last_token: float = -1.0
    gap: float = 0.0  # between the last two tokens
    computed: int = 0  # tokens whose keys and values are cached
    generated: int = 0
    preemptions: int = 0
    aborted: bool = False
    blocks: int = field(default=0, repr=False)
    owner: Any = field(default=None, repr=False)  # whatever the caller ties to it

    @property
    def finished(self) -> bool:
        return self.generated >= self.output


@dataclass(slots=True)
class StepResult:
    """What a step produced at its `end`: one token for each of `tokens` (`first` and `finished` are among them)."""

    end: float
    tokens: list[Sequence]
    first: list[Sequence]
    finished: list[Sequence]
    prefill: int
    preemptions: int


class Engine:
    """Continuous batching of one model replica."""

    def __init__(self, times: StepTimes, limits: Limits) -> None:
        self.times = times
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.blocks = limits.kv_tokens // BLOCK
        self.free_blocks = self.blocks
        self._plan: list[tuple[Sequence, int]] = []
        self._end: float | None = None
        self._prefill = self._preempted = 0

    @property
    def kv_usage(self) -> float:
        """Share of the cache in use, 0 to 1."""
        return 1 - self.free_blocks / self.blocks if self.blocks else 0.0

    def submit(self, sequence: Sequence, now: float) -> None:
        """Queue a request. Raises ValueError when it could never run: its tokens exceed the whole cache."""
        if sequence.prompt < 1 or sequence.output < 1:
            raise ValueError("a request needs at least one token in and one out")
        if -(-(sequence.prompt + sequence.output) // BLOCK) > self.blocks:
            raise ValueError(
                f"{sequence.prompt} + {sequence.output} tokens exceed the KV cache of {self.limits.kv_tokens}"
            )
        sequence.arrival = now
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Forget a request and free its cache; nothing happens when it has left already."""
        sequence.aborted = True
        if sequence in self.running:
            self.running.remove(sequence)
            self._release(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def next_step(self, now: float) -> StepResult | None:
        """Begin and complete one step: for virtual time. None when there is nothing to do."""
        if self.begin_step(now) is None:
            return None
        return self.complete_step()

    def begin_step(self, now: float) -> float | None:
        """Plan the step that starts now and return its end; the end of the step under way, if one is; None without
        work."""
        if self._end is not None or not (self.running or self.waiting):
            return self._end
        self._plan, self._prefill, self._preempted = [], 0, 0
        budget = self._schedule_running(self.limits.max_batched_tokens)
        if not self._preempted:
            self._schedule_waiting(budget, now)
        decodes, cached, pairs = 0, 0, 0.0
        for sequence, count in self._plan:
            if count == 1 and sequence.generated:
                decodes += 1
                cached += sequence.computed
            else:
                self._prefill += count
                pairs += count * (sequence.computed + count / 2)
        self._end = now + self.times.step(len(self._plan), decodes, cached, self._prefill, pairs)
        return self._end

    def complete_step(self) -> StepResult:
        """End the step under way: tokens come out, finished sequences leave and free their cache."""
        if self._end is None:
            raise RuntimeError("no step is under way")
        end, self._end = self._end, None
        result = StepResult(end, [], [], [], self._prefill, self._preempted)
        for sequence, count in self._plan:
            if sequence.aborted:
                continue
            sequence.computed += count
            if sequence.computed < sequence.prompt + sequence.generated:
                continue  # a chunk of the prompt: more to come
            sequence.generated += 1
            result.tokens.append(sequence)
            if sequence.first_token < 0:
                sequence.first_token = end
                result.first.append(sequence)
            else:
                sequence.gap = end - sequence.last_token
            sequence.last_token = end
            if sequence.finished:
                result.finished.append(sequence)
                self._release(sequence)
        if result.finished:
            self.running = [sequence for sequence in self.running if not sequence.finished]
        return result

    def _schedule_running(self, budget: int) -> int:
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            count = min(sequence.prompt + sequence.generated - sequence.computed, budget)
            while not self._reserve(sequence, count):
                victim = self.running.pop()
                self._preempt(victim)
                if victim is sequence:
                    return budget
            self._plan.append((sequence, count))
            budget -= count
            index += 1
        return budget

    def _schedule_waiting(self, budget: int, now: float) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.limits.max_sequences:
            sequence = self.waiting[0]
            count = min(sequence.prompt + sequence.generated, budget)
            if not self._reserve(sequence, count):
                return
            self.waiting.popleft()
            self.running.append(sequence)
            if sequence.started < 0:
                sequence.started = max(now, sequence.arrival)
            self._plan.append((sequence, count))
            budget -= count

    def _reserve(self, sequence: Sequence, count: int) -> bool:
        """Blocks for `count` more tokens of the sequence, if there are enough."""
        wanted = -(-(sequence.computed + count) // BLOCK) - sequence.blocks
        if wanted > self.free_blocks:
            return False
        if wanted > 0:
            self.free_blocks -= wanted
            sequence.blocks += wanted
        return True

    def _release(self, sequence: Sequence) -> None:
        self.free_blocks += sequence.blocks
        sequence.blocks = 0

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.computed = 0
        sequence.preemptions += 1
        self._preempted += 1
        self.waiting.appendleft(sequence)
