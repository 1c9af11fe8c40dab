"""Wrapped functions of every sort: they return, raise, yield and look as if nobody watched."""

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import sys
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from recorder import Recorder
from written import application

from session_exporter.core.events import CreateFailed, LookedUp, Observed
from session_exporter.hooks.calls import instrument
from session_exporter.tracker import SessionTracker
from session_exporter.wrapped_calls import call_of

MODULE = '''
    import asyncio, contextlib, functools, types

    class Session:
        def __init__(self, id):
            self.id = id

    def plain(user_id: "str | None" = None, *, fail: bool = False) -> "Session":
        """Says what it does."""
        if fail:
            raise LookupError("theirs")
        return Session(f"of {user_id}")

    async def coroutine(user_id=None, *, fail=False):
        """Says what it does."""
        await asyncio.sleep(0)
        return plain(user_id, fail=fail)

    def returning_coroutine(user_id=None, *, fail=False):
        return coroutine(user_id, fail=fail)

    def returning_task(user_id=None, *, fail=False):
        return asyncio.ensure_future(coroutine(user_id, fail=fail))

    @types.coroutine
    def old_coroutine(user_id):
        yield
        return plain(user_id)

    class Entered:
        """Of the kind that aiohttp's client returns: to be awaited, or to be entered."""

        def __init__(self, coroutine):
            self._coroutine = coroutine

        def __await__(self):
            return self._coroutine.__await__()

        async def __aenter__(self):
            return await self._coroutine

        async def __aexit__(self, *error):
            pass

        def send(self, value):
            return self._coroutine.send(value)

        def throw(self, error):
            return self._coroutine.throw(error)

    def returning_entered(user_id):
        return Entered(coroutine(user_id))

    def generator(user_id=None, *, fail=False):
        """Says what it does."""
        log.append("begins")
        try:
            answer = yield plain(user_id, fail=fail)
            log.append(answer)
            yield "second"
        finally:
            log.append("ends")
        return "returned"

    async def stream(user_id=None, *, fail=False):
        """Says what it does."""
        log.append("begins")
        await asyncio.sleep(0)
        try:
            answer = yield plain(user_id, fail=fail)
            log.append(answer)
            yield "second"
        finally:
            await asyncio.sleep(0)
            log.append("ends")

    def empty_generator():
        return
        yield

    async def empty_stream():
        return
        yield

    @contextlib.contextmanager
    def managed(user_id):
        yield plain(user_id)

    @contextlib.asynccontextmanager
    async def managed_stream(user_id):
        yield plain(user_id)

    async def dependency(user_id):
        yield plain(user_id)
        log.append("ends")

    def decorated_by(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return function(*args, **kwargs)
        return inner

    decorated = decorated_by(plain)
    partial = functools.partial(plain, "u1")

    @functools.lru_cache
    def cached(user_id):
        return plain(user_id)

    class Callable:
        def __call__(self, user_id):
            return plain(user_id)

    instance = Callable()

    class Service:
        """A service."""
        name = "service"

        def method(self, user_id):
            return plain(user_id)

        async def coroutine(self, user_id):
            return plain(user_id)

        @classmethod
        def of_class(cls, user_id):
            return plain(f"{user_id} by {cls.__name__}")

        @staticmethod
        def static(user_id):
            return plain(user_id)

        @functools.lru_cache
        def cached(self, user_id):
            return plain(user_id)

        partial = functools.partialmethod(method, "u1")

        def __init__(self, id="made"):
            self.id = id

        class Nested:
            def method(self, user_id):
                return plain(user_id)

    class Inheriting(Service):
        pass

    class Overriding(Service):
        def method(self, user_id):
            return super().method(f"{user_id} again")

    service = Service()
    log = []
'''


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ModuleType]:
    with application(tmp_path) as app:
        yield app.load("shop", MODULE)


@pytest.fixture
def watch(shop: ModuleType, tracker: SessionTracker) -> Iterator[Callable[..., ModuleType]]:
    undo = []

    def watch(name: str, kind: str = "get_or_create", session: str = "id", **more: Any) -> ModuleType:
        undo.append(instrument(f"shop:{name}", kind=kind, session=session, tracker=tracker, **more))
        return shop

    yield watch
    for each in reversed(undo):
        each()


