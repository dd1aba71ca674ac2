"""The order in which RePaint visits the states: down, and again and again back up."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from .schedule import State

NEVER_STOP = 10**8  # the published code's default for start_resampling


@dataclass
class _Jump:
    """Anchors that a jump of one length still has to leave from."""

    T: State
    length: int
    n_sample: int
    left: dict[State, int] = field(default_factory=dict)

    def refill(self) -> None:
        self.left = {t + 1: self.n_sample - 1 for t in range(0, self.T - self.length, self.length)}


def time_travel(
    T: State,
    jump_length: int = 10,
    jump_n_sample: int = 10,
    *,
    n_sample: int = 1,
    jump2_length: int = 1,
    jump2_n_sample: int = 1,
    jump3_length: int = 1,
    jump3_n_sample: int = 1,
    start_resampling: int = NEVER_STOP,
) -> list[State]:
    """The states a chain visits, from T to 0, neighbours one apart (Lugmayr et al. 2022, section 4.2 and appendix).

    A move down is one network call; a move up adds noise and is free. With `jump_length` L and `jump_n_sample` r
    there are T + (r - 1) * L * ceil((T - L) / L) network calls. Jumps leave from 1, 1 + L, 1 + 2 L, ... below
    T - L + 1: `time_travel(6, 2, 2)` is 6 5 4 3 4 5 4 3 2 1 2 3 2 1 0.

    Args:
        jump_length: how far one jump climbs.
        jump_n_sample: how often each anchor, every `jump_length` states, is passed in all; 1 = never jump.
        n_sample: how often each single state is passed, by one step up and one down.
        jump2_length, jump2_n_sample: jumps within the jumps; refilled whenever an outer jump fires.
        jump3_length, jump3_n_sample: jumps within those.
        start_resampling: 0-based step above which the chain only goes down.

    Raises:
        ValueError: if a length does not lie in 1..T-1 or a count is below 1.
    """
    lengths = {"jump_length": jump_length, "jump2_length": jump2_length, "jump3_length": jump3_length}
    counts = {"jump_n_sample": jump_n_sample, "jump2_n_sample": jump2_n_sample, "jump3_n_sample": jump3_n_sample}
    if T < 1:
        raise ValueError(f"t_T must be at least 1, got {T}")
    for (name, length), count in zip(lengths.items(), counts.values(), strict=True):
        if count > 1 and not 1 <= length < T:
            raise ValueError(f"{name} must lie in 1..{T - 1} (t_T - 1), got {length}")
    for name, count in {**counts, "n_sample": n_sample}.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")

    inner_first = [
        _Jump(T, max(1, length), count)
        for length, count in zip(reversed(lengths.values()), reversed(counts.values()), strict=True)
    ]
    for jump in inner_first:
        jump.refill()

    times = [T]
    while times[-1] > 1:
        times.append(times[-1] - 1)
        t = times[-1]
        if t < T - 1 and t - 1 <= start_resampling:
            times += [t + 1, t] * (n_sample - 1)
        for depth, jump in enumerate(inner_first):
            t = times[-1]
            if jump.left.get(t, 0) > 0 and t - 1 <= start_resampling - jump.length:
                jump.left[t] -= 1
                times += range(t + 1, t + jump.length + 1)
                for inner in inner_first[:depth]:
                    inner.refill()
    return [*times, 0]


def network_calls(times: list[State]) -> int:
    """How many moves of `times` go down, each a network call."""
    return sum(s < t for t, s in pairwise(times))
