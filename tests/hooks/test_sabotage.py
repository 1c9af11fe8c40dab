"""Whatever breaks inside of a hook, the application's results and exceptions stay what they are.

Every function of the hooks, and of what they stand on, is made to raise in turn, while a small application works.
"""

import ast
import asyncio
import contextvars
import functools
import inspect
import pkgutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from recorder import Recorder
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, declarative_base

import session_exporter.hooks
from session_exporter import pending
from session_exporter.hooks.asgi import SessionExporterMiddleware
from session_exporter.hooks.calls import instrument
from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.hooks.sqlalchemy.sessions import watch_db_sessions
from session_exporter.hooks.wsgi import Middleware
from session_exporter.mappings import cookie
from session_exporter.tracker import SessionTracker

OTHERS = (
    "ambient",
    "callsites",
    "contexts",
    "course",
    "failures",
    "pending",
    "reporter",
    "surroundings",
    "traces",
    "wrapped_calls",
)
Base = declarative_base()
FUTURE: dict[str, Any] = {"future": True} if sa.__version__.startswith("1.4.") else {}
pytestmark = pytest.mark.slow


class Sabotage(Exception):
    """Nobody but the test raises it."""


class Chat(Base):
    __tablename__ = "chats"

    id = sa.Column(sa.String, primary_key=True)
    who = sa.Column(sa.String)
    status = sa.Column(sa.String)


def find_chat(engine: Engine, who: str) -> str | None:
    """The application's own function, which is wrapped."""
    with Session(engine, future=True) as session:
        found = session.scalars(sa.select(Chat.id).filter_by(who=who, status="active")).first()
        if found is None:
            found = f"chat-of-{who}"
            session.add(Chat(id=found, who=who, status="active"))
            session.commit()
        return found


async def find_later(engine: Engine, who: str) -> str | None:
    return find_chat(engine, who)


def work(engine: Engine) -> list[object]:
    """All that an application does with its sessions; returns what it saw, exceptions included."""
    seen: list[object] = [find_chat(engine, "ann"), find_chat(engine, "ann"), asyncio.run(find_later(engine, "bob"))]
    with engine.connect() as connection:
        try:
            connection.execute(sa.insert(Chat).values(id="chat-of-ann", who="ann"))
        except sa.exc.IntegrityError as error:
            seen.append(type(error))
        connection.rollback()
        connection.exec_driver_sql("INSERT INTO chats VALUES ('chat-3', 'cat', 'active')")
        with connection.begin_nested():
            connection.execute(sa.text("INSERT INTO chats VALUES ('chat-4', 'dan', 'active')"))
        changed = connection.execute(sa.update(Chat).where(Chat.id == "chat-3").values(status="closed"))
        connection.commit()
        seen += [changed.rowcount, connection.execute(sa.select(Chat).order_by(Chat.id)).all()]
        connection.execute(sa.delete(Chat))
        connection.commit()
    with Session(engine, future=True) as session:
        session.add_all([Chat(id="chat-5", who="eve", status="active"), Chat(id="chat-5", who="eve")])
        try:
            session.flush()
        except (sa.exc.IntegrityError, sa.exc.SAWarning) as error:
            seen.append(type(error))
    seen += [serve_asgi(engine), serve_wsgi(engine)]
    try:
        find_chat(None, "ann")
    except (AttributeError, sa.exc.ArgumentError, sa.exc.UnboundExecutionError) as error:
        seen.append(type(error))
    return seen


def serve_asgi(engine: Engine) -> list[object]:
    sent: list[object] = []

    async def answer(scope: dict[str, Any], _receive: object, send: Callable[[object], Any]) -> None:
        scope["user"] = {"id": "ann"}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(find_chat(engine, "ann")).encode()})

    async def collect(message: object) -> None:
        sent.append(message)

    application = SessionExporterMiddleware(answer, tracker=TRACKER, expect=cookie("sid"), user="user.id")
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"cookie", b"sid=s-1")]}
    asyncio.run(application(scope, collect, collect))
    return sent


def serve_wsgi(engine: Engine) -> list[object]:
    sent: list[object] = []

    def answer(environ: dict[str, Any], start: Callable[..., object]) -> Iterator[bytes]:
        environ["user"] = "bob"
        start("200 OK", [])
        yield str(find_chat(engine, "bob")).encode()

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_COOKIE": "sid=s-1"}
    body = Middleware(answer, tracker=TRACKER, expect=cookie("sid"), user="user")(environ, lambda *a: sent.append(a))
    sent += body
    if hasattr(body, "close"):
        body.close()
    return sent


def fresh_work() -> list[object]:
    """Work with a database, and in a context, of its own: what a broken hook leaves behind stays there."""
    return contextvars.copy_context().run(_fresh_work)


def _fresh_work() -> list[object]:
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, **FUTURE)
    Base.metadata.create_all(engine)
    try:
        return work(engine)
    finally:
        engine.dispose()


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(session_exporter.hooks.__path__, "session_exporter.hooks."):
        if not any(word in found.name for word in ("opentelemetry", "stores", "autoload", "aiohttp", "fastapi")):
            yield import_module(found.name)
    for name in OTHERS:
        yield import_module(f"session_exporter.{name}")