def told(journal: Recorder) -> list[tuple[type, str, str]]:
    assert not journal.errors
    return [(type(event), event.session, event.user) for event in journal.events]


@pytest.mark.parametrize("name", ["plain", "decorated", "cached", "instance"])
def test_whatever_can_be_called_is_watched(watch: Any, journal: Recorder, name: str) -> None:
    shop = watch(name, user="user_id")
    assert getattr(shop, name)("u1").id == "of u1"
    assert getattr(shop, name)(user_id="u2").id == "of u2"
    assert told(journal) == [(Observed, "of u1", "u1"), (Observed, "of u2", "u2")]


def test_a_partial_function_is_watched(watch: Any, journal: Recorder) -> None:
    assert watch("partial").partial().id == "of u1"
    assert told(journal) == [(Observed, "of u1", "")]


@pytest.mark.parametrize(
    ("name", "call", "session"),
    [
        ("Service.method", lambda shop: shop.Service().method("u1"), "of u1"),
        ("Service.method", lambda shop: shop.Service().method(user_id="u1"), "of u1"),
        ("Service.method", lambda shop: shop.Service.method(shop.service, "u1"), "of u1"),
        ("Service.method", lambda shop: shop.Inheriting().method("u1"), "of u1"),
        ("Service.of_class", lambda shop: shop.Service.of_class("u1"), "of u1 by Service"),
        ("Service.of_class", lambda shop: shop.Inheriting().of_class("u1"), "of u1 by Inheriting"),
        ("Service.static", lambda shop: shop.Service.static("u1"), "of u1"),
        ("Service.static", lambda shop: shop.Service().static("u1"), "of u1"),
        ("Service.cached", lambda shop: shop.service.cached("u1"), "of u1"),
        ("Service.Nested.method", lambda shop: shop.Service.Nested().method("u1"), "of u1"),
        ("Inheriting.method", lambda shop: shop.Inheriting().method("u1"), "of u1"),
        ("service.method", lambda shop: shop.service.method("u1"), "of u1"),
    ],
)
def test_methods_of_every_sort_are_watched(
    watch: Any, journal: Recorder, name: str, call: Callable[[ModuleType], Any], session: str
) -> None:
    shop = watch(name, user="user_id")
    assert call(shop).id == session
    assert told(journal) == [(Observed, session, "u1")]


def test_a_partial_method_is_watched(watch: Any, journal: Recorder) -> None:
    assert watch("Service.partial", user="self.name").Service().partial().id == "of u1"
    assert told(journal) == [(Observed, "of u1", "service")]


def test_self_is_read_of_a_method(watch: Any, journal: Recorder) -> None:
    watch("Service.method", key="self.name").Service().method("u1")
    assert journal.events[0].key == "service"


def test_what_a_constructor_makes_is_read_of_self(watch: Any, journal: Recorder) -> None:
    shop = watch("Service.__init__", kind="create", session="self.id")
    assert isinstance(shop.Service("s1"), shop.Service)
    assert [event.session for event in journal.events] == ["s1"]


def test_what_a_subclass_overrides_is_watched_where_it_calls_the_base(watch: Any, journal: Recorder) -> None:
    watch("Service.method", user="user_id").Overriding().method("u1")
    assert told(journal) == [(Observed, "of u1 again", "u1 again")]


def test_watching_what_a_subclass_inherits_leaves_the_base_alone(watch: Any, journal: Recorder) -> None:
    shop = watch("Inheriting.method")
    shop.Service().method("u1")
    assert told(journal) == []


def test_base_and_subclass_watched_are_one_lookup(watch: Any, journal: Recorder) -> None:
    shop = watch("Service.method")
    watch("Inheriting.method")
    shop.Inheriting().method("u1")
    assert told(journal) == [(Observed, "of u1", "")]


# What runs later


