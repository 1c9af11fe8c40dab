"""The plugin fails tests for what they did to sessions, tells why, and is not there for all others."""

import os
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from session_exporter.journal import JournalReader
from session_exporter.pytest_checks import checking

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parent.parent
# Runs inside of this process import what it has imported, and nothing twice.
assert checking
INSTALLED = any(each.name == "session_exporter" for each in entry_points(group="pytest11"))

# A service that looks a session up and makes one when there is none, and its repaired version.
CHAT = """
import asyncio
from uuid import uuid4

from fastapi import FastAPI
from sqlalchemy import Column, MetaData, String, Table, insert, select

from session_exporter import SessionExporterMiddleware, map_table

metadata = MetaData()
conversations = Table(
    "conversations", metadata, Column("id", String, primary_key=True), Column("user_id", String)
)
map_table("conversations", scope="conversation", user="user_id")


async def get_or_create(engine, user):
    async with engine.begin() as connection:
        found = await connection.scalar(select(conversations.c.id).where(conversations.c.user_id == user))
    if found:
        return found
    await asyncio.sleep(0.01)
    session = str(uuid4())
    async with engine.begin() as connection:
        await connection.execute(insert(conversations).values(id=session, user_id=user))
    return session


def application(engine, lock):
    app = FastAPI()

    @app.get("/{user}")
    async def say(user: str):
        if lock is None:
            return await get_or_create(engine, user)
        async with lock:
            return await get_or_create(engine, user)

    app.add_middleware(SessionExporterMiddleware)
    return app
"""
CHAT_TESTS = """
import asyncio

import httpx
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

import chat


@pytest.fixture
async def engine(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/chat.db")
    async with engine.begin() as connection:
        await connection.run_sync(chat.metadata.create_all)
    yield engine
    await engine.dispose()


async def talk(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://chat") as client:
        answers = await asyncio.gather(*(client.get("/ann") for _ in range(3)))
    assert all(answer.status_code == 200 for answer in answers)


@pytest.mark.anyio
@pytest.mark.session_exporter
async def test_racy(engine):
    await talk(chat.application(engine, None))


@pytest.mark.anyio
@pytest.mark.session_exporter(max_redundant_lookups=0, min_reuse_ratio=0.6)
async def test_repaired(engine):
    await talk(chat.application(engine, asyncio.Lock()))


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

BEGIN = """
import pytest

from session_exporter import SessionTracker

tracker = SessionTracker()


def race(user="ann"):
    tracker.created(user, f"{user}-1")
    tracker.created(user, f"{user}-2")


def lose():
    tracker.created("ann", "s")
    with tracker.request(user_id="ann", session_id="s"):
        tracker.looked_up("ann", None)


def ask_twice():
    tracker.created("ann", "s")
    with tracker.request(user_id="ann"):
        tracker.looked_up("ann", "s")
        tracker.looked_up("ann", "s")


def share():
    tracker.created("ann", "s")
    tracker.reused("ben", "s")
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs the tests of a text, which begins with `BEGIN`; `apart` in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT / "exporter"), os.environ.get("PYTHONPATH", "")]))
    # In continuous integration pytest repeats the whole failure in its summary.
    for name in ("SESSION_EXPORTER_DISABLED", "CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SESSION_EXPORTER_DIR", str(pytester.path / "journal"))
    plugin = [] if INSTALLED else ["-p", "session_exporter.pytest_plugin"]

    def run(tests: str = "", *arguments: object, begin: str = BEGIN, apart: bool = False) -> pytest.RunResult:
        if tests:
            pytester.makepyfile(test_it=begin + tests)
        runpytest = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return runpytest("-rA", "-p", "no:cacheprovider", "-W", "error", *plugin, *arguments)

    return run


def outcomes(result: pytest.RunResult) -> dict[str, str]:
    """What became of each test, by its name."""
    lines = [re.match(r"(PASSED|FAILED|ERROR|XFAIL|XPASS) \S+?::(?:\w+::)?(\S+)", line) for line in result.outlines]
    return {line[2]: line[1].lower() for line in lines if line}


def test_a_race_fails_the_test_of_an_application_and_its_repair_passes(run, pytester) -> None:
    pytester.makepyfile(chat=CHAT)
    result = run(CHAT_TESTS, begin="", apart=True)
    assert outcomes(result) == {"test_racy": "failed", "test_repaired": "passed"}
    told = result.stdout.str()
    assert "This test's sessions: 2 rapid duplicate creates (same_worker)" in told
    assert told.count("rapid duplicate create in conversation") == 1  # the last one's story is that of all
    assert "What to change" in told
    assert re.search(r"created [A-C] .* chat\.py:\d+:get_or_create", told)
    assert "user ann" in told
    assert not (pytester.path / "journal").exists()


