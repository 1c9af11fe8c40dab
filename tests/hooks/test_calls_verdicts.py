"""Wrapped calls: which session they asked for in vain, and what statements inside of them mean for the request."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy.engine import Engine
from watching import Base, chats
from written import application

from session_exporter.core.events import MISSED_BY_ID, MISSED_BY_USER, OTHER_USED, LookedUp, Observed, Unmet
from session_exporter.hooks.calls import instrument
from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.tracker import SessionTracker

MODULE = """
    def by_user(user_id, act=lambda: None):
        return act()

    def by_id(session_id, user_id=None, act=lambda: None):
        return act()

    def by_chat_id(chat_id):
        return None

    def by_key(key):
        return None

    def of_user(user_id, reference):
        return None

    def ambient(act=lambda: None):
        return act()

    def inner(user_id=None, session_id=None, act=lambda: None):
        return act()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ModuleType]:
    with application(tmp_path) as app:
        yield app.load("shop", MODULE)


@pytest.fixture
def watch(shop: ModuleType, tracker: SessionTracker, journal: Recorder) -> Iterator[Callable[..., Any]]:
    """Watches a function of the shop until the test is over."""
    undo = []

    def watch(name: str, kind: str = "get", **more: Any) -> Any:
        undo.append(instrument(f"shop:{name}", kind=kind, scope="chat", tracker=tracker, **more))
        return getattr(shop, name)

    yield watch
    for each in undo:
        each()
    assert not journal.errors


def unmet(journal: Recorder) -> list[tuple[int, str]]:
    return [(event.missed, event.actual) for event in journal.events if isinstance(event, Unmet)]


def asked(journal: Recorder) -> list[str]:
    return [event.asked for event in journal.events if isinstance(event, LookedUp)]


