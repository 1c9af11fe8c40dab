"""Wrapped calls: what each kind reports, by its result, by its error, and by what happened inside."""

import asyncio
import datetime as dt
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from recorder import Recorder
from written import application

from session_exporter import pending
from session_exporter.core.events import (
    RESULT,
    UPSERT,
    Attributed,
    Conflicted,
    Created,
    CreateFailed,
    Ended,
    LookedUp,
    Observed,
)
from session_exporter.hooks.calls import install_calls, instrument
from session_exporter.mappings import CallMapping
from session_exporter.tracker import SessionTracker
from session_exporter.wrapped_calls import call_of

MODULE = """
    class Session:
        def __init__(self, id, user_id=None, created_at=None):
            self.id = id
            self.user_id = user_id
            self.created_at = created_at

    def call(user_id=None, session_id=None, act=lambda: None):
        return act()

    def inner(user_id=None, session_id=None, act=lambda: None):
        return act()
"""
CREATED_AT = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
CREATED_AT_US = int(CREATED_AT.timestamp()) * 1_000_000


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ModuleType]:
    with application(tmp_path) as app:
        yield app.load("shop", MODULE)


@pytest.fixture
def watch(shop: ModuleType, tracker: SessionTracker) -> Iterator[Callable[..., ModuleType]]:
    """Watches `shop.call`, or another function, until the test is over."""
    undo = []

    def watch(
        kind: str, call: str = "shop:call", user: str = "user_id", session: str = "id", **more: Any
    ) -> ModuleType:
        undo.append(instrument(call, kind=kind, user=user, session=session, tracker=tracker, **more))
        return shop

    yield watch
    for each in undo:
        each()


@pytest.fixture
def watched_scope() -> Iterator[str]:
    pending.watch_scope("chat")
    yield "chat"
    pending.unwatch_scope("chat")


def returns(value: object) -> Callable[[], object]:
    return lambda: value


# get


def test_a_get_that_finds_a_session_is_a_lookup_of_it(watch: Any, journal: Recorder) -> None:
    shop = watch("get", scope="chat")
    found = shop.Session("s1")
    assert shop.call("u1", act=returns(found)) is found
    (event,) = journal.events
    assert isinstance(event, LookedUp)
    assert (event.scope, event.session, event.user, event.again) == ("chat", "s1", "u1", False)
    assert "test_calls.py" in event.sites[0]


@pytest.mark.parametrize("nothing", [None, {}, [], "", (), False])
def test_a_get_that_finds_nothing_is_a_lookup_that_missed(watch: Any, journal: Recorder, nothing: object) -> None:
    shop = watch("get", session="session_id")
    assert shop.call("u1", "asked", returns(nothing)) is nothing
    assert [(type(event), event.session) for event in journal.events] == [(LookedUp, "")]
    assert not journal.errors


def test_the_asked_id_is_the_found_one_where_the_result_has_none(watch: Any, journal: Recorder) -> None:
    watch("get", session="session_id").call("u1", "asked", returns({"step": 3}))
    assert journal.events[0].session == "asked"


def test_a_lookup_takes_as_long_as_the_call(watch: Any, journal: Recorder) -> None:
    turns = threading.Event()
    watch("get", session="").call("u1", act=lambda: turns.wait(0.02) or "s1")
    assert 20_000 <= journal.events[0].duration_us < 10_000_000


def test_ids_of_every_type_become_texts(watch: Any, journal: Recorder) -> None:
    shop = watch("get", key="session_id")
    shop.call(7, 3, returns(shop.Session(UUID(int=5))))
    event = journal.events[0]
    assert (event.user, event.key, event.session) == ("7", "3", str(UUID(int=5)))


def test_a_get_that_raises_tells_nothing(watch: Any, journal: Recorder) -> None:
    shop = watch("get")
    with pytest.raises(ZeroDivisionError):
        shop.call("u1", act=lambda: 1 / 0)
    assert journal.events == []