FINDINGS = """
@pytest.mark.session_exporter
def test_race():
    race()

@pytest.mark.session_exporter
def test_loss():
    lose()

@pytest.mark.session_exporter
def test_reported_loss():
    tracker.context_lost("ann", expected="project", actual="greeting")

@pytest.mark.session_exporter
def test_shared():
    share()

@pytest.mark.session_exporter(max_redundant_lookups=0)
def test_lookups():
    ask_twice()

@pytest.mark.session_exporter(min_reuse_ratio=0.5)
def test_ratio():
    tracker.created("ann", "s")

@pytest.mark.session_exporter(min_reuse_ratio=0.5)
def test_ratio_of_nothing():
    pass

@pytest.mark.session_exporter(min_reuse_ratio=0.5, max_redundant_lookups=1)
def test_within_the_limits():
    ask_twice()

@pytest.mark.session_exporter
def test_without_limits():
    ask_twice()

@pytest.mark.session_exporter
def test_of_a_user_of_other_tests():
    tracker.created("ann", "new")

def test_that_nobody_checks():
    race()
"""


def test_each_finding_fails_the_test_that_made_it_and_no_other(run) -> None:
    result = run(FINDINGS)
    passing = ["test_within_the_limits", "test_without_limits", "test_of_a_user_of_other_tests"]
    failing = ["race", "loss", "reported_loss", "shared", "lookups", "ratio", "ratio_of_nothing"]
    assert outcomes(result) == {
        **{f"test_{name}": "failed" for name in failing},
        **dict.fromkeys([*passing, "test_that_nobody_checks"], "passed"),
    }
    result.stdout.fnmatch_lines_random(
        [
            "This test's sessions: 1 rapid duplicate create (same_worker)",
            "This test's sessions: 1 context loss (missing)",
            "This test's sessions: 1 context loss (reported)",
            "This test's sessions: 1 isolation violation (session_of_two_users)",
            "This test's sessions: 1 redundant lookup, at most 0 allowed",
            "Request * asked 2 times for the default session of user ann:",
            "  2. test_it.py:*:ask_twice < test_it.py:*:test_lookups*",
            "This test's sessions: reuse ratio 0.00%, at least 50.00% wanted (1 created, 0 reused)",
            "This test's sessions: no session was created or reused, so that no ratio reaches 50.00%",
        ]
    )


MANY = """
@pytest.mark.session_exporter
def test_incidents(session_exporter):
    for number in range(7):
        race(f"u{number}")
    assert session_exporter.explain().count("rapid duplicate create in default") == 7

@pytest.mark.session_exporter(max_redundant_lookups=0)
def test_lookups():
    with tracker.request(user_id="ann"):
        for _ in range(50):
            tracker.looked_up("\\x1b[31mann", None)
"""


def test_of_many_incidents_the_first_ones_are_told(run) -> None:
    told = run(MANY).stdout.str()
    assert "This test's sessions: 7 rapid duplicate creates (same_worker)" in told
    assert told.count("rapid duplicate create in default") == 5
    assert "2 further incidents: the fixture's `explain()` tells all" in told
    assert r"asked 50 times for the default session of user \x1b[31mann:" in told
    assert "\n  10. " in told
    assert "\n  11. " not in told


def test_all_tests_are_checked_when_that_is_asked_for(run) -> None:
    result = run("def test_race(): race()\ndef test_nothing(): pass", "--session-exporter=always")
    assert outcomes(result) == {"test_race": "failed", "test_nothing": "passed"}


ALLOWED = """
@pytest.mark.session_exporter(allow="rapid_duplicate_create")
def test_kind(): race()

@pytest.mark.session_exporter(allow=("same_worker",))
def test_cause(): race()

@pytest.mark.session_exporter(allow=["cross_worker", "context_loss"])
def test_other_cause(): race()

@pytest.mark.session_exporter(allow=["missing", "session_of_two_users"])
def test_reason_and_violation():
    lose()
    share()

def test_fixture(session_exporter):
    session_exporter.allow("rapid_duplicate_create")
    race()

@pytest.mark.session_exporter(allow=["context_loss"], max_redundant_lookups=0)
class TestClass:
    def test_inherits(self): lose()

    @pytest.mark.session_exporter(max_redundant_lookups=1)
    def test_asks_for_more(self):
        lose()
        ask_twice()

    @pytest.mark.session_exporter(allow=[])
    def test_forbids(self): lose()
"""