def test_a_get_that_is_given_an_id_and_returns_nothing_asked_for_that_id(
    watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    by_id = watch("by_id", user="user_id")
    with tracker.request(session_id="e"):
        by_id("e")
        by_id("other", user_id="ann")
        by_id(None, user_id="ann")
    assert asked(journal) == ["e", "other", ""]
    assert unmet(journal) == [(MISSED_BY_ID, "")]


@pytest.mark.parametrize(("name", "session"), [("by_chat_id", ""), ("by_key", "key"), ("by_id", "id")])
def test_the_parameter_is_that_of_the_session_or_has_a_usual_name(
    name: str, session: str, watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    function = watch(name, session=session)
    function("outside")
    with tracker.request(session_id="e"):
        function("other")
    assert asked(journal) == ["outside", "other"]
    assert unmet(journal) == []


def test_the_expected_session_is_known_in_whichever_argument_it_is_given(
    watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    expected = UUID(int=7)
    by_key = watch("by_key")
    with tracker.request(session_id=str(expected)):
        by_key(expected)
    assert asked(journal) == [str(expected)]
    assert unmet(journal) == [(MISSED_BY_ID, "")]


@pytest.mark.parametrize(("expected", "other"), [(str(UUID(int=7)), UUID(int=8)), ("17", 9), ("s-17", "s-18")])
def test_who_is_given_another_id_beside_the_user_has_not_missed_the_expected_session(
    expected: str, other: Any, watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    of_user = watch("of_user", user="user_id")
    with tracker.request(session_id=expected):
        of_user("ann", other)
    assert unmet(journal) == []
    with tracker.request(session_id=expected):
        of_user("ann", "web")
    assert unmet(journal) == [(MISSED_BY_USER, "")]


def test_an_id_that_may_be_anything_s_is_no_miss_of_the_expected_session(
    watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    by_key = watch("by_key")
    with tracker.request(session_id="e"):
        by_key("who knows")
    assert asked(journal) == [""]
    assert unmet(journal) == []


@pytest.mark.parametrize(("name", "arguments"), [("by_user", ("ann",)), ("ambient", ())])
def test_a_get_for_a_user_or_for_whoever_it_is_misses_whatever_is_expected(
    name: str, arguments: Any, watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    function = watch(name, user="user_id" if arguments else "")
    with tracker.request(session_id="e"):
        function(*arguments)
    assert asked(journal) == [""]
    assert unmet(journal) == [(MISSED_BY_USER, "")]


@pytest.mark.parametrize("found", ["e", "x"])
def test_a_call_that_returns_a_session_got_it(
    found: str, watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    by_user = watch("by_user", user="user_id")
    with tracker.request(session_id="e"):
        by_user("ann", lambda: found)
    assert unmet(journal) == ([] if found == "e" else [(OTHER_USED, "x")])


def test_a_call_that_creates_after_the_expected_session_was_found_says_so(
    watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    by_user = watch("by_user", kind="get_or_create", user="user_id")
    with tracker.request(session_id="e"):
        by_user("ann", lambda: "e")
        by_user("ann", lambda: "new")
    assert [(event.session, event.expected) for event in journal.events if isinstance(event, Observed)] == [
        ("e", ""),
        ("new", "e"),
    ]


def test_what_an_inner_call_found_the_request_has_got(
    watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    by_user, inner = watch("by_user", user="user_id"), watch("inner", user="user_id")
    with tracker.request(session_id="e"):
        by_user("ann", lambda: inner("ann", act=lambda: "e") and "x")
        by_user("ann", lambda: None)
    assert unmet(journal) == []


def test_what_an_inner_call_missed_by_its_id_is_the_reason(
    watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    by_user, inner = watch("by_user", user="user_id"), watch("inner", user="user_id")
    with tracker.request(session_id="e"):
        by_user("ann", lambda: inner("ann", "e") or "x")
    (told,) = [event for event in journal.events if isinstance(event, Unmet)]
    assert (told.missed, told.actual) == (MISSED_BY_ID, "x")


def test_what_binds_a_session_after_it_was_created_makes_no_loss(
    watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
) -> None:
    create = watch("by_user", kind="create", user="user_id")
    bind = watch("inner", kind="bind", user="user_id", session="session_id")
    with tracker.request() as request:
        create("ann", lambda: "new")
        bind("ann", "new")
        tracker.reused("ann", "another", scope="chat")
    assert request.context.session_id == "new"
    assert unmet(journal) == []


class TestStatementsInside:
    @pytest.fixture
    def engine(self, tracker: SessionTracker) -> Iterator[Engine]:
        engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, **FUTURE)
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(sa.insert(chats).values(id="e", user_id="ann"))
        uninstall = map_table("chats", scope="chat", user="user_id", tracker=tracker)
        yield engine
        uninstall()
        engine.dispose()

    def find(self, engine: Engine, **pins: str) -> str | None:
        with engine.begin() as connection:
            found: str | None = connection.execute(sa.select(chats.c.id).filter_by(**pins)).scalar()
            return found

    def make(self, engine: Engine, session: str) -> str:
        with engine.begin() as connection:
            connection.execute(sa.insert(chats).values(id=session, user_id="ann"))
        return session

    def test_an_id_that_was_missed_and_adopted_was_not_there(
        self, engine: Engine, watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
    ) -> None:
        by_id = watch("by_id", kind="get_or_create")
        with tracker.request(session_id="client-made"):
            by_id("client-made", act=lambda: self.find(engine, id="client-made") or self.make(engine, "client-made"))
            tracker.reused("ann", "client-made", scope="chat")
        assert unmet(journal) == [(MISSED_BY_ID, "")]

    def test_one_that_was_found_inside_was_there_whatever_the_call_returns(
        self, engine: Engine, watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
    ) -> None:
        by_user = watch("by_user", kind="get_or_create", user="user_id")
        with tracker.request(session_id="e"):
            by_user("ann", lambda: self.find(engine, id="e") and self.make(engine, "new"))
        assert unmet(journal) == []

    def test_a_cache_that_did_not_have_it_does_not_matter(
        self, engine: Engine, watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
    ) -> None:
        by_id = watch("by_id")
        with tracker.request(session_id="e"):
            by_id("e", act=lambda: self.find(engine, id="e", user_id="nobody") or self.find(engine, id="e"))
        assert unmet(journal) == []

    def test_another_that_was_made_inside_is_what_was_used_instead(
        self, engine: Engine, watch: Callable[..., Any], tracker: SessionTracker, journal: Recorder
    ) -> None:
        by_user = watch("by_user", kind="get_or_create", user="user_id")
        with tracker.request(session_id="lost"):
            by_user("bob", lambda: self.find(engine, user_id="bob") or self.make(engine, "new"))
        (told,) = [event for event in journal.events if isinstance(event, Unmet)]
        assert (told.missed, told.actual, told.user) == (MISSED_BY_USER, "new", "bob")
        assert told.sites[0].endswith("test_another_that_was_made_inside_is_what_was_used_instead")


FUTURE: dict[str, Any] = {"future": True} if sa.__version__.startswith("1.4.") else {}
