"""What `check-config` says of the sections about hooks, and of the application whose functions they name."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result

import session_exporter
from session_exporter.cli.called import find_call
from session_exporter.cli.libraries import INSTRUMENTOR, version_of
from session_exporter.cli.session_exporter import main
from session_exporter.config import parse
from session_exporter.mappings import CallMapping

SOURCES = str(Path(session_exporter.__file__).parent.parent)
SERVICES = """
import functools
import os

class Sessions:
    limit = 3

    async def get(self, user_id, *, device=None): ...

    @classmethod
    def close(cls, session_id): ...

    def open(self, **given): ...

    def renamed(this, user): ...

    def __call__(self, user): ...

def bare(user_id): ...

@functools.wraps(bare)
def wrapped(*arguments, **named): ...

async def stream(user_id):
    yield user_id

class Broken(type):
    def __getattr__(cls, name):
        raise RuntimeError("an attribute that fails")

class Strange(metaclass=Broken): ...

size = len
disabled = os.environ["SESSION_EXPORTER_DISABLED"]
sessions = Sessions()
"""
CALLS = """
calls:
  - {call: "mart.services:Sessions.get", kind: get_or_create, user: user_id, session: id}
  - {call: "mart.services:Sessions.close", kind: end, session: session_id}
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an application's modules."""
    directory = tmp_path_factory.mktemp("application")
    package = directory / "mart"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "services.py").write_text(SERVICES)
    (package / "exiting.py").write_text("raise SystemExit('wrong\\n\\x1b[31m arguments')")
    (package / "failing.py").write_text("1 / 0")
    (package / "hopeless.py").write_text("class Error(Exception):\n    def __str__(self): return 1 / 0\nraise Error")
    return directory