def test_what_is_allowed_fails_no_test(run) -> None:
    result = run(ALLOWED)
    assert {name for name, outcome in outcomes(result).items() if outcome == "failed"} == {
        "test_other_cause",
        "test_forbids",
    }
    assert len(outcomes(result)) == 8


FIXTURE = """
def test_it(session_exporter):
    assert session_exporter.counts["creates"] == 0
    assert session_exporter.explain() == ""
    session_exporter.tracker.created("ann", "a", scope="chat")
    session_exporter.tracker.created("ann", "b", scope="chat")
    with session_exporter.tracker.request(user_id="ann"):
        session_exporter.tracker.looked_up("ann", "b", scope="chat")
    session_exporter.allow("rapid_duplicate_create")
    judged = session_exporter.judged()
    assert (judged.counts["creates"], judged.counts["rapid_duplicate_creates"], judged.reuse_ratio) == (2, 1, 1 / 3)
    assert judged.scopes.keys() == {"chat"}
    assert judged.scopes["chat"] == judged.counts == session_exporter.counts
    [incident] = session_exporter.incidents
    assert (incident["kind"], incident["scope"], incident["user"]) == ("rapid_duplicate_create", "chat", "ann")
    assert incident["sessions"] == ["a", "b"]
    assert "rapid duplicate create in chat" in session_exporter.explain()
    with pytest.raises(ValueError, match="allow: 'race': expected one of rapid_duplicate_create, "):
        session_exporter.allow("race")

def test_fixture_alone(session_exporter):
    race()

def test_asked_for_late(request):
    request.getfixturevalue("session_exporter")
    race()
"""


def test_the_fixture_shows_what_has_happened_and_has_the_test_checked(run) -> None:
    assert outcomes(run(FIXTURE)) == {
        "test_it": "passed",
        "test_fixture_alone": "failed",
        "test_asked_for_late": "failed",
    }


def test_the_fixture_cannot_be_asked_for_late_when_nothing_was_recorded(run) -> None:
    result = run('def test_late(request): request.getfixturevalue("session_exporter")')
    assert outcomes(result) == {"test_late": "failed"}
    result.stdout.fnmatch_lines(["session_exporter: nothing was recorded: name the fixture as an argument*"])


OLDER = """
@pytest.fixture(scope="session")
def session():
    tracker.created("ann", "s-1")
    return "s-1"

@pytest.fixture(scope="module")
def two_sessions(session):
    tracker.created("ann", "s-2")
    return session, "s-2"

@pytest.fixture
def own():
    tracker.created("ben", "b-1")

@pytest.fixture(autouse=True)
def leaving():
    yield
    race("zoe")

UUID = "11111111-2222-3333-4444-555555555555"

def test_that_leaves_a_session():
    tracker.created("ann", UUID)

@pytest.mark.parametrize("turn", [1, 2])
def test_sessions_of_fixtures_are_known(two_sessions, session_exporter, turn):
    for session in (*two_sessions, UUID):
        tracker.observed("ann", session)
    tracker.created("ann", "mine")
    counts = session_exporter.counts
    assert (counts["creates"], counts["reuses"], counts["adopted"]) == (1, 3, 0)

@pytest.mark.session_exporter
def test_a_session_that_was_not_the_tests_is_not_lost(session):
    with tracker.request(user_id="ann", session_id=session):
        tracker.looked_up("ann", None)

@pytest.mark.session_exporter
def test_a_session_that_the_test_has_used_can_be_lost(session):
    with tracker.request(user_id="ann", session_id=session):
        tracker.looked_up("ann", session)
    with tracker.request(user_id="ann", session_id=session):
        tracker.looked_up("ann", None)

@pytest.mark.session_exporter
@pytest.mark.parametrize("turn", [1, 2])
def test_numbers_are_given_again(session_exporter, turn):
    tracker.observed("ann", 1)
    tracker.observed("ann", 2)

def test_what_was_created_by_the_tests_own_fixture_is_its_own(own, session_exporter):
    assert session_exporter.counts["creates"] == 1
"""


