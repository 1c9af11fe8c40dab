"""What the sections about hooks accept: tables, calls, stores, middleware and database sessions."""

from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.config import Config, parse
from session_exporter.core.scopes import END_REASONS, ScopeRules
from session_exporter.mappings import (
    CALL_KINDS,
    FRAMEWORKS,
    CallMapping,
    Expectation,
    MiddlewareMapping,
    StoreMapping,
    TableMapping,
    cookie,
    header,
    path,
    value_texts,
)


def test_every_key_of_a_table_arrives_where_it_belongs() -> None:
    config = parse(
        dedent("""\
            tables:
              - table: app.conversation_sessions
                scope: conversation
                id: [app_name, user_id, id]
                id_prefix: "s:"
                user: data
                user_path: user.id
                key: device
                active: {status: active, deleted_at: null, open: [true, 2]}
                created_at: created_at
                updated_at: updated_at
                end_reason: ended_reason
                rows: sessions
                restart_on: [task_id]
              - {table: message_store, scope: history, id: session_id, rows: messages}
            """),
        "f.yml",
    )
    assert config.tables == (
        TableMapping(
            table="app.conversation_sessions",
            scope="conversation",
            id=("app_name", "user_id", "id"),
            id_prefix="s:",
            user="data",
            user_path="user.id",
            key=("device",),
            active={
                "status": value_texts(["active"]),
                "deleted_at": value_texts([None]),
                "open": value_texts([True, 2]),
            },
            created_at="created_at",
            updated_at="updated_at",
            end_reason="ended_reason",
            rows="sessions",
            restart_on=("task_id",),
        ),
        TableMapping("message_store", "history", id=("session_id",), rows="messages"),
    )


def test_every_key_of_a_call_arrives_where_it_belongs() -> None:
    config = parse(
        dedent("""\
            calls:
              - {call: "app.services:Sessions.get", kind: get_or_create, scope: chat, session: id, user: user_id,
                 key: device.id, created_at: created_at}
              - {call: app.services:close, kind: end, session: session_id, reason: user_request}
            """),
        "f.yml",
    )
    first, second = config.calls
    assert first == CallMapping(
        "app.services:Sessions.get", "get_or_create", "chat", "id", "user_id", "device.id", "created_at"
    )
    assert second == CallMapping("app.services:close", "end", session="session_id", reason="user_request")


def test_every_key_of_a_store_arrives_where_it_belongs() -> None:
    keys = 'kind: redis, pattern: "session:*", scope: web, user_path: user.id, empty_is_end: true, reads_first: true'
    text = f"stores: [{{{keys}}}]"
    store = StoreMapping("session:*", "web", "redis", user_path="user.id", empty_is_end=True, reads_first=True)
    assert parse(text, "f.yml").stores == (store,)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{cookie: sid}", (cookie("sid"),)),
        ("[{cookie: sid}, {header: x-session}, {path: id}]", (cookie("sid"), header("x-session"), path("id"))),
        ("[]", ()),
        ("null", ()),
    ],
)
def test_expected_sessions_are_one_place_or_a_list_of_them(written: str, expected: tuple[Expectation, ...]) -> None:
    config = parse(f"middleware: [{{framework: starlette, expect: {written}, user: user.id}}]", "f.yml")
    assert config.middleware == (MiddlewareMapping("starlette", expected, "user.id"),)


def test_database_sessions_are_watched_only_when_asked_for() -> None:
    texts = ("db_sessions: true", "db_sessions: false", "")
    assert [parse(text, "f.yml").db_sessions for text in texts] == [True, False, False]


def test_keys_of_an_entry_that_are_null_are_as_if_left_out() -> None:
    text = "tables: [{table: t, scope: null, id_prefix: ~, user: ~, user_path: ~, key: ~, active: ~, restart_on: ~}]"
    assert parse(text, "f.yml").tables == (TableMapping("t"),)


def test_lists_may_be_left_empty() -> None:
    assert parse("tables:\ncalls: []\nstores: ~\nmiddleware:\n", "f.yml") == Config()