def _targets() -> list[str]:
    """Every function and method of these modules, as `module:qualname`."""
    found = []
    for module in _modules():
        for name, value in vars(module).items():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                found.append(f"{module.__name__}:{name}")
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                methods = (each for each, method in vars(value).items() if isinstance(method, FunctionType))
                found += [f"{module.__name__}:{name}.{each}" for each in methods]
    return sorted(found)


# The last resort, which all others call.
LAST_RESORTS = ("count_failure", "__enter__", "__exit__")
# What the application or a library calls in the place of its own, and what hands out a thing that is held: there is
# nothing in these that could break, and what they call is broken in its turn.
PASSAGES = {
    "hooks.asgi:AsgiRequests.__init__",
    "hooks.asgi:AsgiRequests.serve",
    "hooks.call_running:_Begun.__del__",
    "hooks.call_running:_Begun.__init__",
    "hooks.call_running:_Begun.take",
    "hooks.call_running:_named",
    "hooks.sqlalchemy.buffer:Buffer.__init__",
    "hooks.sqlalchemy.buffer:Buffer.__len__",
    "hooks.sqlalchemy.operations:Operations._clear",
    "hooks.sqlalchemy.operations:Operations._work",
    "hooks.sqlalchemy.pools:PoolWatch.look_at_all",
    "hooks.sqlalchemy.results:_Watch.__del__",
    "hooks.sqlalchemy.results:_Watch.__init__",
    "hooks.sqlalchemy.seams:_first",
    "hooks.sqlalchemy.watch:Watch.use_of",
    "hooks.wsgi:WsgiRequests.__init__",
    "hooks.wsgi:_Body.__del__",
    "hooks.wsgi:_Body.__init__",
    "hooks.wsgi:_Body.__iter__",
    "hooks.wsgi:_Body.close",
    "hooks.wsgi:_Parts.__init__",
    "reporter:Reporter.__init__",
}
# The constructors of the application's own middleware tell a wrong argument.
ENTRANCES = ("SessionExporterMiddleware", "Middleware")
JOURNAL = Recorder()
TRACKER = SessionTracker(journal=JOURNAL)


def _shields(function: Callable[..., object]) -> bool:
    """Whether a function handles whatever is raised inside of it: then it is the rest that it is to be tried with."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and "Exception" in ast.unparse(node.type or ast.Name("Exception")):
            return True
        if isinstance(node, ast.With) and any("shield" in ast.unparse(item) for item in node.items):
            return True
    return False


def _breakable() -> Iterator[str]:
    for target in _targets():
        module_name, qualname = target.split(":")
        function: Any = sys.modules[module_name]
        for word in qualname.split("."):
            function = inspect.getattr_static(function, word)
        name = qualname.rpartition(".")[2]
        if function.__code__.co_filename != sys.modules[module_name].__file__:  # a dataclass has generated it
            continue
        if target.removeprefix("session_exporter.") in PASSAGES:
            continue
        if name not in LAST_RESORTS and not qualname.startswith(ENTRANCES) and not _shields(function):
            yield target


def _broken(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def broken(*_: object, **__: object) -> object:
        raise Sabotage(function.__qualname__)

    return broken


def _replace(patch: pytest.MonkeyPatch, target: str) -> None:
    """Break a function wherever it is known by a name."""
    module_name, qualname = target.split(":")
    owner: Any = sys.modules[module_name]
    *classes, name = qualname.split(".")
    for each in classes:
        owner = getattr(owner, each)
    original = vars(owner)[name]
    broken = _broken(original)
    patch.setattr(owner, name, broken)
    for module in [
        each for each in sys.modules.values() if getattr(each, "__name__", "").startswith("session_exporter")
    ]:
        for known_as, value in list(vars(module).items()):
            if value is original:
                patch.setattr(module, known_as, broken)


@pytest.fixture(scope="module")
def undisturbed() -> list[object]:
    """What the application sees without any hook."""
    return fresh_work()


@pytest.fixture
def hooks() -> Iterator[None]:
    mapping = {"id": "id", "user": "who", "active": {"status": ["active"]}, "tracker": TRACKER}
    uninstall = [
        map_table("chats", scope="chat", **mapping),
        watch_db_sessions(TRACKER),
        instrument(f"{__name__}:find_chat", kind="get_or_create", scope="chat", user="who", tracker=TRACKER),
        instrument(f"{__name__}:find_later", kind="get_or_create", scope="chat", user="who", tracker=TRACKER),
    ]
    yield
    for each in uninstall:
        each()
    pending._pending.clear()


def test_unbroken_the_hooks_see_the_application_work(undisturbed: list[object], hooks: None) -> None:
    JOURNAL.events.clear()
    JOURNAL.errors.clear()
    assert fresh_work() == undisturbed
    kinds = {type(event).__name__ for event in JOURNAL.events}
    assert kinds == {"Created", "LookedUp", "Ended", "Conflicted", "CreateFailed", "DbSession", "Unmet"}
    assert not JOURNAL.errors


@pytest.mark.parametrize("target", list(_breakable()))
def test_what_breaks_inside_of_a_hook_is_not_seen_by_the_application(
    target: str, undisturbed: list[object], hooks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _replace(patch, target)
        assert fresh_work() == undisturbed
