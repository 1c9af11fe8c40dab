"""The application never notices: with each step of the hook made to fail, its results and errors are the same."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from recorder import Recorder
from written import application

from session_exporter.hooks.calls import instrument
from session_exporter.tracker import SessionTracker

MODULE = """
    import asyncio, contextlib

    class Session:
        def __init__(self, id):
            self.id = id
            self.created_at = 1_700_000_000

    one = Session("s1")

    def plain(user, fail=False):
        if fail:
            raise LookupError("theirs")
        return one

    async def coroutine(user, fail=False):
        return plain(user, fail)

    def task(user, fail=False):
        return asyncio.ensure_future(coroutine(user, fail))

    def generator(user, fail=False):
        got = yield plain(user, fail)
        yield got

    async def stream(user, fail=False):
        got = yield plain(user, fail)
        yield got

    @contextlib.contextmanager
    def managed(user, fail=False):
        yield plain(user, fail)

    def descend(depth):
        return plain(depth) if not depth else descend(depth - 1)
"""
KINDS = ("get", "get_or_create", "create", "end", "bind")
INVOCATION = "session_exporter.hooks.call_invocation"
STEPS = [
    *(
        f"{INVOCATION}.Invocation.{name}"
        for name in ("__init__", "enter", "leave", "resumed", "detach", "finish", "fail")
    ),
    *(f"{INVOCATION}.Invocation.{name}" for name in ("__enter__", "__exit__", "session", "surroundings")),
    *(
        f"{INVOCATION}.{name}"
        for name in ("call_of", "create_failure", "is_conflict", "canonical_id", "perf_counter_ns")
    ),
    "session_exporter.hooks.call_running.Several",
    "session_exporter.hooks.call_judgement.current_request",
    "session_exporter.hooks.call_paths.follow",
    "session_exporter.pending.is_pending",
    "session_exporter.pending.is_watched",
    "session_exporter.reporter.call_sites",
    "session_exporter.reporter.current_request",
    "session_exporter.reporter.canonical_id",
    "append",
]


class Broken(Exception):
    pass


def broken(*_: object, **__: object) -> Any:
    raise Broken


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ModuleType]:
    with application(tmp_path) as app:
        yield app.load("shop", MODULE)


@pytest.fixture
def watch(tracker: SessionTracker) -> Iterator[Callable[..., None]]:
    undo = []

    def watch(name: str, kind: str, **more: Any) -> None:
        undo.append(
            instrument(
                f"shop:{name}", kind=kind, user="user.name", key="user.name", session="id", tracker=tracker, **more
            )
        )

    yield watch
    for each in undo:
        each()


class User:
    name = "u1"


def outcomes(shop: ModuleType) -> list[object]:
    """What every sort of function returns and raises."""

    def result_of(act: Callable[[], object]) -> object:
        try:
            return act()
        except LookupError as error:
            return type(error), str(error), error.__context__, error.__cause__

    async def collect(fail: bool) -> list[object]:  # noqa: FBT001 - of a test
        stream = shop.stream(User(), fail)
        got: list[object] = [await anext(stream), await stream.asend("sent")]
        await stream.aclose()
        return got

    def generate(fail: bool) -> list[object]:  # noqa: FBT001 - of a test
        generator = shop.generator(User(), fail)
        return [next(generator), generator.send("sent"), list(generator)]

    def manage(fail: bool) -> object:  # noqa: FBT001 - of a test
        with shop.managed(User(), fail) as session:
            return session

    async def awaited(name: str, fail: bool) -> object:  # noqa: FBT001 - of a test
        return await getattr(shop, name)(User(), fail)

    return [
        result_of(act)
        for fail in (False, True)
        for act in (
            lambda fail=fail: shop.plain(User(), fail),
            lambda fail=fail: asyncio.run(awaited("coroutine", fail)),
            lambda fail=fail: asyncio.run(awaited("task", fail)),
            lambda fail=fail: generate(fail),
            lambda fail=fail: asyncio.run(collect(fail)),
            lambda fail=fail: manage(fail),
        )
    ]


SORTS = ("plain", "coroutine", "task", "generator", "stream", "managed")


@pytest.mark.parametrize("step", STEPS)
def test_the_application_is_the_same_when_a_step_of_the_hook_fails(  # noqa: PLR0917 - fixtures
    shop: ModuleType, watch: Any, journal: Recorder, tracker: SessionTracker, monkeypatch: Any, step: str
) -> None:
    expected = outcomes(shop)
    for kind in KINDS:
        for name in SORTS:
            watch(name, kind, created_at="created_at", scope=kind)
    with tracker.request():
        assert outcomes(shop) == expected
        assert not journal.errors
        monkeypatch.setattr(*([tracker._outlet, step] if step == "append" else [step]), broken)
        # What fails to leave a call leaves it behind, in a context that is not the next test's.
        assert copy_context().run(outcomes, shop) == expected
    monkeypatch.undo()
    assert journal.errors["calls"]


def test_a_property_of_the_application_that_raises_is_counted(shop: ModuleType, watch: Any, journal: Recorder) -> None:
    class Strange:
        @property
        def name(self) -> str:
            raise RuntimeError("nobody")

        id = name

    watch("plain", "get_or_create")
    shop.one = strange = Strange()
    assert shop.plain(User()) is strange
    assert journal.errors == {"calls": 1}
    assert journal.events == []
    shop.one = shop.Session("s1")
    shop.plain(Strange())
    assert [(event.session, event.user) for event in journal.events] == [("s1", "")]


def test_a_result_that_is_no_id_is_counted(shop: ModuleType, watch: Any, journal: Recorder) -> None:
    watch("plain", "get_or_create")
    shop.one = shop.Session(3.5)
    assert shop.plain(User()).id == 3.5
    assert journal.errors == {"calls": 1}


def test_a_stack_that_is_nearly_full_is_the_applications_own_matter(shop: ModuleType, watch: Any) -> None:
    def deepest() -> int:
        for depth in range(sys.getrecursionlimit()):
            try:
                shop.descend(depth)
            except RecursionError:
                return depth
        raise AssertionError

    without = deepest()
    watch("plain", "get_or_create")
    # One frame of ours stands on the stack while the function runs, and one below it begins the call.
    assert without - deepest() <= 2


def test_without_a_journal_the_application_goes_on(
    shop: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    tracker = SessionTracker(tmp_path / "file" / "directory")
    undo = instrument("shop:plain", kind="get_or_create", session="id", tracker=tracker)
    try:
        assert shop.plain(User()) is shop.one
    finally:
        undo()
        tracker.close()