def test_what_is_older_than_a_test_is_known_to_it_and_no_more(run) -> None:
    result = run(OLDER)
    assert {name for name, outcome in outcomes(result).items() if outcome == "failed"} == {
        "test_a_session_that_the_test_has_used_can_be_lost",
        # Found by a call: the second one must have been made.
        "test_numbers_are_given_again[1]",
        "test_numbers_are_given_again[2]",
    }
    assert len(outcomes(result)) == 8


FAILING = """
import unittest

@pytest.mark.session_exporter
class TestUnittest(unittest.TestCase):
    def test_race(self): race()

    def test_race_and_failure(self):
        race()
        self.fail("by itself")

    def test_skip(self):
        race()
        self.skipTest("now")

    @unittest.expectedFailure
    def test_expected(self):
        race()
        self.fail("by itself")

@pytest.mark.session_exporter
def test_failure():
    race()
    assert "by" == "itself"

@pytest.mark.session_exporter
def test_skip():
    race()
    pytest.skip("now")

@pytest.mark.xfail(strict=True)
@pytest.mark.session_exporter
def test_expected():
    race()

@pytest.mark.session_exporter
class TestErrors:
    @pytest.fixture
    def broken(self):
        yield
        raise RuntimeError("teardown")

    def test_teardown(self, broken):
        pass
"""


def test_a_test_that_fails_by_itself_fails_once_and_tells_both(run) -> None:
    result = run(FAILING)
    result.assert_outcomes(failed=3, passed=1, errors=1, skipped=2, xfailed=2)
    told = result.stdout.str()
    assert told.count("This test's sessions: 1 rapid duplicate create") == 3
    assert told.count("--- session_exporter ---") == 2
    assert "AssertionError: by itself" in told


def test_the_first_failure_ends_the_run_when_that_is_asked_for(run) -> None:
    result = run("def test_1(): race()\ndef test_2(): race()", "-x", "--session-exporter=always")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])


def test_the_processes_of_xdist_check_each_their_own(run, pytester) -> None:
    body = (
        "@pytest.mark.session_exporter\n@pytest.mark.parametrize('n', range(6))\ndef test_it(n): race() if n % 2 else 0"
    )
    result = run(body, "-n", "2", apart=True)
    result.assert_outcomes(failed=3, passed=3)
    assert result.stdout.str().count("This test's sessions: 1 rapid duplicate create (same_worker)") == 3


CHILDREN = """
import subprocess, sys

CHILD = "from session_exporter import SessionTracker; SessionTracker().created('ann', '{}')"

@pytest.fixture(scope="module")
def server():
    command = "import sys\\nfrom session_exporter import SessionTracker\\nt = SessionTracker()\\nfor line in sys.stdin:"
    command += "\\n t.created('ann', line.strip())\\n print('done', flush=True)"
    with subprocess.Popen([sys.executable, "-c", command], stdin=-1, stdout=-1, text=True) as process:
        def create(session):
            process.stdin.write(session + "\\n")
            process.stdin.flush()
            process.stdout.readline()
        yield create
        process.stdin.close()

@pytest.mark.session_exporter
def test_children():
    for number in range(2):
        subprocess.run([sys.executable, "-c", CHILD.format(number)], check=True)

@pytest.mark.session_exporter
@pytest.mark.parametrize("turn", [1, 2])
def test_server(server, turn):
    server(f"s-{turn}")

@pytest.mark.session_exporter
def test_server_and_test(server):
    server("s-3")
    tracker.created("ann", "s-4")
"""


def test_what_child_processes_do_belongs_to_the_test(run) -> None:
    result = run(CHILDREN)
    assert outcomes(result) == {
        "test_children": "failed",
        "test_server[1]": "passed",
        "test_server[2]": "passed",
        "test_server_and_test": "failed",
    }
    assert result.stdout.str().count("This test's sessions: 1 rapid duplicate create (cross_worker)") == 2


CONFIG = """
scopes:
  chat: {idle_timeout: 20m}
  tabs: {sessions_per_user: many}
lateness: 1s
"""