def test_a_scope_that_a_mapping_names_has_the_defaults_and_is_no_undeclared_one() -> None:
    config = parse(
        dedent("""\
            scopes: {b: {reuse_target: 0.5}}
            tables: [{table: t, scope: a}, {table: t, scope: b}]
            calls: [{call: "m:f", kind: get, scope: c}]
            stores: [{pattern: "s*", scope: d}, {pattern: "t*"}]
            """),
        "f.yml",
    )
    assert set(config.scopes) == {"default", "a", "b", "c", "d"}
    assert config.scopes["a"] == ScopeRules("a")
    assert config.scopes["b"].reuse_target == 0.5


def test_a_hundred_scopes_may_be_declared_and_named_together() -> None:
    scopes = "scopes:\n" + "".join(f"  s{i}:\n" for i in range(99))
    tables = "tables: [{table: t, scope: s1}, {table: u, scope: x}, {table: v}]"
    assert len(parse(scopes + tables, "f.yml").scopes) == 101


def test_a_thousand_entries_are_accepted() -> None:
    tables = "tables:\n" + "".join(f"  - {{table: t{i}}}\n" for i in range(1000))
    assert len(parse(tables, "f.yml").tables) == 1000


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8) | st.sampled_from(
    ["no", "null", "1", "a: b", "a #b", "*x", "it's", "session:*"]
)
SCOPES = st.sampled_from(["default", "chat", "web"])
COLUMNS = st.lists(NAMES, min_size=1, max_size=3, unique=True).map(tuple)
VALUES = st.lists(NAMES | st.integers() | st.booleans() | st.none(), min_size=1, max_size=3).map(value_texts)
TABLES = st.builds(
    TableMapping,
    table=NAMES,
    scope=SCOPES,
    id=COLUMNS,
    user=NAMES,
    user_path=NAMES,
    key=COLUMNS,
    active=st.dictionaries(NAMES, VALUES, max_size=2),
    end_reason=NAMES | st.just(""),
    restart_on=COLUMNS,
)
CALLS = st.builds(
    CallMapping,
    call=st.sampled_from(["app.services:Sessions.get", "m:f"]),
    kind=st.sampled_from(CALL_KINDS),
    scope=SCOPES,
    session=NAMES,
    user=NAMES,
    reason=st.sampled_from(END_REASONS),
)
STORES = st.builds(StoreMapping, pattern=NAMES.map(lambda name: name.replace("*", "") + ":*"), scope=SCOPES)
PLACES = st.builds(Expectation, source=st.sampled_from(["cookie", "header", "path"]), name=NAMES)
MIDDLEWARE = st.builds(
    MiddlewareMapping,
    framework=st.sampled_from(FRAMEWORKS),
    expect=st.lists(PLACES, max_size=3).map(tuple),
    user=NAMES,
)


@given(
    st.builds(
        Config,
        tables=st.lists(TABLES, max_size=2, unique_by=lambda each: (each.table, each.scope)).map(tuple),
        calls=st.lists(CALLS, max_size=2, unique_by=lambda each: each.call).map(tuple),
        stores=st.lists(STORES, max_size=2, unique_by=lambda each: (each.pattern, each.scope)).map(tuple),
        middleware=st.lists(MIDDLEWARE, max_size=2, unique_by=lambda each: each.framework).map(tuple),
        db_sessions=st.booleans(),
    )
)
def test_what_is_described_reads_as_it_was_written(config: Config) -> None:
    rows = [line.partition(": ") for line in config.describe()]
    sections = ["tables", "calls", "stores", "middleware"]
    text = "".join(
        f"{section}: [{', '.join(value for key, _, value in rows if key.startswith(f'{section}['))}]\n"
        for section in sections
    )
    assert yaml.safe_load(text) is not None
    again = parse(f"{text}db_sessions: {str(config.db_sessions).lower()}", "f.yml")
    assert again == config
