"""What `session-exporter tail` prints of a real journal, and that it leaves no trace."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from session_exporter.cli.session_exporter import main
from session_exporter.cli.tail import Tail
from session_exporter.cli.unfolding import RecordedEvents
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.journal import JournalLimits, JournalReader, JournalWriter
from session_exporter.tracker import SessionTracker

NOBODY = 65534
KEY = b"k" * 32
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z  \w+ +\S+ +\S+ +\S+(  .*)?")
EVENT_KEYS = [
    *("at", "event", "scope", "session", "user", "key", "request", "trace", "worker", "pid", "replica"),
    *("call_sites", "reason", "expected", "actual", "asked", "missed", "since", "shared", "thread", "run"),
    *("created_at", "duration_ms"),
    *("generation", "violation", "other_user", "other_request", "db_session"),
]
VERDICT_KEYS = ["at", "verdict", "scope", "session", "user", "cause", "reason"]
PLAIN_IDS = ("ann-the-user", "bob-the-user", "sess-one", "sess-two", "sess-three", "req-one", "phone-key", "elsewhere")

Tailing = Callable[..., Result]


class Clock:
    """A clock that stands until it is moved; it starts a minute ago."""

    def __init__(self) -> None:
        self.at_us = time.time_ns() // 1000 - 60_000_000

    def __call__(self) -> int:
        self.at_us += 1
        return self.at_us * 1000

    def move(self, seconds: float) -> None:
        self.at_us += round(seconds * 1_000_000)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    place = tmp_path / "state"
    place.mkdir()
    (place / "key").write_bytes(KEY)
    return place


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_writer(directory: Path) -> Iterator[Callable[..., JournalWriter]]:
    writers: list[JournalWriter] = []

    def make(**options: Any) -> JournalWriter:
        writers.append(JournalWriter(directory, **options))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


@pytest.fixture
def tracker(directory: Path, clock: Clock) -> Iterator[SessionTracker]:
    tracker = SessionTracker(directory, clock_ns=clock)
    yield tracker
    tracker.close()


@pytest.fixture
def tail(directory: Path, state: Path) -> Tailing:
    def run(*arguments: object) -> Result:
        places = ("--journal.directory", directory, "--state.directory", state)
        result = CliRunner().invoke(main, ["tail", *map(str, (*places, *arguments))])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def tell_everything(tracker: SessionTracker) -> None:
    with tracker.request(request_id="req-one", user_id="ann-the-user"):
        tracker.looked_up(None, duration_s=0.0125)
        tracker.created(None, "sess-one", key="phone-key")
        tracker.reused(None, "sess-one")
    tracker.observed("bob-the-user", "sess-two", created_at="2026-01-01T00:00:00Z")
    tracker.attributed("sess-three", "bob-the-user")
    tracker.ended("sess-one", reason="completed")
    tracker.context_lost("ann-the-user", expected="sess-one", actual="elsewhere")
    hook = tracker.reporter("sqlalchemy")
    where = hook.surroundings()
    hook.conflicted("sess-four", scope="default", user="bob-the-user", where=where)
    hook.create_failed("timeout", scope="default", user="bob-the-user", where=where)
    hook.violated("use-1", "db_session_of_two_users", user="ann-the-user", other_user="bob-the-user", where=where)
    hook.db_session(
        "use-1",
        outcome="error",
        state="error",
        opened_at_us=1_800_000_000_000_000,
        last_activity_us=1_800_000_000_000_000,
        queries=3,
        transactions=1,
        errors={"deadlock": 1},
        last_error="OperationalError 40P01",
        total_time_us=1_500,
        where=where,
    )


def tell_what_was_missed(tracker: SessionTracker) -> None:
    """A login that replaces a session, and a request that looks for one in vain and takes another."""
    with tracker.request(request_id="req-one", user_id="ann-the-user", session_id="sess-one"):
        tracker.reused(None, "sess-one")
        tracker.created(None, "sess-two")
    with tracker.request(
        request_id="req-two", user_id="ann-the-user", session_id="sess-one", thread_id="thread-1", run_id="run-1"
    ):
        tracker.looked_up(None, asked="sess-one")
        tracker.reused(None, "sess-two")
        tracker.reused(None, "sess-two", scope="other")


def tell_the_story(tracker: SessionTracker, clock: Clock) -> None:
    """Three lookups and three creates in one request, work on the last session, a loss, and an end."""
    with tracker.request(request_id="req-one", user_id="ann-the-user"):
        for session in ("sess-one", "sess-two", "sess-three"):
            tracker.looked_up(None)
            tracker.created(None, session)
            clock.move(0.1)
    clock.move(20)
    tracker.reused("ann-the-user", "sess-three")
    tracker.context_lost("ann-the-user", expected="sess-one", actual="sess-three")
    tracker.ended("sess-three", reason="user_request")


STORY = [
    ("lookup", None, None),
    ("create", "sess-one", None),
    ("redundant_lookup", None, None),
    ("create", "sess-two", None),
    ("rapid_duplicate_create", "sess-two", "same_request"),
    ("redundant_lookup", None, None),
    ("create", "sess-three", None),
    ("rapid_duplicate_create", "sess-three", "same_request"),
    ("reuse", "sess-three", None),
    ("context_loss", None, "reported"),
    ("end", "sess-three", "user_request"),
]


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def shape(directory: Path) -> dict[str, tuple[int, int]]:
    places = [directory, *directory.rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in places}


# --- events


def test_every_kind_is_one_line_of_what_the_hooks_recorded(tracker: SessionTracker, tail: Tailing) -> None:
    tell_everything(tracker)
    result = tail("--show-ids")
    lines = result.stdout.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    words = [re.sub(r"worker=\S+|at=\S+/", lambda found: found[0][:3], line[26:]).split() for line in lines]
    here = "test_tail.py:{}:tell_everything"
    assert [" ".join(re.sub(r"py:\d+:", "py:{}:", word) for word in line) for line in words] == [
        f"looked_up default - ann-the-user request=req-one wor at={here} duration=12.5ms",
        f"created default sess-one ann-the-user key=phone-key request=req-one wor at={here}",
        "reused default sess-one ann-the-user request=req-one wor",
        f"observed default sess-two bob-the-user wor at={here} created_at=2026-01-01T00:00:00.000000Z",
        "attributed default sess-three bob-the-user wor",
        "ended default sess-one - wor reason=completed",
        f"context_lost default - ann-the-user wor at={here} expected=sess-one actual=elsewhere",
        f"conflicted default sess-four bob-the-user wor at={here}",
        f"create_failed default - bob-the-user wor at={here} reason=timeout",
        f"violated default use-1 ann-the-user wor at={here} violation=db_session_of_two_users other_user=bob-the-user",
        (
            f"db_session default use-1 - wor at={here} outcome=error queries=3 transactions=1 errors=deadlock:1"
            ' last_error="OperationalError 40P01" total=1.5ms'
        ),
    ]
    assert (result.exit_code, result.stderr) == (0, "")


def test_what_a_request_missed_is_told(tracker: SessionTracker, tail: Tailing) -> None:
    tell_what_was_missed(tracker)
    words = [
        re.sub(r"(worker|at|since)=\S+( \S+\")?", r"\1", line[26:]) for line in tail("--show-ids").stdout.splitlines()
    ]
    assert [" ".join(line.split()) for line in words] == [
        "reused default sess-one ann-the-user request=req-one worker",
        "created default sess-two ann-the-user request=req-one worker at expected=sess-one",
        "looked_up default - ann-the-user request=req-two worker at asked=sess-one",
        "identified default - ann-the-user request=req-two worker thread=thread-1 run=run-1",
        "reused default sess-two ann-the-user request=req-two worker",
        "reused other sess-two ann-the-user request=req-two worker",
        "identified other - ann-the-user request=req-two worker thread=thread-1 run=run-1",
        (
            "unmet default sess-one ann-the-user request=req-two worker at missed=missed_by_id actual=sess-two since"
            " shared=yes"
        ),
    ]
    found = {each["event"]: each for each in objects(tail("--json"))}
    assert [list(each) for each in found.values()] == [EVENT_KEYS] * len(found)
    assert found["unmet"]["since"] == found["looked_up"]["at"]
    assert found["unmet"]["session"] == found["looked_up"]["asked"]
    assert (found["identified"]["thread"][:2], found["identified"]["run"][:4]) == ("t:", "run:")
    assert (found["unmet"]["shared"], found["reused"]["shared"], found["reused"]["missed"]) == (True, None, None)


def test_a_line_names_its_worker(make_writer: Callable[..., JournalWriter], tail: Tailing) -> None:
    SessionTracker(journal=make_writer(replica="web-1")).reused("u", "s")
    assert f" worker={os.getpid()}@web-1\n" in tail().stdout


def test_a_trace_is_shown(make_writer: Callable[..., JournalWriter], tail: Tailing) -> None:
    make_writer().append((2, 1_800_000_000_000_000, "default", "s", "u", "", "", bytes(range(16))))
    assert " trace=000102030405060708090a0b0c0d0e0f " in tail().stdout


def test_objects_have_all_keys_whatever_the_kind(tracker: SessionTracker, tail: Tailing) -> None:
    tell_everything(tracker)
    found = objects(tail("--json", "--show-ids"))
    assert [list(each) for each in found] == [EVENT_KEYS] * 11
    lookup, created, reused, observed, _, ended, lost, _, failed, violated, use = found
    assert (lookup["session"], lookup["duration_ms"], lookup["reason"]) == (None, 12.5, None)
    assert (created["key"], created["request"], created["pid"]) == ("phone-key", "req-one", os.getpid())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", created["at"])
    assert created["call_sites"][0].endswith(":tell_everything")
    assert (reused["call_sites"], reused["duration_ms"], reused["trace"]) == ([], None, None)
    assert observed["created_at"] == "2026-01-01T00:00:00.000000Z"
    assert (ended["user"], ended["reason"]) == (None, "completed")
    assert (lost["expected"], lost["actual"]) == ("sess-one", "elsewhere")
    assert (failed["reason"], violated["other_user"]) == ("timeout", "bob-the-user")
    assert (use["db_session"]["query_count"], use["db_session"]["errors"]) == (3, {"deadlock": 1})


def test_the_documented_keys_are_those_that_are_there() -> None:
    text = (Path(__file__).parents[2] / "docs/tail.md").read_text()
    documented = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in text.splitlines() if row.startswith("| `")]
    assert [key for row in documented for key in row] == EVENT_KEYS + VERDICT_KEYS


def test_the_events_of_all_workers_come_in_order_of_time(
    make_writer: Callable[..., JournalWriter], clock: Clock, tail: Tailing
) -> None:
    writers = [make_writer(clock_us=lambda: clock.at_us) for _ in range(3)]
    workers = [SessionTracker(journal=writer, clock_ns=clock) for writer in writers]
    for n in range(3000):
        workers[n % 7 % 3].reused("u", f"s{n}")
    assert [each["session"] for each in objects(tail("--json", "--show-ids"))] == [f"s{n}" for n in range(3000)]


# --- ids


@pytest.mark.parametrize("options", [(), ("--json",), ("--judged",), ("--judged", "--json")])
def test_no_id_is_shown_as_it_is_unless_asked_for(tracker: SessionTracker, tail: Tailing, options: Any) -> None:
    tell_everything(tracker)
    hidden, shown = tail(*options), tail(*options, "--show-ids")
    assert not [name for name in PLAIN_IDS if name in hidden.output]
    assert "sess-one" in shown.output


def test_pseudonyms_are_those_of_the_sidecar(tracker: SessionTracker, tail: Tailing) -> None:
    tracker.created("ann", "sess")
    names = Pseudonyms(KEY)
    expected = (names.label("s", names["sess"]), names.label("u", names["ann"]))
    found = [*objects(tail("--json")), *objects(tail("--json", "--judged"))]
    assert [(each["session"], each["user"]) for each in found] == [expected] * 2


def test_the_key_may_be_where_the_configuration_says(
    tracker: SessionTracker, tail: Tailing, tmp_path: Path, state: Path
) -> None:
    tracker.reused("ann", "sess")
    (tmp_path / "shared").write_bytes(b"z" * 16)
    (tmp_path / "config.yml").write_text(f"privacy: {{key_file: {tmp_path}/shared}}")
    names = Pseudonyms(b"z" * 16)
    result = tail("--config.file", tmp_path / "config.yml")
    assert (names.label("s", names["sess"]) in result.stdout, result.stderr) == (True, "")


@pytest.mark.parametrize(
    ("key", "problem"), [(None, "no sidecar has kept its state in {} yet; "), (b"short", "{}/key: 5 bytes; ")]
)
def test_without_a_key_pseudonyms_are_this_runs_own_and_none_is_made(
    tracker: SessionTracker, tail: Tailing, state: Path, key: bytes | None, problem: str
) -> None:
    tell_everything(tracker)
    (state / "key").unlink()
    if key is not None:
        (state / "key").write_bytes(key)
    before = shape(state)
    first, second = tail(), tail()
    assert first.stdout != second.stdout
    assert first.stderr.startswith(f"session-exporter: {problem.format(state)}")
    assert "the pseudonyms are this run's own" in first.stderr
    assert shape(state) == before
    assert tail("--show-ids").stderr == ""


# --- verdicts


def test_what_is_judged_is_the_story_in_order_of_time(tracker: SessionTracker, clock: Clock, tail: Tailing) -> None:
    tell_the_story(tracker, clock)
    found = objects(tail("--judged", "--json", "--show-ids"))
    assert [list(each) for each in found] == [VERDICT_KEYS] * len(STORY)
    assert [(each["verdict"], each["session"], each["cause"] or each["reason"]) for each in found] == STORY
    assert {each["user"] for each in found} == {"ann-the-user"}
    assert [each["at"] for each in found] == sorted(each["at"] for each in found)


def test_verdicts_are_lines_too(tracker: SessionTracker, clock: Clock, tail: Tailing) -> None:
    tell_the_story(tracker, clock)
    lines = tail("--judged", "--show-ids").stdout.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert [line.split()[2] for line in lines] == [verdict for verdict, _, _ in STORY]
    assert lines[4].split()[3:] == ["default", "sess-two", "ann-the-user", "cause=same_request"]
    assert lines[-1].split()[3:] == ["default", "sess-three", "ann-the-user", "reason=user_request"]


def test_an_adoption_is_put_in_its_place(tracker: SessionTracker, clock: Clock, tail: Tailing) -> None:
    tracker.observed("ann", "sess")
    clock.move(1)
    tracker.reused("ann", "sess")
    found = objects(tail("--judged", "--json"))
    assert [each["verdict"] for each in found] == ["lookup", "adopted", "reuse"]


def test_the_configured_rules_are_applied(tracker: SessionTracker, clock: Clock, tail: Tailing, tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text("scopes: {chat: {duplicate_window: 200ms, idle_timeout: 10s}}")
    tracker.created("ann", "one", scope="chat")
    clock.move(1)
    tracker.created("ann", "two", scope="chat")
    clock.move(0.1)
    tracker.created("ann", "three", scope="chat")
    found = objects(tail("--judged", "--json", "--show-ids", "--config.file", config))
    assert [(each["verdict"], each["session"], each["reason"]) for each in found] == [
        *(("create", "one", None), ("create", "two", None), ("context_loss", None, "replaced")),
        ("create", "three", None),
        ("rapid_duplicate_create", "three", None),
        *(("end", "one", "expired"), ("end", "two", "expired"), ("end", "three", "expired")),
    ]
    assert {each["scope"] for each in found} == {"chat"}


# --- what is in nobody's way


@pytest.mark.parametrize("options", [(), ("--judged",)])
def test_nothing_is_written_or_deleted(
    make_writer: Callable[..., JournalWriter], directory: Path, state: Path, tail: Tailing, options: Any
) -> None:
    dead, living = make_writer(), make_writer()
    for writer in (dead, living):
        SessionTracker(journal=writer).created("u", "s")
    dead.close()
    (directory / ".abandoned-1.00000001.seg.tmp").write_bytes(b"")
    before = shape(directory), shape(state)
    for _ in range(4):
        assert tail(*options).exit_code == 0
    assert (shape(directory), shape(state)) == before


def test_garbage_is_skipped_and_told(tracker: SessionTracker, directory: Path, tail: Tailing) -> None:
    tracker.created("u", "before")
    (segment,) = directory.glob("*.seg")
    whole = segment.read_bytes()
    committed = int.from_bytes(whole[16:24], "little")
    # Noise under a segment's name, a name that is none, and noise behind what the worker committed.
    stranger = segment.name.replace("-", "-0", 1)
    (directory / stranger).write_bytes(os.urandom(600))
    (directory / "notes\n.txt").write_text("hello")
    with segment.open("r+b") as file:
        file.seek(16)
        file.write((committed + 64).to_bytes(8, "little"))
        file.seek(committed)
        file.write(os.urandom(64))
    result = tail("--show-ids")
    assert [line.split()[4] for line in result.stdout.splitlines()] == ["before"]
    assert (
        "session-exporter: skipped: 1 damaged piece, 0 events of a kind that this version does not know\n"
        in result.stderr
    )
    assert result.exit_code == 0


def test_hostile_text_cannot_act_or_pretend(make_writer: Callable[..., JournalWriter], tail: Tailing) -> None:
    hostile = '\x1b[2J\u202e\n"x" user=root'
    make_writer().append(
        (5, 1_800_000_000_000_000, "default", hostile, "-", "k e y", "r=1", b"", "reason\x07\\ \u00e9")
    )
    (line,) = tail("--show-ids").stdout.splitlines()
    assert line.isprintable()
    assert r'  "\\x1b[2J\\u202e\\n\"x\" user=root"  "-"  ' in re.sub(" {3,}", "  ", line)
    assert ' key="k e y" request="r=1" ' in line
    assert line.endswith('reason="reason\\\\x07\\\\ \u00e9"')
    (found,) = objects(tail("--json", "--show-ids"))
    assert (found["session"], found["user"], found["key"]) == (hostile, "-", "k e y")


def test_an_ascii_terminal_gets_ascii(tracker: SessionTracker, directory: Path, state: Path) -> None:
    tracker.reused("größer", "日本")
    result = subprocess.run(
        [sys.executable, "-m", "session_exporter", "tail", "--show-ids", "--journal.directory", directory],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert rb"\u65e5\u672c" in result.stdout
    assert rb"gr\xf6\xdfer" in result.stdout


# --- where there is nothing


def test_a_directory_without_workers_says_where_it_looked(directory: Path, tail: Tailing) -> None:
    for _ in ("missing", "empty"):
        result = tail()
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"session-exporter: no worker has written in {directory}; name the" in result.stderr
        directory.mkdir(exist_ok=True)


def test_a_file_is_no_directory(directory: Path, tail: Tailing) -> None:
    directory.write_text("")
    result = tail("--follow")
    assert result.exit_code == 2
    assert f"{directory}: Not a directory" in result.stderr


def test_a_wrong_configuration_is_refused(tail: Tailing, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("scope: {}")
    result = tail("--config.file", tmp_path / "config.yml")
    assert result.exit_code == 2
    assert "config.yml:1: scope: unknown key" in result.stderr


@pytest.fixture
def shared_place() -> Iterator[Path]:
    """A directory to which everybody can go."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_somebody_else() -> Iterator[Callable[[], None]]:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    yield lambda: os.seteuid(NOBODY)
    os.seteuid(0)


