"""Paths of a call's mapping: what they read from arguments and results, and that reading runs no statement."""

import datetime as dt
import inspect
import sqlite3
from collections import OrderedDict, defaultdict
from typing import Any

import pytest
from pydantic import BaseModel

from session_exporter.hooks.call_paths import PathError, compile_readers, follow
from session_exporter.mappings import CallMapping


def read(function: Any, name: str, args: tuple[Any, ...] = (), result: Any = None, **paths: str) -> Any:
    """What a reader of a mapping for this function reads; keyword arguments of the call come in `args` as a dict."""
    kwargs = args[-1] if args and isinstance(args[-1], dict) else {}
    mapping = CallMapping("m:f", paths.pop("kind", "get_or_create"), **paths)
    readers = compile_readers(mapping, inspect.signature(function))
    return getattr(readers, name)("the instance", tuple(a for a in args if a is not kwargs), kwargs, result)


class Session:
    def __init__(self, id: str, user: Any = None) -> None:  # noqa: A002 - what sessions call it
        self.id = id
        self.user = user


def service(user_id: str, /, device: str = "web", *, tenant: str = "t0") -> None: ...


@pytest.mark.parametrize(
    ("path", "args", "value"),
    [
        ("user_id", ("u1",), "u1"),
        ("device", ("u1",), "web"),
        ("device", ("u1", "app"), "app"),
        ("device", ("u1", {"device": "app"}), "app"),
        ("tenant", ("u1",), "t0"),
        ("tenant", ("u1", {"tenant": "t1"}), "t1"),
    ],
)
def test_an_argument_is_read_however_it_was_given(path: str, args: tuple[Any, ...], value: str) -> None:
    assert read(service, "user", args, user=path) == value


def greet(user_id: str | None) -> None: ...


def serve(request: Any) -> None: ...


def anything(*args: Any, **kwargs: Any) -> None: ...


def test_an_argument_that_was_not_given_is_nothing() -> None:
    assert read(greet, "user", (), user="user_id") is None


def test_a_function_that_takes_anything_is_asked_for_named_arguments() -> None:
    assert read(anything, "user", ({"user_id": "u1"},), user="user_id") == "u1"


def test_a_path_goes_on_through_keys_attributes_and_indices() -> None:
    request = {"auth": [Session("x"), Session("s", user={"id": "u1"})]}
    assert read(serve, "user", ([request],), user="request.0.auth.1.user.id") == "u1"


def test_self_is_the_instance_and_result_the_result() -> None:
    class Handler:
        user_id = "u1"

    readers = compile_readers(CallMapping("m:f", "get", user="self.user_id", key="result.id"), None)
    assert readers.user is not None
    assert readers.key is not None
    assert readers.user(Handler(), (), {}, None) == "u1"
    assert readers.key(None, (), {}, Session("s1")) == "s1"


def test_a_user_that_is_no_parameter_is_refused() -> None:
    with pytest.raises(PathError, match=r"user: 'usr'"):
        compile_readers(CallMapping("m:f", "get", user="usr"), inspect.signature(service))


@pytest.mark.parametrize("kind", ["get", "get_or_create", "create"])
def test_a_session_is_read_from_the_result_before_the_argument(kind: str) -> None:
    def get(id: str) -> None: ...  # noqa: A002 - what sessions call it

    assert read(get, "session", ("asked",), Session("got"), kind=kind, session="id") == "got"
    assert read(get, "session", ("asked",), {"data": 1}, kind=kind, session="id") == "asked"


@pytest.mark.parametrize("kind", ["end", "bind"])
def test_a_session_that_ends_is_read_from_the_argument_before_the_result(kind: str) -> None:
    def end(id: str | None = None) -> None: ...  # noqa: A002 - what sessions call it

    assert read(end, "session", ("asked",), Session("got"), kind=kind, session="id") == "asked"
    assert read(end, "session", (), Session("got"), kind=kind, session="id") == "got"


def test_a_session_without_a_path_is_the_result_itself() -> None:
    assert read(service, "session", ("u1",), "s1") == "s1"


def test_nothing_is_bound_as_a_session_unless_a_path_says_so() -> None:
    assert compile_readers(CallMapping("m:f", "bind", user="user_id"), inspect.signature(service)).session is None


def test_a_member_of_a_tuple_is_read_by_its_index() -> None:
    created = dt.datetime.now(dt.UTC)
    result = (Session("s1"), created)
    assert read(service, "session", ("u1",), result, session="0.id") == "s1"
    assert read(service, "created_at", ("u1",), result, created_at="result.1") == created
    assert read(service, "session", ("u1",), (), session="0.id") is None


def test_arguments_are_read_early_and_results_late() -> None:
    signature = inspect.signature(service)
    assert compile_readers(CallMapping("m:f", "get", user="user_id", key="device"), signature).early
    assert not compile_readers(CallMapping("m:f", "get", user="result.user"), signature).early
    assert not compile_readers(CallMapping("m:f", "get", user="user_id", key="self.device"), signature).early


class Model(BaseModel):
    id: str
    owner: dict[str, int]


