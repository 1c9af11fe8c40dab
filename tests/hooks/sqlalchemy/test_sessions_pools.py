"""Pools are added up as connections come and go, and waits are counted, also those in vain."""

import gc
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from db_uses import Monotonic
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions
from session_exporter.hooks.sqlalchemy.vigil import FOUND_MAX, NEVER_NS, Vigil


@pytest.fixture(autouse=True)
def stop(tracker, journal):
    # What other tests have left to the collector would be collected meanwhile.
    gc.collect()
    stop = watch_db_sessions(tracker)
    yield stop
    stop()
    assert not journal.errors


@pytest.fixture
def make_pooled(make_engine):
    """Makes engines with a queue of two connections."""
    return lambda **options: make_engine(
        **{"poolclass": sa.pool.QueuePool, "pool_size": 2, "max_overflow": 1, **options}
    )


def figures(journal: Any) -> tuple[int, int]:
    return journal.gauges.get("db_pool_idle", 0), journal.gauges.get("db_pool_used", 0)


def test_connections_are_idle_or_used(make_pooled, journal):
    engine = make_pooled()
    with engine.connect(), engine.connect():
        assert figures(journal) == (0, 2)
        with engine.connect():
            assert figures(journal) == (0, 3)
    # The one over the size of the pool is not kept.
    assert figures(journal) == (2, 0)


def test_several_engines_are_added_up(make_pooled, journal):
    first, second = make_pooled(), make_pooled()
    with first.connect(), second.connect(), second.connect():
        assert figures(journal) == (0, 3)
    assert figures(journal) == (3, 0)


def test_an_engine_that_is_disposed_of_has_no_connections(make_pooled, journal):
    engine = make_pooled()
    engine.connect().close()
    assert figures(journal) == (1, 0)
    engine.dispose()
    assert figures(journal) == (0, 0)


def test_an_engine_that_is_collected_has_none_either(make_pooled, journal):
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool, future=True)
    engine.connect().close()
    assert figures(journal) == (1, 0)
    engine.dispose()
    del engine
    gc.collect()
    assert figures(journal) == (0, 0)


def test_pools_without_a_queue_have_no_figures(make_engine, journal):
    engine = make_engine(poolclass=sa.pool.NullPool)
    with engine.connect():
        assert figures(journal) == (0, 0)
    assert len(journal.pool_waits_us) == 1


def test_the_pools_of_async_engines_count_as_well(run_async, journal):
    async def main(engine: Any) -> None:
        async with engine.connect():
            assert figures(journal) == (0, 1)
        assert figures(journal) == (1, 0)

    run_async(main, poolclass=getattr(sa.pool, "AsyncAdaptedQueuePool", sa.pool.QueuePool))


def test_a_wait_is_as_long_as_somebody_else_has_the_connection(make_pooled, journal):
    engine = make_pooled(pool_size=1, max_overflow=0, pool_timeout=30, connect_args={"check_same_thread": False})
    held = engine.connect()
    waiting = threading.Thread(target=lambda: engine.connect().close())
    waiting.start()
    released = threading.Timer(0.05, held.close)
    released.start()
    waiting.join()
    released.join()
    assert len(journal.pool_waits_us) == 2
    assert journal.pool_waits_us[1] >= 20_000


def test_a_wait_in_vain_is_counted_and_raises_what_it_did(make_pooled, journal):
    engine = make_pooled(pool_size=1, max_overflow=0, pool_timeout=0.05)
    with engine.connect(), pytest.raises(sa.exc.TimeoutError, match="QueuePool limit of size 1 overflow 0 reached"):
        engine.connect()
    assert [wait_us >= 45_000 for wait_us in journal.pool_waits_us] == [False, True]


def test_uninstalled_nothing_is_shown_or_counted(make_pooled, journal, stop):
    engine = make_pooled()
    engine.connect().close()
    stop()
    assert figures(journal) == (0, 0)
    with engine.connect():
        assert figures(journal) == (0, 0)
    assert len(journal.pool_waits_us) == 1


steps = st.lists(st.one_of(st.integers(1, 40), st.sampled_from(["add", "drop", "look"])), max_size=60)


@given(steps)
def test_whoever_waits_too_long_is_found_once_and_oldest_first(steps):
    """Against the same with a list that is searched."""
    clock, vigil = Monotonic(), Vigil[int](50)
    waiting: list[tuple[int, int]] = []
    number = 0
    for step in steps:
        if step == "add":
            number += 1
            waiting.append((number, clock.now_ns))
            vigil.add(number, clock.now_ns)
        elif step == "drop" and waiting:
            vigil.discard(waiting.pop(len(waiting) // 2)[0])
        elif step == "look":
            late = [thing for thing, since_ns in waiting if clock.now_ns - since_ns > 50][:FOUND_MAX]
            assert late == [] or clock.now_ns > vigil.due_ns
            assert vigil.take_late(clock.now_ns) == late
            waiting = [(thing, since_ns) for thing, since_ns in waiting if thing not in late]
        elif isinstance(step, int):
            clock.now_ns += step
    vigil.clear()
    assert vigil.due_ns == NEVER_NS
