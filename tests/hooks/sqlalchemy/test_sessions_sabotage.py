"""Whatever is wrong with the hook, the application gets what it would get without it, and failures are counted."""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, declarative_base

from session_exporter.hooks.sqlalchemy import actors, belonging, census, pools, uses, vigil, watch
from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions

SELECT = sa.text("SELECT 1")
base = declarative_base()


class Row(base):  # type: ignore[misc, valid-type]  # made at run time
    __tablename__ = "rows"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String, unique=True)


class Sabotage(Exception):
    """What the hook is made to raise."""


PARTS = [
    (watch, "current_actor"),
    (actors, "current_task"),
    (belonging, "current_request"),
    (belonging.Belonging, "is_known"),
    (belonging.Belonging, "visit"),
    (belonging.Belonging, "leave"),
    (belonging.Belonging, "settle"),
    (belonging.Belonging, "is_overdue"),
    (census.OpenUses, "show"),
    (uses, "failure_kind"),
    (uses, "error_label"),
    (uses.Use, "__init__"),
    (uses.Use, "begin_transaction"),
    (uses.Use, "end_transaction"),
    (uses.Use, "commit"),
    (uses.Use, "told"),
    (uses.Use, "fail"),
    (uses.Use, "leave"),
    (uses.Use, "report"),
    (vigil.Vigil, "add"),
    (vigil.Vigil, "discard"),
    (vigil.Vigil, "take_late"),
    (pools.PoolWatch, "_show"),
    (watch.Watch, "_begin_use"),
    (watch.Watch, "_visit"),
    (watch.Watch, "_end"),
    (watch.Watch, "_notice"),
    (watch.Watch, "_flag"),
]


def happenings(engine: Any) -> Iterator[object]:
    """What an application does, and what it gets for it."""
    base.metadata.drop_all(engine)
    base.metadata.create_all(engine)
    with Session(engine, future=True) as session:
        yield session.execute(SELECT).scalar()
        session.add(Row(name="a"))
        session.commit()
        session.add(Row(name="a"))
        yield outcome_of(session.commit)
        yield outcome_of(lambda: session.execute(SELECT))
        session.rollback()
        yield [row.name for row in session.query(Row)]
        yield outcome_of(lambda: session.execute(sa.text("SELEKT")))
        row = session.get(Row, 1)
        session.commit()
        session.close()
        yield outcome_of(lambda: row.name)
        yield outcome_of(session.close)
    yield outcome_of(lambda: Session(future=True).execute(SELECT))


def outcome_of(act: Callable[[], object]) -> object:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - compared
        cause = error.__cause__
        return type(error), re.sub("0x[0-9a-f]+", "", str(error)), type(cause), error.__suppress_context__
    return None


@pytest.fixture
def break_down(tracker, monkeypatch) -> Iterator[Callable[..., list[str]]]:
    """Has sessions watched by a hook of which a part fails; returns a list that grows each time it does."""
    stop = watch_db_sessions(tracker, max_lifetime_s=1e-9)

    def break_down(owner: Any, *names: str) -> list[str]:
        failed: list[str] = []

        def fail(*_: object, **__: object) -> Any:
            failed.extend(names)
            raise Sabotage

        for name in names:
            monkeypatch.setattr(owner, name, fail)
        return failed

    yield break_down
    monkeypatch.undo()
    stop()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part[0].__name__.rpartition('.')[2]}.{part[1]}")
def test_whatever_part_fails_the_application_gets_the_same(engine, tracker, journal, break_down, part):
    expected = list(happenings(engine))
    failed = break_down(*part)
    for user in ("a", "b"):
        with tracker.request(user_id=user):
            assert list(happenings(engine)) == expected
    assert bool(failed) == bool(journal.errors)


def test_with_a_journal_that_fails_the_application_gets_the_same(engine, journal, break_down):
    expected = list(happenings(engine))
    assert break_down(journal, "append", "set_gauge", "add_count", "pool_waited") == []
    assert list(happenings(engine)) == expected
    assert journal.errors["db_sessions"]


def test_interrupts_pass(engine, tracker, journal):
    stop = watch_db_sessions(tracker)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with Session(engine, future=True) as session:
        sa.event.listen(session, "before_commit", interrupt)
        session.execute(SELECT)
        with pytest.raises(KeyboardInterrupt):
            session.commit()
        sa.event.remove(session, "before_commit", interrupt)
    stop()
    (event,) = journal.events
    assert (event.outcome, event.errors) == ("rolled_back", {})


def test_an_async_session_gets_the_same(run_async, journal, break_down):
    from sqlalchemy.ext.asyncio import AsyncSession

    async def main(engine: Any) -> list[object]:
        async with AsyncSession(engine) as session:
            found = [(await session.execute(SELECT)).scalar()]
            try:
                await session.execute(sa.text("SELEKT"))
            except sa.exc.OperationalError as error:
                found.append(str(error))
            both = await asyncio.gather(session.rollback(), session.rollback(), return_exceptions=True)
            return [*found, *(type(each) for each in both)]

    expected = run_async(main)
    break_down(watch.Watch, "_visit")
    assert run_async(main) == expected
    assert journal.errors["db_sessions"]