def test_scopes_are_judged_by_the_configuration_of_the_project(run, pytester) -> None:
    pytester.makeini("[pytest]\nsession_exporter_config = conf/sessions.yml\nsession_exporter_check = always")
    (pytester.path / "conf").mkdir()
    (pytester.path / "conf" / "sessions.yml").write_text(CONFIG)
    (pytester.path / "own.yml").write_text("scopes: {tabs: {}}")
    body = """
def both(scope):
    tracker.created("ann", "1", scope=scope)
    tracker.created("ann", "2", scope=scope)
def test_tabs(): both("tabs")
def test_undeclared(session_exporter):
    both("chats")
    assert session_exporter.judged().scopes.keys() == {"other"}
@pytest.mark.session_exporter(config="own.yml")
def test_own(): both("tabs")
"""
    result = run(body, apart=True)
    assert outcomes(result) == {"test_tabs": "passed", "test_undeclared": "failed", "test_own": "failed"}


WRONG = """
@pytest.mark.session_exporter(max_redundant=0)
def test_argument(): pass

@pytest.mark.session_exporter(0)
def test_position(): pass

@pytest.mark.session_exporter(max_redundant_lookups=-1)
def test_limit(): pass

@pytest.mark.session_exporter(min_reuse_ratio=95)
def test_ratio(): pass

@pytest.mark.session_exporter(allow=("duplicates",))
def test_word(): pass

@pytest.mark.session_exporter(allow=7)
def test_words(): pass

@pytest.mark.session_exporter(config="gone.yml")
def test_file(): pass

@pytest.mark.session_exporter(config=7)
def test_path(): pass
"""


def test_a_marker_that_is_wrong_is_an_error_that_names_what_is(run) -> None:
    result = run(WRONG, "--strict-markers")
    result.assert_outcomes(errors=8)
    names = "max_redundant_lookups, min_reuse_ratio, allow, config"
    result.stdout.fnmatch_lines(
        [
            f"session_exporter: unknown argument 'max_redundant': expected {names}",
            f"session_exporter: 0: expected arguments by name: {names}",
            "session_exporter: max_redundant_lookups=-1: expected a whole number from 0, or None",
            "session_exporter: min_reuse_ratio=95: expected a ratio from 0 to 1, or None",
            "session_exporter: allow: 'duplicates': expected one of rapid_duplicate_create, *",
            "session_exporter: allow=7: expected words",
            "session_exporter: *gone.yml: cannot be read: No such file or directory",
            "session_exporter: config=7: expected the path of a configuration, or None",
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--session-exporter=yes"], "*argument --session-exporter: invalid choice: 'yes'*marked*always*off*"),
        (["-o", "session_exporter_check=yes"], "*session_exporter_check = 'yes': expected marked, always or off*"),
    ],
)
def test_a_setting_that_is_wrong_ends_the_run(run, arguments, message) -> None:
    result = run("def test_it(): pass", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_check_without_a_recording_is_an_error(run, monkeypatch) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DISABLED", "1")
    result = run("@pytest.mark.session_exporter\ndef test_it(): pass\ndef test_unchecked(): pass")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["session_exporter: nothing is recorded while $SESSION_EXPORTER_DISABLED is set*"])


def test_events_that_were_lost_fail_the_test(run) -> None:
    result = run(
        "@pytest.mark.session_exporter\n"
        "def test_it():\n    tracker.created('ann', 's')\n"
        "    tracker._outlet.append((2, 10**15, 'x' * 10**6, 's'))\n"
        "@pytest.mark.session_exporter\ndef test_next(): pass"
    )
    assert outcomes(result) == {"test_it": "failed", "test_next": "passed"}
    result.stdout.fnmatch_lines(["This test's sessions: 1 event not recorded, and so not judged"])


UNASKED = """
import os, sys

def test_nothing_is_imported_and_nothing_changed():
    assert not [name for name in sys.modules if name.startswith("session_exporter.pytest_checks")]
    ours = {name for name in sys.modules if name.startswith("session_exporter")}
    assert ours == {"session_exporter", "session_exporter._version", "session_exporter.pytest_plugin"}
    assert not {"msgspec", "yaml", "wrapt", "sqlalchemy"} & set(sys.modules)
    assert os.environ["SESSION_EXPORTER_DIR"].endswith("journal")

def test_the_application_records_where_it_always_does(request):
    assert request.config.pluginmanager.get_plugin("session_exporter_checking") is None
    from session_exporter import SessionTracker
    SessionTracker().created("ann", "s")
    assert os.listdir(os.environ["SESSION_EXPORTER_DIR"])
"""


def test_a_run_that_does_not_ask_is_what_it_would_be_without(run) -> None:
    run(UNASKED, begin="", apart=True).assert_outcomes(passed=2)


