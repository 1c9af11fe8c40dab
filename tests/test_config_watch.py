"""The section `watch` of the configuration: what it accepts, which tables are read, and that no password is shown."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from session_exporter.cli.session_exporter import main
from session_exporter.config import parse
from session_exporter.errors import ConfigError
from session_exporter.watchsettings import WatchSettings

TABLES = "tables: [{table: chats, created_at: born}, {table: runs, created_at: born}, {table: undated}]\n"
URL = "sqlite:////var/lib/app/app.db"
NAME = "name of 1 to 64 of a-z, A-Z, 0-9, _, . and -"
URL_EXPECTED = (
    "expected a URL that begins with postgresql://, postgresql+, postgres://, sqlite:///, sqlite+ or ${VARIABLE}"
)
FEW = "expected the table of an entry of tables with created_at"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yml")
    return str(caught.value).splitlines()


def watching(entry: str) -> str:
    return f"{TABLES}watch: [{{{entry}}}]"


def test_every_key_of_a_watch_arrives_where_it_belongs() -> None:
    text = f"""{TABLES}
watch:
  - url: "${{DATABASE_URL}}"
  - name: shard-2
    url_file: /etc/secrets/url
    tables: [chats, runs]
    interval: 1s
    grace: 1m
    longest_transaction: 10m
    sweep: 1d
    sweep_every: 1h
    census_every: 5m
