"""No minute holds more than the limit, whatever is asked; and what may be sent is sent."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from curate.llm.pace import SPAN_S, Pace, Window

AMOUNTS = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 130)), min_size=1, max_size=200)


@given(limit=st.integers(5, 100), asked=AMOUNTS)
def test_no_span_of_a_minute_holds_more_than_the_limit(limit: int, asked: list[tuple[float, int]]) -> None:
    window, now, taken = Window(limit), 0.0, []
    for later, amount in asked:
        now += later
        now += window.wait(amount, now)
        assert window.wait(amount, now) <= 1e-6
        window.take(amount, now)
        taken.append((now, amount))
    for at, amount in taken:
        inside = [other for when, other in taken if at - SPAN_S + 1e-6 < when <= at]
        assert sum(inside) <= max(limit, amount)


@given(limit=st.integers(5, 100), asked=AMOUNTS)
def test_nothing_waits_longer_than_it_must(limit: int, asked: list[tuple[float, int]]) -> None:
    window, now, taken = Window(limit), 0.0, []
    for later, amount in asked:
        now += later
        wait = window.wait(amount, now)
        if wait > 1e-6:
            just_before = now + wait - 1e-6
            inside = sum(other for when, other in taken if when > just_before - SPAN_S)
            assert inside + min(amount, limit) > limit
        now += wait
        window.take(amount, now)
        taken.append((now, amount))


def test_tokens_that_were_not_used_are_given_back() -> None:
    window = Window(100)
    entry = window.take(90, 0.0)
    assert window.wait(50, 1.0) > 50
    window.correct(entry, 20)
    assert window.wait(50, 1.0) == 0


def test_requests_leave_evenly_at_nearly_the_rate_that_is_allowed() -> None:
    async def leave() -> list[float]:
        pace, times = Pace(6000, None, 64), []
        for _ in range(64):
            pace.grow()

        async def one() -> None:
            turn = await pace.turn(1)
            times.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.05)
            pace.done(turn)

        await asyncio.gather(*(one() for _ in range(300)))
        return times

    times = asyncio.run(leave())
    # 100 a second: the first second's worth may leave at once, though only so many are on their way.
    per_second = [sum(start <= t - times[0] < start + 1 for t in times) for start in (0, 1)]
    assert per_second[0] <= 201 and per_second[1] <= 101
    assert times[-1] - times[0] < 4