@pytest.mark.parametrize(
    ("mode", "options"), [(0o700, ()), (0o700, ("--show-ids",)), (0o700, ("--follow",)), (0o755, ("--show-ids",))]
)
def test_the_journal_of_somebody_else_is_not_read(
    shared_place: Path, as_somebody_else: Callable[[], None], mode: int, options: tuple[str, ...]
) -> None:
    directory = shared_place / "journal"
    tracker = SessionTracker(directory)
    tracker.created("u", "s")
    directory.chmod(mode)
    as_somebody_else()
    result = CliRunner().invoke(main, ["tail", "--journal.directory", str(directory), *options])
    os.seteuid(0)
    tracker.close()
    assert (result.exit_code, result.stdout) == (2, "")
    reason = (
        "Permission denied; it belongs to root" if mode == 0o700 else f"no worker's files can be read in {directory}"
    )
    assert reason in result.stderr


# --- beside a sidecar


def records(pieces: Iterator[list[dict[str, Any]]]) -> list[str]:
    return [record["session"] for piece in pieces for record in piece]


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def beside(directory: Path, notes: list[str]) -> Iterator[Tail]:
    reader = JournalReader(directory, {})
    yield Tail(reader, RecordedEvents(Pseudonyms(KEY, show_ids=True)), notes.append)
    reader.close()


