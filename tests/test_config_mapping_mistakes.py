"""What the sections about hooks must not say, and the words in which each mistake is named."""

import pytest

from session_exporter.config import parse
from session_exporter.core.scopes import END_REASONS
from session_exporter.errors import ConfigError

REASONS = f"{', '.join(END_REASONS[:-1])} or {END_REASONS[-1]}"
KINDS = "create, get, get_or_create, end or bind"
NAME = "text of 1 to 200 characters"
PLACES = "expected one of {cookie: NAME}, {header: NAME}, {path: NAME}"
KEY = "expected a text as key (put quotes around it; merge keys are not read)"
ACTIVE = "mapping of columns to a value or list of values"
SCALAR = "text, whole number, boolean or null"
SCOPE = "not a scope name: expected a name of 1 to 64 of a-z, 0-9 and _, a letter first"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yml")
    return str(caught.value).splitlines()


ONE_PROBLEM = {
    "no list": (
        "tables: {table: t}",
        "f.yml:1: tables: value a mapping: expected a list of mappings (each begins with -)",
    ),
    "entry that is no mapping": (
        "calls:\n  - app:f",
        "f.yml:2: calls[0]: value app:f: expected a mapping of keys to values",
    ),
    "unknown key": (
        "tables:\n  - table: t\n  - table: u\n    row: messages",
        "f.yml:4: tables[1].row: unknown key: did you mean rows?",
    ),
    "key of another section": (
        "stores: [{pattern: 's*', restart_on: x}]",
        "f.yml:1: stores[0].restart_on: unknown key: did you mean tables[].restart_on?",
    ),
    "list with an index": ("tables[0]: {table: t}", "f.yml:1: tables[0]: unknown key: did you mean tables?"),
    "list as a pattern": ("'tables[]': {table: t}", "f.yml:1: tables[]: unknown key: did you mean tables?"),
    "required key missing": (
        "tables:\n  - table: t\n  -\n    scope: chat",
        "f.yml:4: tables[1].table: missing: expected in every entry",
    ),
    "empty entry": ("calls:\n  -", "f.yml:2: calls[0].call: missing: expected in every entry"),
    "required key null": (
        "tables: [{table: ~}]",
        "f.yml:1: tables[0].table: value null: expected a text that is not empty",
    ),
    "text that YAML takes for a boolean": (
        "tables: [{table: t, user: no}]",
        f"f.yml:1: tables[0].user: value no: expected a {NAME} (put quotes around it)",
    ),
    "unknown kind": ("calls: [{call: 'm:f', kind: fetch}]", f"f.yml:1: calls[0].kind: value fetch: expected {KINDS}"),
    "unknown reason": (
        "calls: [{call: 'm:f', kind: end, reason: done}]",
        f"f.yml:1: calls[0].reason: value done: expected {REASONS}",
    ),
    "call without a module": (
        "calls:\n  - kind: get\n    call: get_session",
        "f.yml:3: calls[0].call: value get_session: expected module:function or module:Class.method",
    ),
    "call that is no name": (
        "calls: [{kind: get, call: 'app: expected x:f'}]",
        "f.yml:1: calls[0].call: value 'app: expected x:f': expected module:function or module:Class.method",
    ),
    "pattern without a star": (
        "stores: [{pattern: 'session:'}]",
        "f.yml:1: stores[0].pattern: value 'session:': expected exactly one * where the session's id stands",
    ),
    "unknown store": (
        "stores: [{kind: memcached, pattern: 's*'}]",
        "f.yml:1: stores[0].kind: value memcached: expected redis",
    ),
    "unknown framework": (
        "middleware: [{framework: fastapi}]",
        "f.yml:1: middleware[0].framework: value fastapi: expected starlette, flask, django or aiohttp",
    ),
    "unknown place": (
        "middleware:\n  - framework: flask\n    expect:\n      - cookie: sid\n      - query: sid",
        f"f.yml:5: middleware[0].expect[1]: value a mapping: {PLACES}",
    ),
    "two places in one": (
        "middleware: [{framework: flask, expect: {cookie: a, header: b}}]",
        f"f.yml:1: middleware[0].expect: value a mapping: {PLACES}",
    ),
    "place as a text": (
        "middleware: [{framework: flask, expect: cookie}]",
        f"f.yml:1: middleware[0].expect: value cookie: {PLACES}",
    ),
    "place without a name": (
        "middleware: [{framework: flask, expect: {cookie: }}]",
        f"f.yml:1: middleware[0].expect.cookie: value null: expected a {NAME}",
    ),
    "reserved scope": (
        "tables: [{table: t, scope: other}]",
        "f.yml:1: tables[0].scope: value other: a reserved name: sessions of undeclared scopes are counted there",
    ),
    "scope name": ("stores: [{pattern: 's*', scope: Web}]", f"f.yml:1: stores[0].scope: value Web: {SCOPE}"),
    "scope that is no text": (
        "stores: [{pattern: 's*', scope: [a]}]",
        f"f.yml:1: stores[0].scope: value a list: {SCOPE}",
    ),
    "column twice": (
        "tables:\n  - table: t\n    id: [app, app]",
        "f.yml:3: tables[0].id[1]: value app: expected each column once",
    ),
    "no column": ("tables: [{table: t, id: []}]", "f.yml:1: tables[0].id: value a list: expected at least one column"),
    "column that is a mapping": (
        "tables: [{table: t, key: {a: b}}]",
        f"f.yml:1: tables[0].key: value a mapping: expected a {NAME} (put quotes around it)",
    ),
    "path without its column": (
        "tables:\n  - table: t\n    user_path: user.id",
        "f.yml:3: tables[0].user_path: value user.id: expected together with user, the column it looks into",
    ),
    "active messages": (
        "tables:\n  - table: t\n    rows: messages\n    restart_on: x",
        "f.yml:4: tables[0].restart_on: value x: expected only with rows: sessions",
    ),
    "active as a list": (
        "tables: [{table: t, active: [status]}]",
        f"f.yml:1: tables[0].active: value a list: expected a {ACTIVE}, such as {{status: [active]}}",
    ),
    "column of active twice": (
        "tables:\n  - table: t\n    active:\n      a: x\n      a: y",
        "f.yml:5: tables[0].active.a: value y: duplicate key: expected once, but line 4 has it too",
    ),
    "column of active that is no text": (
        "tables: [{table: t, active: {on: x}}]",
        f"f.yml:1: tables[0].active.on: value x: {KEY}",
    ),
    "column of active that is unprintable": (
        'tables: [{table: t, active: {"a\\nb": x}}]',
        rf"f.yml:1: tables[0].active.'a\nb': value x: expected a {NAME} for the name of the column, all printable",
    ),
    "no value": (
        "tables: [{table: t, active: {a: []}}]",
        "f.yml:1: tables[0].active.a: value a list: expected at least one value",
    ),
    "value that is a fraction": (
        "tables: [{table: t, active: {a: [1, 1.5]}}]",
        f"f.yml:1: tables[0].active.a[1]: value 1.5: expected a {SCALAR} (put quotes around another value)",
    ),
    "tag that belies its value": (
        "tables: [{table: t, active: {a: !!bool x}}]",
        f"f.yml:1: tables[0].active.a: value x: expected a {SCALAR} (put quotes around another value)",
    ),
    "table twice for a scope": (
        "tables:\n  - table: t\n  - {table: t, scope: chat}\n  - {table: t, scope: default}",
        "f.yml:4: tables[2]: the same again (table t, scope default): expected once, but line 2 has it too",
    ),
    "call twice": (
        "calls:\n  - {call: 'm:f', kind: get}\n  - {call: 'm:f', kind: end, scope: chat}",
        "f.yml:3: calls[1]: the same again (call m:f): expected once, but line 2 has it too",
    ),
    "store twice for a scope": (
        "stores:\n  - pattern: s*\n  - pattern: s*",
        "f.yml:3: stores[1]: the same again (pattern s*, scope default): expected once, but line 2 has it too",
    ),
    "framework twice": (
        "middleware:\n  - framework: flask\n  - {framework: flask, user: u}",
        "f.yml:3: middleware[1]: the same again (framework flask): expected once, but line 2 has it too",
    ),
    "too many scopes": (
        "tables:\n" + "".join(f"  - {{table: t, scope: s{i}}}\n" for i in range(103)),
        "f.yml:102: scopes: too many scopes: expected at most 100",
    ),
    "too many entries": (
        "tables:\n" + "".join(f"  - table: t{i}\n" for i in range(1003)),
        "f.yml:1002: tables: too many entries: expected at most 1000",
    ),
    "database sessions as a mapping": (
        "db_sessions: {}",
        "f.yml:1: db_sessions: value a mapping: expected true or false, without quotes",
    ),
}


@pytest.mark.parametrize(("text", "problem"), ONE_PROBLEM.values(), ids=ONE_PROBLEM.keys())
def test_a_mistake_is_named_with_file_line_key_and_what_was_expected(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_the_mistakes_of_several_entries_are_reported_together_in_the_order_of_the_file() -> None:
    text = "calls:\n  - kind: get\n  - call: f\n    kind: end\ntables:\n  - table: 1\n    rows: all\n  - tabel: t"
    assert [problem.split(": ")[:2] for problem in problems(text)] == [
        ["f.yml:2", "calls[0].call"],
        ["f.yml:3", "calls[1].call"],
        ["f.yml:6", "tables[0].table"],
        ["f.yml:7", "tables[0].rows"],
        ["f.yml:8", "tables[1].tabel"],
        ["f.yml:8", "tables[1].table"],
    ]


def test_a_mistake_of_a_column_is_reported_without_further_ones_that_follow_from_it() -> None:
    assert len(problems("tables: [{table: t, user: 1, user_path: a}]")) == 1