def test_a_run_that_has_it_switched_off_is_what_it_would_be_without(run) -> None:
    marked = UNASKED.replace("def test", "@__import__('pytest').mark.session_exporter(anything=1)\ndef test")
    fixture = (
        "\ndef test_fixture(session_exporter):\n    session_exporter.allow('missing')\n    session_exporter.counts"
    )
    result = run(marked + fixture, "--session-exporter=off", begin="", apart=True)
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["*SKIPPED*the checks of session_exporter are off*"])


def test_listing_tests_records_nothing(run, pytester) -> None:
    result = run("import os\n@pytest.mark.session_exporter\ndef test_it(): pass", "--collect-only")
    assert result.ret == 0
    assert not (pytester.path / "journal").exists()


ELSEWHERE = """
import pytest
from session_exporter import SessionTracker

tracker = SessionTracker("elsewhere")
tracker.created("ann", "before")

@pytest.fixture(scope="session", autouse=True)
def application():
    yield tracker
"""


def test_trackers_that_have_a_directory_are_recorded_and_write_to_it_no_more(run, pytester) -> None:
    pytester.makeconftest(ELSEWHERE)
    body = (
        "@pytest.mark.session_exporter\ndef test_it(application):\n"
        "    application.created('ann', 'a')\n    application.created('ann', 'b')"
    )
    assert outcomes(run(body)) == {"test_it": "failed"}
    reader = JournalReader(pytester.path / "elsewhere", {})
    reader.scan()
    batch = reader.read()
    assert batch is not None
    assert [event.session for event in batch.events] == ["before"]
    assert reader.read() is None
    reader.close()


def test_hooks_that_were_installed_before_pytest_are_recorded(run, pytester) -> None:
    (pytester.path / "hooks.yml").write_text(
        "scopes: {chat: {}}\ncalls: [{call: 'service:make', kind: create, scope: chat, user: user}]\n"
    )
    pytester.makepyfile(service="def make(user, session):\n    return session\n")
    pytester.makepyfile(
        test_it="import pytest, service\n"
        "@pytest.mark.session_exporter(config='hooks.yml')\n"
        "def test_it():\n    service.make('ann', 'a')\n    service.make('ann', 'b')\n"
    )
    plugin = [] if INSTALLED else ["-p", "session_exporter.pytest_plugin"]
    python = [sys.executable, "-m"]
    command = [*python, "session_exporter", "run", "--config.file", "hooks.yml", "--", *python, "pytest", "-W", "error"]
    result = pytester.run(*command, "-rA", "-p", "no:cacheprovider", *plugin, "test_it.py")
    assert outcomes(result) == {"test_it": "failed"}
    result.stdout.fnmatch_lines(["This test's sessions: 1 rapid duplicate create (same_worker)"])


def test_no_directory_is_left_behind(run, pytester, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("temporary")))
    run(
        "import os\n@pytest.mark.session_exporter\n"
        "def test_it():\n    race()\n    assert os.listdir(os.environ['TMPDIR'])"
    )
    assert [path.name for path in (pytester.path / "temporary").glob("session-exporter-*")] == []


HOW_TO = (PROJECT / "docs" / "howto" / "test-your-application.md").read_text(encoding="utf-8")


def shape(line: str) -> str:
    """A line of output without what differs from run to run."""
    return re.sub(r"[0-9a-f]*\d[0-9a-f.]*", "N", re.sub(r"[ _]+", " ", line)).strip()


def test_the_examples_of_the_how_to_do_what_it_says(run, pytester) -> None:
    for text, name in re.findall(r"^```\w+\n(# ([\w.]+)\n.*?)^```$", HOW_TO, re.DOTALL | re.MULTILINE):
        (pytester.path / name).write_text(text)
    (pytester.path / "session-exporter.yml").write_text("scopes: {conversation: {}}")
    result = run(apart=True)
    assert outcomes(result) == {
        "test_two_messages_at_once_are_answered": "failed",
        "test_handover": "failed",  # without a session no ratio is reached
        "test_a_conversation_goes_on": "passed",
        "test_the_race_is_still_there": "passed",
    }
    [shown] = re.findall(r"^```\n(__.*?)^```$", HOW_TO, re.DOTALL | re.MULTILINE)
    printed = {shape(line) for line in result.outlines}
    assert [line for line in shown.splitlines() if line != "[...]" and shape(line) not in printed] == []
    assert set(re.findall(r"chat\.py:\d+:\w+", shown)) == set(re.findall(r"chat\.py:\d+:\w+", result.stdout.str()))
