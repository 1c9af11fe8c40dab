"""Wrapped calls under way: what statements inside of them find belongs to the outermost of its scope."""

import asyncio
import contextvars

from session_exporter.wrapped_calls import Call, call_of, current_call


def test_a_statement_finds_the_outermost_call_of_its_scope() -> None:
    with Call("chat") as outer, Call("form") as other, Call("chat"):
        assert call_of("chat") is outer
        assert call_of("form") is other
    assert call_of("chat") is None


def test_calls_of_concurrent_tasks_are_apart() -> None:
    async def work() -> bool:
        with Call("chat") as call:
            await asyncio.sleep(0)
            return call_of("chat") is call

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(work() for _ in range(20)))

    assert all(asyncio.run(all_of_them()))


def test_a_call_left_in_another_context_leaves_that_one_as_it_would_be_without() -> None:
    call = Call("chat")
    contextvars.copy_context().run(call.__enter__)
    call.__exit__(None, None, None)
    assert current_call.get() is None


def test_a_call_left_in_another_context_leaves_the_call_there_under_way() -> None:
    thrown_away = Call("chat")
    contextvars.copy_context().run(thrown_away.__enter__)
    with Call("chat") as call:
        thrown_away.__exit__(None, None, None)
        assert call_of("chat") is call