def drain_and_delete(directory: Path) -> None:
    """What a sidecar does."""
    reader = JournalReader(directory, {})
    reader.lock()
    reader.scan()
    while reader.read():
        pass
    reader.release(reader.positions())
    reader.close()


def test_what_the_sidecar_deletes_between_two_looks_is_still_shown(
    directory: Path, make_writer: Callable[..., JournalWriter], beside: Tail, notes: list[str]
) -> None:
    writer = make_writer()
    tracker = SessionTracker(journal=writer)
    tracker.reused("u", "s1")
    assert records(beside.step()) == ["s1"]
    tracker.reused("u", "s2")
    writer.close()
    drain_and_delete(directory)
    assert not list(directory.glob("*.seg"))
    assert records(beside.step()) == ["s2"]
    assert notes == []


def test_what_was_deleted_before_it_was_seen_is_told(
    directory: Path, make_writer: Callable[..., JournalWriter], beside: Tail, notes: list[str]
) -> None:
    tracker = SessionTracker(journal=make_writer(limits=JournalLimits(segment_bytes=4096)))
    tracker.reused("u", "first")
    assert records(beside.step()) == ["first"]
    while len(list(directory.glob("*.seg"))) < 4:
        tracker.reused("u", "s" * 200)
    drain_and_delete(directory)
    tracker.reused("u", "last")
    assert records(beside.step())[-1] == "last"
    assert notes == ["not shown: 2 segments that the sidecar had read and deleted before"]