def checked(directory: Path, text: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Type the command in a directory, in a process of its own: it may import what is there."""
    (directory / "config.yml").write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "SESSION_EXPORTER_DIR"}
    command = [sys.executable, "-c", "from session_exporter.cli.session_exporter import main; main()", "check-config"]
    return subprocess.run(
        [*command, *options, "config.yml"],
        cwd=directory,
        # The directory where the command is typed is not searched by a program that is installed.
        env={**environment, "PYTHONSAFEPATH": "1", "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        check=False,
    )


def explained(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "config.yml").write_text(dedent(text))
    result: Result = CliRunner().invoke(main, ["check-config", str(tmp_path / "config.yml")])
    assert result.exit_code == 0, result.output
    return [line.strip() for line in result.output.partition("What would be hooked:\n")[2].splitlines()]


# Sentences.


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            "tables: [{table: conversation_sessions, scope: conversation, user: who, active: {status: [active]}}]",
            (
                "tables[0]: conversation_sessions: a row is a session of scope conversation; "
                "ends when status leaves {active}; users from who"
            ),
        ),
        (
            "tables: [{table: t, active: {status: [a, b], deleted_at: null}, restart_on: [x, y], end_reason: why}]",
            (
                "tables[0]: t: a row is a session of scope default; "
                "ends when status leaves {a, b} or deleted_at leaves {null}; "
                "starts anew when x or y changes; users of the requests; reasons of ends from why"
            ),
        ),
        (
            "tables: [{table: m, id: [app, id], id_prefix: 's:', rows: messages, user: d, user_path: user.id, key: k}]",
            (
                "tables[0]: m: the first row of an id is a session of scope default; its id is app/id; "
                "ids lose the prefix s:; users from user.id in the JSON of d; keys from k"
            ),
        ),
        (
            "tables: [{table: t, created_at: c, updated_at: u}]",
            (
                "tables[0]: t: a row is a session of scope default; ends when it is deleted; "
                "users of the requests; created at c; used at u"
            ),
        ),
        (
            "calls: [{call: 'm:f', kind: get_or_create, scope: chat, session: id, user: user_id, key: device}]",
            "calls[0]: m:f: lookups and creates of scope chat; sessions from id; users from user_id; keys from device",
        ),
        (
            "calls: [{call: 'm:f', kind: end, reason: expired, created_at: born}]",
            (
                "calls[0]: m:f: ends of scope default; the result is the session's id; users of the requests; "
                "created at born; for the reason expired"
            ),
        ),
        (
            "calls: [{call: 'm:f', kind: bind, user: user_id}]",
            "calls[0]: m:f: users of sessions of scope default; users from user_id",
        ),
        (
            "stores: [{pattern: 'session:*', user_path: user.id, empty_is_end: true}]",
            (
                "stores[0]: session:*: a value in redis is a session of scope default; "
                "ends when it is deleted or written empty; users from user.id in the JSON of the value"
            ),
        ),
        (
            "stores: [{pattern: 's*'}]",
            (
                "stores[0]: s*: a value in redis is a session of scope default; ends when it is deleted; "
                "users of the requests"
            ),
        ),
        (
            "middleware: [{framework: flask, expect: [{cookie: sid}, {header: x-session}], user: user.id}]",
            (
                "middleware[0]: flask: requests are told apart; "
                "each expects the session of cookie sid, else header x-session; users from user.id"
            ),
        ),
        (
            "middleware: [{framework: aiohttp}]",
            "middleware[0]: aiohttp: requests are told apart; users as the application tells them",
        ),
        (
            "{db_sessions: true, limits: {max_db_session_lifetime: 1m}}",
            "db_sessions: uses of SQLAlchemy sessions are followed; one open for longer than 1m has leaked",
        ),
    ],
)
def test_an_entry_is_explained_in_a_sentence(tmp_path: Path, entry: str, sentence: str) -> None:
    assert explained(tmp_path, entry)[0] == sentence


def test_a_file_that_hooks_nothing_says_nothing_of_hooks(tmp_path: Path) -> None:
    assert explained(tmp_path, "lateness: 1s\ndb_sessions: false") == []


def test_what_would_look_different_on_a_terminal_is_shown_as_it_is_not_as_it_looks(tmp_path: Path) -> None:
    assert explained(tmp_path, "tables: [{table: caf\u00e9}]")[0].startswith("tables[0]: café: ")


# Libraries.


def libraries(lines: list[str]) -> dict[str, str]:
    [heading] = [number for number, line in enumerate(lines) if line.startswith("Libraries of this Python (")]
    return dict(line.split(": ", 1) for line in lines[heading + 1 :])


def test_the_libraries_of_the_hooks_are_told_with_their_versions(tmp_path: Path) -> None:
    text = "{db_sessions: true, tables: [{table: t}], stores: [{pattern: s*}], middleware: [{framework: aiohttp}]}"
    told = libraries(explained(tmp_path, text))
    assert told["aiohttp (for middleware[0])"] == metadata.version("aiohttp")
    assert told["SQLAlchemy (for tables, db_sessions)"] == (version_of("SQLAlchemy") or "not installed")
    assert told["redis (for stores)"] == (version_of("redis") or "not installed")
    assert told[f"{INSTRUMENTOR} (optional, for traces)"].startswith(version_of(INSTRUMENTOR) or "not installed")
    assert len(told) == 4


def test_wrapped_calls_need_no_library_of_the_application(tmp_path: Path) -> None:
    lines = explained(tmp_path, "calls: [{call: 'no.such.module:f', kind: get}]")
    assert lines[1:] == ["not imported: no.such.module; --import does, and looks whether the functions of calls exist"]


INSTALLED = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n"


@pytest.mark.parametrize(
    ("version", "sqlalchemy", "instrumentor"),
    [
        (
            "2.1.9",
            "2.1.9",
            "0.66b1; it refuses SQLAlchemy 2.1.9 (it takes versions below 2.1.0), so queries have no spans",
        ),
        ("2.0.58", "2.0.58", "0.66b1"),
        ("1.3.24", "1.3.24; too old: expected 1.4 or newer", "0.66b1"),
    ],
)
def test_a_version_that_is_refused_is_told(tmp_path, monkeypatch, version, sqlalchemy, instrumentor) -> None:
    requires = "Requires-Dist: wrapt\nRequires-Dist: sqlalchemy<2.1.0,>=1.0.0; extra == 'instruments'\n"
    for name, number, more in (("SQLAlchemy", version, ""), (INSTRUMENTOR, "0.66b1", requires)):
        directory = tmp_path / f"{name.replace('-', '_')}-{number}.dist-info"
        directory.mkdir()
        (directory / "METADATA").write_text(INSTALLED.format(name, number) + more)
    monkeypatch.syspath_prepend(tmp_path)
    told = libraries(explained(tmp_path, "db_sessions: true"))
    assert list(told.values()) == [sqlalchemy, instrumentor]


# Functions.


@pytest.mark.integration
def test_nothing_of_the_application_is_imported_unasked(application: Path) -> None:
    done = checked(application, "calls: [{call: 'mart.exiting:f', kind: get}]")
    assert (done.returncode, done.stderr) == (0, "")
    assert "not imported: mart.exiting; --import does" in done.stdout


@pytest.mark.integration
def test_with_import_each_function_is_found_and_compared(application: Path) -> None:
    done = checked(application, CALLS, "--import")
    assert (done.returncode, done.stderr) == (0, "")
    found = [line.strip() for line in done.stdout.splitlines() if line.startswith("    ")]
    assert found == [
        "exists: async (self, user_id, device); session is id of the result; user is the parameter user_id",
        "exists: (session_id); session is the parameter session_id, else session_id of the result",
    ]
    assert "not imported" not in done.stdout


@pytest.mark.integration
def test_a_function_that_is_missing_fails_the_check(application: Path) -> None:
    text = CALLS + "  - {call: 'mart.services:Sessions.gte', kind: get}\n  - {call: 'mart.service:f', kind: get}\n"
    done = checked(application, text, "--import")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "session-exporter: config.yml: calls[2]: mart.services.Sessions has no gte, did you mean get?",
        "config.yml: calls[3]: mart.service cannot be imported: ModuleNotFoundError: No module named 'mart.service'",
    ]
    assert "    WRONG: mart.services.Sessions has no gte" in done.stdout
    assert "    exists: async (self, user_id, device)" in done.stdout


@pytest.fixture
def importable(application: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(application)
    monkeypatch.setenv("SESSION_EXPORTER_DISABLED", "1")
    for name in [name for name in sys.modules if name.partition(".")[0] == "mart"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("call", "paths", "found"),
    [
        ("mart.services:bare", {"user": "user_id"}, "exists: (user_id); user is the parameter user_id"),
        ("mart.services:wrapped", {"user": "user_id.id"}, "exists: (user_id); user is id of the parameter user_id"),
        ("mart.services:stream", {}, "exists: async (user_id)"),
        ("mart.services:sessions", {"user": "user"}, "exists: (user); user is the parameter user"),
        ("mart.services:bare", {"user": "result.user"}, "exists: (user_id); user is user of result"),
        ("mart.services:bare", {"key": "self"}, "exists: (user_id); key is self"),
        (
            "mart.services:Sessions.open",
            {"user": "user.id"},
            "exists: (self, given); user is id of user, when a caller gives that",
        ),
        (
            "mart.services:bare",
            {"session": "user_id.session"},
            "exists: (user_id); session is user_id.session of the result, else session of the parameter user_id",
        ),
        (
            "mart.services:Sessions.open",
            {"session": "sid"},
            "exists: (self, given); session is sid of the result, else sid, when a caller gives that",
        ),
        ("mart.services:bare", {"session": "result"}, "exists: (user_id); session is result"),
        ("mart.services:bare", {"created_at": "born.at"}, "exists: (user_id); created_at is born.at of the result"),
    ],
)
@pytest.mark.usefixtures("importable")
def test_a_path_is_told_by_what_its_first_word_names(call: str, paths: dict[str, str], found: str) -> None:
    assert find_call(CallMapping(call, "get", **paths)) == (found, False)


@pytest.mark.parametrize(
    ("call", "paths", "found"),
    [
        (
            "mart.services:bare",
            {"user": "userid"},
            "exists: (user_id); user names no parameter: userid, did you mean user_id?",
        ),
        ("mart.services:Sessions.limit", {}, "mart.services.Sessions.limit is a int: expected a function"),
        ("mart.services:Strange.get", {}, "mart.services.Strange has no get"),
        (
            "mart.services:Sessions",
            {},
            "mart.services.Sessions cannot be watched: it is a class: name its __init__, or another function of it",
        ),
        (
            "mart.services:Sessions.renamed",
            {"user": "this.user"},
            "exists: (this, user); user names no parameter: this",
        ),
        ("mart.failing:f", {}, "mart.failing cannot be imported: ZeroDivisionError: division by zero"),
        ("mart.exiting:f", {}, r"mart.exiting cannot be imported: SystemExit: wrong \x1b[31m arguments"),
        ("mart.hopeless:f", {}, "mart.hopeless cannot be imported: Error: it does not say why"),
    ],
)
@pytest.mark.usefixtures("importable")
def test_what_a_hook_could_not_work_with_is_wrong(call: str, paths: dict[str, str], found: str) -> None:
    assert find_call(CallMapping(call, "get", **paths)) == (found, True)


@pytest.mark.usefixtures("importable")
def test_a_function_without_a_signature_is_not_judged() -> None:
    found = find_call(CallMapping("builtins:max", "get", user="user_id"))
    assert found == ("exists; which parameters it has is not known", False)


def test_the_reference_shows_what_the_command_prints(tmp_path: Path) -> None:
    reference = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text("utf-8")
    example = re.search("```yaml\n(.*?)```", reference, re.DOTALL)
    shown = re.search("```\nWhat would be hooked:\n(.*?)\nLibraries of this Python", reference, re.DOTALL)
    assert example
    assert shown
    assert parse(example[1], "example").tables
    printed = explained(tmp_path, example[1])
    assert [line for line in map(str.strip, shown[1].splitlines()) if line not in printed] == []