@pytest.mark.parametrize("name", ["coroutine", "returning_coroutine", "returning_task"])
def test_what_is_awaited_is_judged_by_what_it_returns(watch: Any, journal: Recorder, name: str) -> None:
    shop = watch(name, user="user_id")

    async def main() -> None:
        assert (await getattr(shop, name)("u1")).id == "of u1"
        with pytest.raises(LookupError, match="theirs"):
            await getattr(shop, name)("u2", fail=True)
        cancelled = asyncio.ensure_future(getattr(shop, name)("u3"))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await asyncio.sleep(0)

    asyncio.run(main())
    assert told(journal) == [(Observed, "of u1", "u1"), (CreateFailed, "", "u2")]
    assert all("test_calls_functions.py" in event.sites[0] for event in journal.events)


def test_a_generator_that_can_be_awaited_still_can(watch: Any, journal: Recorder) -> None:
    shop = watch("old_coroutine", user="user_id")

    async def main() -> None:
        assert (await shop.old_coroutine("u1")).id == "of u1"

    asyncio.run(main())
    assert told(journal) == [(Observed, "of u1", "u1")]


def test_what_can_be_awaited_or_entered_still_can_be_both(watch: Any) -> None:
    shop = watch("returning_entered", user="user_id")

    async def main() -> None:
        assert (await shop.returning_entered("u1")).id == "of u1"
        async with shop.returning_entered("u1") as session:
            assert session.id == "of u1"

    asyncio.run(main())


def test_a_method_that_is_a_coroutine_function_is_watched(watch: Any, journal: Recorder) -> None:
    shop = watch("Service.coroutine", user="user_id")
    assert asyncio.run(shop.service.coroutine("u1")).id == "of u1"
    assert told(journal) == [(Observed, "of u1", "u1")]


def test_a_hundred_tasks_at_once_do_not_share_their_calls(
    watch: Any, journal: Recorder, tracker: SessionTracker
) -> None:
    shop = watch("coroutine", scope="chat", user="")
    watch("Service.coroutine", kind="get", scope="chat", user="")

    async def serve(number: int) -> None:
        with tracker.request(user_id=f"u{number}", request_id=f"r{number}"):
            await shop.service.coroutine(number)
            await asyncio.gather(*(shop.coroutine(number) for _ in range(3)))

    async def main() -> None:
        await asyncio.gather(*(serve(number) for number in range(100)))

    asyncio.run(main())
    got = sorted((event.session, event.user, event.request) for event in journal.events)
    assert got == sorted((f"of {number}", f"u{number}", f"r{number}") for number in range(100) for _ in range(4))


def test_a_coroutine_that_nobody_awaits_is_complained_about_once(watch: Any, journal: Recorder) -> None:
    shop = watch("coroutine")
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        shop.coroutine("u1")
        gc.collect()
        shop.coroutine("u1").close()
        gc.collect()
    assert [str(complaint.message) for complaint in complaints] == ["coroutine 'coroutine' was never awaited"]
    assert told(journal) == []


def test_a_call_that_does_not_fit_the_signature_fails_at_once_as_before(watch: Any) -> None:
    shop = watch("coroutine")
    with pytest.raises(TypeError, match="unexpected keyword"):
        shop.coroutine(nobody="u1")


def test_an_error_that_is_awaited_has_one_frame_more(watch: Any) -> None:
    shop = watch("coroutine")

    async def main() -> None:
        await shop.coroutine("u1", fail=True)

    with pytest.raises(LookupError) as caught:
        asyncio.run(main())
    files = [Path(entry.path).name for entry in caught.traceback]
    assert files[-4:] == ["test_calls_functions.py", "call_running.py", "shop.py", "shop.py"]
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["generator", "decorated_generator"])
def test_a_generators_session_is_what_it_yields_first(watch: Any, journal: Recorder, name: str) -> None:
    shop = watch("generator", user="user_id")
    if name == "decorated_generator":
        shop.decorated_generator = shop.decorated_by(shop.generator)
    generator = getattr(shop, name)("u1")
    assert shop.log == []
    assert journal.events == []
    assert next(generator).id == "of u1"
    assert told(journal) == [(Observed, "of u1", "u1")]
    assert generator.send("sent") == "second"
    with pytest.raises(StopIteration) as stopped:
        next(generator)
    assert stopped.value.value == "returned"
    assert shop.log == ["begins", "sent", "ends"]
    assert len(journal.events) == 1