def test_a_result_in_which_the_path_finds_nothing_is_counted(watch: Any, journal: Recorder) -> None:
    shop = watch("get", session="ident")
    shop.call("u1", act=returns(shop.Session("s1")))
    assert [event.session for event in journal.events] == [""]
    assert journal.errors == {"calls": 1}


@pytest.mark.parametrize(
    ("path", "nothing"),
    [("id", {"id": None}), ("0.id", (None, False)), ("session.id", {"session": None}), ("result.user_id", "a session")],
)
def test_a_result_that_says_none_where_the_path_leads_is_a_miss_and_no_failure(
    watch: Any, journal: Recorder, path: str, nothing: object
) -> None:
    shop = watch("get", session=path)
    shop.call("u1", act=returns(shop.Session("s1") if nothing == "a session" else nothing))
    assert [(type(event), event.session) for event in journal.events] == [(LookedUp, "")]
    assert not journal.errors


def test_an_end_of_no_session_is_no_failure(watch: Any, journal: Recorder) -> None:
    watch("end", session="session_id").call("u1", None, returns(1))
    assert journal.events == []
    assert not journal.errors


# get_or_create


def test_what_get_or_create_returns_is_a_sighting(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create", created_at="created_at")
    shop.call("u1", act=returns(shop.Session("s1", created_at=CREATED_AT)))
    (event,) = journal.events
    assert isinstance(event, Observed)
    assert (event.session, event.user, event.created_at_us, event.origin) == ("s1", "u1", CREATED_AT_US, RESULT)


def test_a_time_that_says_nothing_is_counted_and_left_out(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create", created_at="created_at")
    shop.call("u1", act=returns(shop.Session("s1", created_at=dt.datetime(2024, 5, 1))))  # noqa: DTZ001 - is the point
    assert journal.events[0].created_at_us == 0
    assert journal.errors == {"calls": 1}


def test_a_session_that_an_open_transaction_creates_was_not_found(
    watch: Any, journal: Recorder, watched_scope: str
) -> None:
    shop = watch("get_or_create", scope=watched_scope)
    pending.begin(watched_scope, "s1")
    try:
        shop.call("u1", act=returns(shop.Session("s1")))
    finally:
        pending.settle(watched_scope, "s1")
    assert [(type(event), event.session) for event in journal.events] == [(LookedUp, "")]


def test_a_session_that_a_statement_inside_made_was_not_found(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create", scope="chat")

    def act() -> object:
        call_of("chat").made.add("s1")
        return shop.Session("s1")

    shop.call("u1", act=act)
    assert [(type(event), event.session) for event in journal.events] == [(LookedUp, "")]


def test_a_session_that_a_statement_inside_found_was_looked_up(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create", scope="chat")

    def act() -> object:
        call_of("chat").found.add("s1")
        return shop.Session("s1")

    shop.call("u1", act=act)
    assert [(type(event), event.session) for event in journal.events] == [(LookedUp, "s1")]


def test_where_the_table_is_watched_a_result_is_no_evidence_of_a_create(
    watch: Any, journal: Recorder, watched_scope: str
) -> None:
    shop = watch("get_or_create", scope=watched_scope, created_at="created_at")
    shop.call("u1", act=returns(shop.Session("s1", created_at=CREATED_AT)))
    assert [(type(event), event.created_at_us) for event in journal.events] == [(Observed, 0)]


# create


def test_what_create_returns_was_created(watch: Any, journal: Recorder) -> None:
    shop = watch("create")
    shop.call("u1", act=returns(shop.Session("s1")))
    (event,) = journal.events
    assert isinstance(event, Created)
    assert (event.session, event.user) == ("s1", "u1")


def test_a_create_that_returns_nothing_created_what_it_was_given(watch: Any, journal: Recorder) -> None:
    watch("create", session="session_id").call("u1", "given")
    assert [(type(event), event.session) for event in journal.events] == [(Created, "given")]


def test_where_the_table_is_watched_its_transaction_reports_the_create(
    watch: Any, journal: Recorder, watched_scope: str
) -> None:
    shop = watch("create", scope=watched_scope)

    def act() -> object:
        call_of(watched_scope).made.add("s1")
        return shop.Session("s1")

    shop.call("u1", act=act)
    pending.begin(watched_scope, "s2")
    shop.call("u1", act=returns(shop.Session("s2")))
    pending.settle(watched_scope, "s2")
    assert journal.events == []
    shop.call("u1", act=returns(shop.Session("s3")))
    assert [(type(event), event.session, event.origin) for event in journal.events] == [(Observed, "s3", UPSERT)]


def fail_with_unique_violation() -> None:
    database = sqlite3.connect(":memory:")
    try:
        database.executescript("CREATE TABLE t (id PRIMARY KEY); INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)")
    finally:
        database.close()


@pytest.mark.parametrize("kind", ["create", "get_or_create"])
def test_a_create_that_fails_says_why(watch: Any, journal: Recorder, kind: str) -> None:
    shop = watch(kind)
    with pytest.raises(ConnectionRefusedError):
        shop.call("u1", act=lambda: (_ for _ in ()).throw(ConnectionRefusedError(111, "refused")))
    with pytest.raises(sqlite3.IntegrityError):
        shop.call("u2", act=fail_with_unique_violation)
    failed, conflicted = journal.events
    assert isinstance(failed, CreateFailed)
    assert (failed.reason, failed.user) == ("connection", "u1")
    assert isinstance(conflicted, Conflicted)
    assert conflicted.user == "u2"


def test_a_failure_that_a_statement_has_reported_is_not_reported_again(watch: Any, journal: Recorder) -> None:
    shop = watch("create", scope="chat")

    def act() -> None:
        call_of("chat").failed = True
        raise TimeoutError

    with pytest.raises(TimeoutError):
        shop.call("u1", act=act)
    assert journal.events == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, SystemExit])
def test_what_ends_a_program_or_task_is_no_failed_create(
    watch: Any, journal: Recorder, error: type[BaseException]
) -> None:
    shop, raised = watch("create"), error()

    def act() -> None:
        raise raised

    with pytest.raises(error) as caught:
        shop.call("u1", act=act)
    assert caught.value is raised
    assert journal.events == []


def test_an_error_goes_on_as_it_is_with_one_frame_more(watch: Any) -> None:
    shop, raised = watch("create"), ValueError("theirs")

    def act() -> None:
        raise raised

    with pytest.raises(ValueError, match="theirs") as caught:
        shop.call("u1", act=act)
    assert caught.value is raised
    assert (raised.__cause__, raised.__context__) == (None, None)
    files = [Path(entry.path).name for entry in caught.traceback]
    assert files == ["test_calls.py", "call_running.py", "shop.py", "test_calls.py"]


# end


@pytest.mark.parametrize("result", [None, True, False, 0])
def test_an_end_that_returns_has_ended_the_session(watch: Any, journal: Recorder, result: object) -> None:
    watch("end", session="session_id", reason="completed").call("u1", "s1", returns(result))
    (event,) = journal.events
    assert isinstance(event, Ended)
    assert (event.session, event.user, event.reason) == ("s1", "u1", "completed")


def test_an_end_that_raises_has_ended_nothing(watch: Any, journal: Recorder) -> None:
    shop = watch("end", session="session_id")
    with pytest.raises(ZeroDivisionError):
        shop.call("u1", "s1", lambda: 1 / 0)
    assert journal.events == []


# bind


def test_bind_names_the_user_and_session_of_the_request(watch: Any, tracker: SessionTracker, journal: Recorder) -> None:
    shop = watch("bind", user="result.user_id", session="result.id")
    with tracker.request() as request:
        shop.call(act=returns(shop.Session("s1", "u1")))
        assert (request.user_id, request.context.session_id) == ("u1", "s1")
    (event,) = journal.events
    assert isinstance(event, Attributed)
    assert (event.session, event.user) == ("s1", "u1")


def test_bind_without_a_session_attributes_nothing(watch: Any, tracker: SessionTracker, journal: Recorder) -> None:
    shop = watch("bind", session="")
    with tracker.request() as request:
        shop.call("u1", act=returns("a token"))
        shop.call(None)
    assert request.user_id == "u1"
    assert journal.events == []


def test_what_is_looked_up_while_a_user_is_bound_belongs_to_nobody(watch: Any) -> None:
    shop, calls = watch("bind", scope="chat"), []
    shop.call("u1", act=lambda: calls.append(call_of("chat")))
    assert calls == [None]


# Whose


def test_a_call_without_a_user_is_the_requests(watch: Any, tracker: SessionTracker, journal: Recorder) -> None:
    shop = watch("get", user="")
    with tracker.request(user_id="u1", request_id="r1"):
        shop.call(act=returns(shop.Session("s1")))
    assert (journal.events[0].user, journal.events[0].request) == ("u1", "r1")


def test_a_user_that_is_not_given_is_the_requests(watch: Any, tracker: SessionTracker, journal: Recorder) -> None:
    shop = watch("get")
    with tracker.request(user_id="u1"):
        shop.call(act=returns(shop.Session("s1")))
    assert journal.events[0].user == "u1"


def test_a_user_is_read_before_the_function_may_change_it(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create", user="user_id.id")
    user = shop.Session("u1")
    shop.call(user, act=lambda: setattr(user, "id", None) or shop.Session("s1"))
    assert journal.events[0].user == "u1"


# Calls in calls


def test_calls_inside_a_call_are_one_lookup(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create")
    watch("get", "shop:inner")
    found = returns(shop.Session("s1"))
    shop.call("u1", act=lambda: [shop.inner(act=found), shop.inner(act=returns(None))][0])
    assert [(type(event), event.session, event.user) for event in journal.events] == [(LookedUp, "s1", "u1")]


def test_what_an_inner_call_got_is_told_with_the_outermost(watch: Any, journal: Recorder) -> None:
    shop = watch("get", user="")
    watch("get_or_create", "shop:inner", created_at="created_at")
    made = shop.Session("s1", created_at=CREATED_AT)
    shop.call(act=lambda: shop.inner("u1", act=returns(made)))
    (event,) = journal.events
    assert isinstance(event, Observed)
    assert (event.session, event.user, event.created_at_us) == ("s1", "u1", CREATED_AT_US)


@pytest.mark.parametrize("fails", [False, True])
def test_what_an_inner_call_got_is_told_when_the_outermost_does_not_return_it(
    watch: Any, journal: Recorder, *, fails: bool
) -> None:
    shop = watch("end", session="session_id")
    watch("get_or_create", "shop:inner")

    def act() -> None:
        shop.inner("u1", act=returns(shop.Session("s1")))
        if fails:
            raise ValueError

    try:
        shop.call("u2", "s2", act)
    except ValueError:
        assert fails
    told = [(type(event), event.session, event.user) for event in journal.events if isinstance(event, Observed)]
    assert told == [(Observed, "s1", "u1")]


def test_a_create_inside_a_call_is_told_once(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create")
    watch("create", "shop:inner")
    shop.call("u1", act=lambda: shop.inner("u1", act=returns(shop.Session("s1"))))
    assert [(type(event), event.session) for event in journal.events] == [(Created, "s1"), (LookedUp, "")]


def test_a_failure_inside_a_call_is_told_once(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create")
    watch("create", "shop:inner")
    with pytest.raises(ZeroDivisionError):
        shop.call("u1", act=lambda: shop.inner("u2", act=lambda: 1 / 0))
    assert [(type(event), event.user) for event in journal.events] == [(CreateFailed, "u2")]


def test_a_call_that_calls_itself_is_one_lookup(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create")

    def descend(depth: int) -> object:
        return shop.call("u1", act=lambda: descend(depth - 1) if depth else shop.Session("s1"))

    descend(20)
    assert [(type(event), event.session) for event in journal.events] == [(Observed, "s1")]


def test_a_call_inside_one_of_another_scope_is_a_lookup_of_its_own(watch: Any, journal: Recorder) -> None:
    shop = watch("get", scope="thread")
    watch("get", "shop:inner", scope="chat")
    shop.call("u1", act=lambda: shop.inner("u1", act=returns(shop.Session("s1"))))
    assert [event.scope for event in journal.events] == ["chat", "thread"]


def test_two_mappings_of_one_function_are_both_told(watch: Any, journal: Recorder) -> None:
    shop = watch("get", scope="chat")
    watch("get_or_create", scope="thread", session="user_id")
    shop.call("u1", act=returns(shop.Session("s1", "u9")))
    shop.call("u1", act=returns(None))
    told = sorted((event.scope, type(event).__name__, event.session) for event in journal.events)
    assert told == [
        ("chat", "LookedUp", ""),
        ("chat", "LookedUp", "s1"),
        ("thread", "LookedUp", ""),
        ("thread", "Observed", "u9"),
    ]


def test_what_a_call_leaves_running_in_the_background_is_not_in_it(watch: Any, journal: Recorder) -> None:
    shop = watch("get", scope="chat")
    found = shop.Session("s1")

    async def main() -> None:
        later = asyncio.Event()

        async def background() -> None:
            await later.wait()
            assert call_of("chat") is None
            shop.call("u2", act=returns(found))

        tasks = []
        shop.call("u1", act=lambda: tasks.append(asyncio.ensure_future(background())) or found)
        later.set()
        await tasks[0]

    asyncio.run(main())
    assert [event.user for event in journal.events] == ["u1", "u2"]


def test_a_call_in_the_background_that_outlives_the_one_it_began_in_is_told(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create", scope="chat")

    async def main() -> None:
        later, tasks = asyncio.Event(), []

        async def background() -> Any:
            await later.wait()
            return shop.Session("s2")

        async def outer() -> Any:
            tasks.append(asyncio.ensure_future(shop.call("u2", act=background)))
            await asyncio.sleep(0)
            return shop.Session("s1")

        await shop.call("u1", act=outer)
        later.set()
        await tasks[0]

    asyncio.run(main())
    assert [(event.user, event.session) for event in journal.events] == [("u1", "s1"), ("u2", "s2")]


def test_threads_do_not_share_their_calls(watch: Any, journal: Recorder) -> None:
    shop = watch("get_or_create", scope="chat")
    together = threading.Barrier(8, timeout=10)

    def work(number: int) -> None:
        for turn in range(20):
            together.wait()
            shop.call(f"u{number}", act=lambda turn=turn: shop.Session(f"s{number}-{turn}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = sorted((event.user, event.session) for event in journal.events)
    assert told == sorted((f"u{number}", f"s{number}-{turn}") for number in range(8) for turn in range(20))
    assert all(type(event) is Observed for event in journal.events)


def test_a_configurations_calls_are_installed_together(
    shop: ModuleType, tracker: SessionTracker, journal: Recorder
) -> None:
    calls = [CallMapping("shop:call", "get", session="id"), CallMapping("shop:inner", "end", session="session_id")]
    uninstall = install_calls(calls, tracker)
    shop.call(act=returns(shop.Session("s1")))
    shop.inner(session_id="s1")
    assert [type(event) for event in journal.events] == [LookedUp, Ended]
    uninstall()
    shop.call(act=returns(shop.Session("s1")))
    assert len(journal.events) == 2


def test_a_mistake_in_a_mapping_is_told_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="kind: 'fetch'"):
        instrument("shop:call", kind="fetch")