"""
    assert parse(text, "f.yml").watch == (
        WatchSettings(url="${DATABASE_URL}"),
        WatchSettings(
            "shard-2",
            url_file=Path("/etc/secrets/url"),
            tables=("chats", "runs"),
            interval_us=1_000_000,
            grace_us=60_000_000,
            longest_transaction_us=600_000_000,
            sweep_us=86_400_000_000,
            sweep_every_us=3_600_000_000,
            census_every_us=300_000_000,
        ),
    )


def test_a_watch_reads_the_tables_that_say_when_a_row_was_created() -> None:
    for entry, expected in {
        f"url: '{URL}'": ["chats", "runs"],
        f"url: '{URL}', tables: []": ["chats", "runs"],
        f"url: '{URL}', tables: runs": ["runs"],
    }.items():
        config = parse(watching(entry), "f.yml")
        assert [table.table for table in config.watched_tables(config.watch[0])] == expected


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("name: a", "f.yml:2: watch[0]: value a mapping: expected the URL of a database, or url_file"),
        ("url: null", "f.yml:2: watch[0].url: value null: expected the URL of a database, or url_file"),
        ("url: 'mysql://u:hunter2@h/db'", f"f.yml:2: watch[0].url: value (not shown): {URL_EXPECTED}"),
        ("url: 'redis://h'", f"f.yml:2: watch[0].url: value (not shown): {URL_EXPECTED}"),
        (
            "url: 'postgresql://u:hunter2@h/db', url_file: /url",
            "f.yml:2: watch[0].url_file: value /url: expected either this or url, not both",
        ),
        (
            f"url: '{URL}', interval: 10s",
            "f.yml:2: watch[0].interval: value 10s: expected a grace of at least twice the interval",
        ),
        (
            f"url: '{URL}', interval: 100ms",
            "f.yml:2: watch[0].interval: value 100ms: expected a duration from 500ms to 1h",
        ),
        (f"url: '{URL}', tables: [chats, chat]", f"f.yml:2: watch[0].tables[1]: value chat: {FEW}"),
        (f"url: '{URL}', tables: [~, undated]", f"f.yml:2: watch[0].tables[1]: value undated: {FEW}"),
        (f"url: '{URL}', tables: undated", f"f.yml:2: watch[0].tables: value undated: {FEW}"),
        (
            f"url: '{URL}', tables: [runs, runs]",
            "f.yml:2: watch[0].tables[1]: value runs: expected each table once",
        ),
        (
            f"url: '{URL}', name: 'a b'",
            f"f.yml:2: watch[0].name: value 'a b': expected a {NAME}",
        ),
        (
            "name: 'postgresql://u:hunter2@h/db?password=hunter2'",
            f"f.yml:2: watch[0].name: value 'postgresql://***@h/db?password=***': expected a {NAME}",
        ),
    ],
)
def test_a_mistake_in_a_watch_is_named_without_a_password(entry: str, problem: str) -> None:
    assert problems(watching(entry)) == [problem]


def test_two_watches_have_two_names() -> None:
    text = f"{TABLES}watch:\n  - url: '{URL}'\n  - {{name: main, url: '{URL}'}}"
    assert problems(text) == ["f.yml:4: watch[1]: the same again (name main): expected once, but line 3 has it too"]


@pytest.mark.parametrize("tables", ["", "tables: [{table: t}]\n", "tables: [{table: t, created_at: null}]\n"])
def test_a_watch_without_a_table_to_read_is_a_mistake(tables: str) -> None:
    [problem] = problems(f"{tables}watch: [{{url: '{URL}', tables: t}}]")
    assert problem.endswith(": watch[0]: no table to read: expected an entry of tables with created_at")


def test_a_mistake_in_a_table_is_not_told_again_by_its_watch() -> None:
    text = f"tables: [{{table: t, created_at: 1}}]\nwatch: [{{url: '{URL}', tables: t}}]"
    assert [problem.split(": ")[1] for problem in problems(text)] == ["tables[0].created_at"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql+psycopg://u:hunter2@:pw@h/db", "postgresql+psycopg://u:***@h/db"),
        (
            "postgresql://h/db?password=hunter2&sslpassword=hunter2&x=y",
            "'postgresql://h/db?password=***&sslpassword=***&x=y'",
        ),
        ("postgresql://u:${PGPASSWORD}@h/db", "'postgresql://u:${PGPASSWORD}@h/db'"),
        ("sqlite:////var/app.db", "sqlite:////var/app.db"),
        ("${DATABASE_URL}", "'${DATABASE_URL}'"),
    ],
)
def test_a_watch_is_described_without_its_password(url: str, shown: str) -> None:
    lines = parse(watching(f"url: '{url}', name: 'on', tables: runs"), "f.yml").describe()
    assert lines[-1] == f"watch[0]: {{name: 'on', url: {shown}, tables: runs}}"
    assert "watch: []" in parse("", "f.yml").describe()


# What check-config says.


def explained(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "config.yml").write_text(text)
    result = CliRunner().invoke(main, ["check-config", str(tmp_path / "config.yml")])
    assert result.exit_code == 0, result.output
    return [line.strip() for line in result.output.partition("What would be watched:\n")[2].splitlines()]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            "table: t, created_at: born, user: who, active: {status: open}",
            (
                "t: a row is a create of scope default, made at born; "
                "ends (by status) and deletions are seen when ids are asked for in turn; "
                "active rows are counted, and users who have several"
            ),
        ),
        (
            "table: t, scope: many, created_at: born, user: who, active: {a: open, b: null}, updated_at: moved",
            (
                "t: a row is a create of scope many, made at born; "
                "uses and ends (by a and b) are seen by moved; deletions when ids are asked for in turn; "
                "active rows are counted"
            ),
        ),
        (
            "table: t, created_at: born",
            (
                "t: a row is a create of scope default, made at born; "
                "whose it is, and so duplicates, nobody knows: it has no user; "
                "deletions are seen when ids are asked for in turn; active rows are not counted: it has no active"
            ),
        ),
        (
            "table: t, created_at: born, user: who, rows: messages",
            (
                "t: the first row of an id is a create of scope default, made at born; later ones are uses; "
                "deletions are seen when ids are asked for in turn; "
                "active rows are not counted: it has no active"
            ),
        ),
    ],
)
def test_a_table_that_is_watched_is_explained_in_a_sentence(tmp_path: Path, table: str, sentence: str) -> None:
    text = f"scopes: {{many: {{sessions_per_user: many}}}}\ntables: [{{{table}}}]\nwatch: [{{url: '{URL}'}}]"
    assert explained(tmp_path, text)[:2] == [
        "watch[0]: main: asked every 5s for new rows; one that no hook has reported 15s later is a create of its own",
        f"tables[0]: {sentence}",
    ]


def test_only_the_tables_of_a_watch_are_told_below_it(tmp_path: Path) -> None:
    text = f"{TABLES}watch: [{{url: '{URL}', tables: runs}}, {{name: b, url: '{URL}', interval: 1s}}]"
    places = [line.partition(": ")[0] for line in explained(tmp_path, text)]
    assert places[:5] == ["watch[0]", "tables[1]", "watch[1]", "tables[0]", "tables[1]"]


def test_a_file_that_watches_nothing_says_nothing_of_it(tmp_path: Path) -> None:
    assert explained(tmp_path, TABLES) == []


@pytest.mark.parametrize(
    ("url", "needs"),
    [
        (URL, ["SQLAlchemy (for tables, watch)"]),
        ("postgresql+asyncpg://u:hunter2@h/db", ["SQLAlchemy (for tables, watch)", "psycopg (for watch[0])"]),
        ("${URL}", ["SQLAlchemy (for tables, watch)", "psycopg (for watch[0] if that is a PostgreSQL)"]),
    ],
)
def test_the_libraries_of_a_watch_are_told(tmp_path: Path, url: str, needs: list[str]) -> None:
    lines = explained(tmp_path, watching(f"url: '{url}'"))
    told = [line.split(": ")[0] for line in lines if " (for " in line]
    assert told == needs
    assert not any("hunter2" in line for line in lines)