def test_a_generator_handles_what_is_thrown_into_it(watch: Any) -> None:
    shop = watch("generator")
    generator = shop.generator("u1")
    next(generator)
    thrown = KeyError("theirs")
    with pytest.raises(KeyError) as caught:
        generator.throw(thrown)
    assert caught.value is thrown
    assert (thrown.__context__, thrown.__cause__) == (None, None)
    closed = shop.generator("u1")
    next(closed)
    closed.close()
    assert shop.log == ["begins", "ends", "begins", "ends"]


def test_a_generator_that_goes_on_after_an_error_does_so(watch: Any, shop: ModuleType) -> None:
    def stubborn() -> Iterator[str]:
        try:
            yield "first"
        except ValueError:
            yield "caught"
        raise KeyError

    shop.stubborn = stubborn
    for generator in (stubborn(), watch("stubborn", session="").stubborn()):
        next(generator)
        assert generator.throw(ValueError()) == "caught"
        with pytest.raises(KeyError) as caught:
            next(generator)
        assert caught.value.__context__ is None


def test_a_generator_that_raises_first_is_a_failed_create(watch: Any, journal: Recorder) -> None:
    shop = watch("generator")
    with pytest.raises(LookupError):
        next(shop.generator("u1", fail=True))
    assert told(journal) == [(CreateFailed, "", "")]


def test_a_generator_that_yields_nothing_found_nothing(watch: Any, journal: Recorder) -> None:
    shop = watch("empty_generator")
    watch("empty_stream")

    async def main() -> list[Any]:
        return [each async for each in shop.empty_stream()]

    assert list(shop.empty_generator()) == []
    assert asyncio.run(main()) == []
    assert told(journal) == [(LookedUp, "", ""), (LookedUp, "", "")]


def test_an_asynchronous_generators_session_is_what_it_yields_first(watch: Any, journal: Recorder) -> None:
    shop = watch("stream", user="user_id")

    async def main() -> None:
        stream = shop.stream("u1")
        assert (await anext(stream)).id == "of u1"
        assert told(journal) == [(Observed, "of u1", "u1")]
        assert await stream.asend("sent") == "second"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        thrown, stream = KeyError("theirs"), shop.stream("u2")
        await anext(stream)
        with pytest.raises(KeyError) as caught:
            await stream.athrow(thrown)
        assert caught.value is thrown
        assert thrown.__context__ is None
        stream = shop.stream("u3")
        await anext(stream)
        await stream.aclose()
        with pytest.raises(LookupError):
            await anext(shop.stream("u4", fail=True))

    asyncio.run(main())
    assert shop.log == ["begins", "sent", "ends", *["begins", "ends"] * 3]
    assert told(journal)[1:] == [(Observed, "of u2", "u2"), (Observed, "of u3", "u3"), (CreateFailed, "", "u4")]


def test_an_asynchronous_generator_that_is_left_open_is_closed_once_by_its_loop(watch: Any) -> None:
    shop, complaints = watch("stream"), []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        stream = shop.stream("u1")
        await anext(stream)
        return stream

    left = asyncio.run(main())
    assert shop.log == ["begins", "ends"]
    assert complaints == []
    del left


def test_a_context_managers_session_is_what_is_entered(watch: Any, journal: Recorder) -> None:
    shop = watch("managed", user="user_id")
    watch("managed_stream", user="user_id")

    async def main() -> None:
        async with shop.managed_stream("u2") as session:
            assert session.id == "of u2"
        with pytest.raises(ValueError, match="theirs"):
            async with shop.managed_stream("u3"):
                raise ValueError("theirs")

    with shop.managed("u1") as session:
        assert session.id == "of u1"
    with pytest.raises(ValueError, match="theirs"), shop.managed("u4"):
        raise ValueError("theirs")
    asyncio.run(main())
    assert [user for _, _, user in told(journal)] == ["u1", "u4", "u2", "u3"]


def test_only_the_first_yield_is_inside_of_the_call(watch: Any, shop: ModuleType) -> None:
    inside = []

    def look() -> Iterator[str]:
        inside.append(call_of("chat") is not None)
        yield "s1"
        inside.append(call_of("chat") is not None)

    shop.look = look
    watch("look", session="", scope="chat")
    looking = shop.look()
    next(looking)
    inside.append(call_of("chat") is not None)
    assert next(looking, None) is None
    assert inside == [True, False, False]