@pytest.mark.parametrize(
    ("value", "path", "found"),
    [
        (None, "id", None),
        ({"id": "s1"}, "id", "s1"),
        ({"id": "s1"}, "other", None),
        ({"id": "s1"}, "keys", None),
        ({7: "s7"}, "7", "s7"),
        ({"7": "s7"}, "7", "s7"),
        (["s0"], "0", "s0"),
        (["s0"], "1", None),
        (OrderedDict(id="s1"), "id", "s1"),
        (Session("s1"), "id", "s1"),
        (Session("s1"), "id.nothing", None),
        (Session("s1", Session("u1")), "user.id", "u1"),
        (Model(id="s1", owner={"id": 7}), "id", "s1"),
        (Model(id="s1", owner={"id": 7}), "owner.id", 7),
        (5, "id", None),
    ],
)
def test_a_value_is_followed(value: Any, path: str, found: Any) -> None:
    for _ in range(2):  # the class is looked at the first time
        assert follow(value, path.split(".")) == found


def test_looking_into_a_dictionary_adds_nothing_to_it() -> None:
    sessions: defaultdict[Any, Any] = defaultdict(dict)
    assert follow(sessions, ["id"]) is None
    assert follow(sessions, ["0"]) is None
    assert not sessions


def test_a_web_session_is_a_dictionary_that_knows_its_id() -> None:
    class WebSession(dict[str, Any]):
        sid = "s1"
        accessed = False

        def __getitem__(self, name: str) -> Any:
            self.accessed = True
            return super().__getitem__(name)

    session = WebSession(user="u1")
    assert follow(session, ["sid"]) == "s1"
    assert follow(session, ["user"]) == "u1"
    assert not session.accessed


def test_a_row_of_sqlite3_is_read_by_its_columns() -> None:
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    row = database.execute("SELECT 's1' AS id, 'u1' AS user_id").fetchone()
    database.close()
    assert [follow(row, [name]) for name in ("id", "user_id", "nothing", "0")] == ["s1", "u1", None, "s1"]


def test_a_property_that_raises_is_the_callers_to_count() -> None:
    class Broken:
        @property
        def id(self) -> str:
            raise LookupError("no id")

    for _ in range(2):
        with pytest.raises(LookupError):
            follow(Broken(), ["id"])


class TestSqlalchemy:
    """Objects and rows of SQLAlchemy; whatever is read, no statement runs."""

    @pytest.fixture
    def world(self) -> Any:
        sqlalchemy = pytest.importorskip("sqlalchemy")
        from sqlalchemy import Column, ForeignKey, Integer, String, create_engine, event, orm

        registry = orm.registry()

        @registry.mapped
        class User:
            __tablename__ = "users"
            id = Column(Integer, primary_key=True)
            name = Column(String)

        @registry.mapped
        class Chat:
            __tablename__ = "chats"
            tenant = Column(String, primary_key=True)
            chat_id = Column("id", Integer, primary_key=True)
            user_id = Column(Integer, ForeignKey("users.id"))
            title = orm.deferred(Column(String))
            user = orm.relationship(User)

            @property
            def label(self) -> str:
                return f"{self.title}"

        engine = create_engine("sqlite://", poolclass=sqlalchemy.pool.StaticPool)
        registry.metadata.create_all(engine)
        statements: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        with orm.Session(engine) as session:
            session.add_all([User(id=7, name="Ada"), Chat(tenant="a", chat_id=1, user_id=7, title="t")])
            session.commit()
            statements.clear()
            yield {"session": session, "Chat": Chat, "statements": statements, "select": sqlalchemy.select}
        engine.dispose()
        registry.dispose()

    def test_what_a_commit_made_an_object_forget_is_not_loaded(self, world: Any) -> None:
        chat = world["session"].query(world["Chat"]).one()
        assert (follow(chat, ["chat_id"]), follow(chat, ["user_id"])) == (1, 7)
        world["session"].commit()
        world["statements"].clear()
        assert follow(chat, ["chat_id"]) == 1
        assert follow(chat, ["tenant"]) == "a"
        assert follow(chat, ["user_id"]) is None
        assert world["statements"] == []

    def test_what_is_loaded_late_is_not_loaded(self, world: Any) -> None:
        chat = world["session"].query(world["Chat"]).one()
        world["statements"].clear()
        assert follow(chat, ["title"]) is None
        assert follow(chat, ["user", "id"]) is None
        assert follow(chat, ["label"]) is None
        assert world["statements"] == []
        assert chat.user.name == "Ada"
        world["statements"].clear()
        assert follow(chat, ["user", "id"]) == 7
        assert world["statements"] == []

    def test_an_object_that_is_not_flushed_has_no_id(self, world: Any) -> None:
        assert follow(world["Chat"](tenant="b"), ["chat_id"]) is None

    def test_a_row_is_read_by_its_columns_and_entities(self, world: Any) -> None:
        chat = world["Chat"]
        row = world["session"].execute(world["select"](chat.chat_id.label("count"), chat)).one()
        world["statements"].clear()
        assert follow(row, ["count"]) == 1
        assert follow(row, ["Chat", "user_id"]) == 7
        assert follow(row, ["1", "user_id"]) == 7
        assert follow(row, ["nothing"]) is None
        assert follow(row._mapping, ["count"]) == 1
        assert world["statements"] == []