# What they look like

SORTS = ["plain", "coroutine", "generator", "stream", "cached", "decorated", "Service.method", "Service.coroutine"]
SORTS += ["Service.of_class", "Service.static"]


def described(function: Any) -> list[object]:
    checks = (inspect.iscoroutinefunction, asyncio.iscoroutinefunction, inspect.isgeneratorfunction)
    checks += (inspect.isasyncgenfunction, inspect.isfunction, inspect.ismethod, inspect.isroutine, callable)
    names = [getattr(function, name) for name in ("__name__", "__qualname__", "__module__", "__doc__")]
    hints = typing.get_type_hints(function)
    return [
        *names,
        inspect.signature(function),
        hints,
        inspect.getsource(function),
        *(check(function) for check in checks),
    ]


@pytest.mark.parametrize("name", SORTS)
def test_a_wrapped_function_looks_like_the_function(watch: Any, shop: ModuleType, name: str) -> None:
    before = functools.reduce(getattr, name.split("."), shop)
    hash_before, looks_before = hash(before), described(before)
    watch(name)
    after = functools.reduce(getattr, name.split("."), shop)
    assert type(after) is not type(before)
    assert described(after) == looks_before
    assert isinstance(after, type(before))
    assert (hash(after), after == before, before == after) == (hash_before, True, True)


@pytest.mark.parametrize("name", [name for name in SORTS if name != "decorated"])
def test_a_wrapped_function_is_pickled_by_name_and_never_copied(watch: Any, shop: ModuleType, name: str) -> None:
    watch(name)
    function = functools.reduce(getattr, name.split("."), shop)
    assert pickle.loads(pickle.dumps(function)) == function
    assert copy.copy(function) is function
    assert copy.deepcopy({"of": function})["of"] is function


def test_a_wrapped_method_is_pickled_with_its_object(watch: Any, journal: Recorder) -> None:
    shop = watch("Service.method")
    method = pickle.loads(pickle.dumps(shop.Service("s9").method))
    assert (method.__self__.id, method("u1").id) == ("s9", "of u1")
    assert told(journal) == [(Observed, "of u1", "")]


def test_what_runs_later_has_the_names_of_what_it_stands_for(watch: Any) -> None:
    for name in ("coroutine", "generator", "stream"):
        shop = watch(name)
        later = getattr(shop, name)("u1")
        assert (later.__name__, later.__qualname__) == (name, name)
        assert (inspect.iscoroutine(later), inspect.isgenerator(later), inspect.isasyncgen(later)) == (
            name == "coroutine",
            name == "generator",
            name == "stream",
        )
        if name == "coroutine":
            later.close()


def test_an_argument_is_kept_no_longer_than_before(watch: Any) -> None:
    shop = watch("generator", user="user_id")

    class User(str):
        __slots__ = ()

    user = User("u1")
    generator = shop.generator(user)
    next(generator)
    references = sys.getrefcount(user)
    generator.close()
    assert references - sys.getrefcount(user) == 1  # the function's own


def test_fastapi_takes_a_wrapped_dependency_for_what_it_is(watch: Any, journal: Recorder) -> None:
    fastapi, httpx = pytest.importorskip("fastapi"), pytest.importorskip("httpx")
    app = fastapi.FastAPI()
    shop = watch("dependency", user="user_id")
    watch("plain", user="user_id")
    streamed, made = fastapi.Depends(shop.dependency), fastapi.Depends(shop.plain)

    @app.get("/")
    async def read(one: Any = streamed, two: Any = made) -> list[str]:
        return [one.id, two.id]

    async def main() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            assert (await client.get("/", params={"user_id": "u1"})).json() == ["of u1", "of u1"]
            app.dependency_overrides[shop.plain] = lambda: shop.Session("other")
            assert (await client.get("/", params={"user_id": "u1"})).json() == ["of u1", "other"]

    asyncio.run(main())
    assert told(journal) == [(Observed, "of u1", "u1")] * 3
    assert shop.log == ["ends"] * 2
