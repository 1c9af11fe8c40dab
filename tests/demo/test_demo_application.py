"""The chat application as its users meet it: real workers, real SQLite, real HTTP."""

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from session_exporter.demo.application import Chat, Message
from session_exporter.demo.children import WORKERS, Home, running, workers
from session_exporter.demo.findings import Truth, read_truth
from session_exporter.demo.sessions import Outage, ProgressServiceError, RacySessions, RepairedSessions, UserSessions
from session_exporter.demo.store import CONVERSATION, PROGRESS_UPDATE, ChatDatabase
from session_exporter.demo.traffic import Plan, TrafficCounts, drive
from session_exporter.errors import PeerError
from session_exporter.tracker import SessionTracker

Answer = TypeVar("Answer")
DEADLINE_S = 20.0
# The users 2, 4, ... have two tabs; 5 and 10 say hello first; 8 meets the injected failure.
PLAN = Plan(users=12, messages=6, seconds=0.3, two_tabs_every=2, greets_every=5)


@dataclass(frozen=True)
class Run:
    """What users saw and what the database holds after some traffic."""

    tally: TrafficCounts
    pids: set[int]
    truth: Truth
    conversations: Counter[str]
    progress_updates: Counter[str]


async def _traffic(directory: Path, *, fixed: bool) -> Run:
    home = Home(directory)
    home.prepare()
    async with workers(home, fixed=fixed) as application:
        tally = await drive(application.url, PLAN)
    with closing(sqlite3.connect(home.database)) as connection:
        conversations = Counter(user for (user,) in connection.execute("SELECT user_id FROM conversation_sessions"))
        progress = Counter(user for (user,) in connection.execute("SELECT user_id FROM progress_update_sessions"))
    return Run(tally, application.pids, read_truth(home.database), conversations, progress)


@pytest.fixture(scope="module")
def racy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return asyncio.run(_traffic(tmp_path_factory.mktemp("racy"), fixed=False))


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return asyncio.run(_traffic(tmp_path_factory.mktemp("repaired"), fixed=True))


@pytest.mark.integration
class TestRacyApplication:
    def test_one_message_creates_three_conversations(self, racy: Run) -> None:
        assert {racy.conversations[f"user-{number:02d}"] for number in (1, 3, 5, 7, 9, 11)} == {3}

    def test_two_tabs_create_more_than_one_message_does(self, racy: Run) -> None:
        assert max(racy.conversations[f"user-{number:02d}"] for number in (2, 4, 6, 10, 12)) == 6

    def test_progress_updates_are_duplicated_as_well(self, racy: Run) -> None:
        assert racy.truth.scopes[PROGRESS_UPDATE].duplicates > 0

    def test_users_are_greeted_although_they_had_picked_a_project(self, racy: Run) -> None:
        assert racy.tally.wrong_greetings > 0
        assert "user-05" not in racy.tally.wrongly_greeted  # said hello first, and picked when one session was newest

    def test_a_failure_between_the_two_creates_leaves_an_orphan(self, racy: Run) -> None:
        assert racy.tally.failures > 0
        assert racy.truth.orphans > 0

    def test_every_worker_answers(self, racy: Run) -> None:
        assert len(racy.pids) == WORKERS
        assert set(racy.tally.workers) == racy.pids


@pytest.mark.integration
class TestRepairedApplication:
    def test_every_user_has_one_session_of_each_kind(self, repaired: Run) -> None:
        assert set(repaired.conversations.values()) == {1}
        assert repaired.progress_updates == repaired.conversations
        assert len(repaired.conversations) == PLAN.users

    def test_nobody_is_greeted_who_had_picked_a_project(self, repaired: Run) -> None:
        assert repaired.tally.wrong_greetings == 0
        assert repaired.tally.answers["tasks"] > 0

    def test_a_failure_between_the_two_creates_leaves_no_orphan(self, repaired: Run) -> None:
        assert repaired.tally.failures > 0
        assert repaired.truth.orphans == 0

    def test_every_worker_answers(self, repaired: Run) -> None:
        assert set(repaired.tally.workers) == repaired.pids

    def test_every_goodbye_ends_a_session_of_each_kind(self, repaired: Run) -> None:
        assert {counts.ended for counts in repaired.truth.scopes.values()} == {PLAN.users}


@pytest.fixture
def tracker(tmp_path: Path) -> SessionTracker:
    journal = tmp_path / "journal"
    journal.mkdir()
    return SessionTracker(journal)


@pytest.mark.integration
class TestSessionServices:
    def test_concurrent_callers_of_the_racy_service_get_different_sessions(
        self, tmp_path: Path, tracker: SessionTracker
    ) -> None:
        with closing(ChatDatabase(tmp_path / "chat.sqlite", one_active_session=False)) as database:
            sessions = RacySessions(database, tracker, Outage())
            got = asyncio.run(_three_at_once(sessions.get_or_create_session))
        assert len({session.conversation for session in got}) == 3

    def test_concurrent_callers_of_the_repaired_service_share_one_session(
        self, tmp_path: Path, tracker: SessionTracker
    ) -> None:
        with closing(ChatDatabase(tmp_path / "chat.sqlite", one_active_session=True)) as database:
            sessions = RepairedSessions(database, tracker, Outage())
            got = asyncio.run(_three_at_once(sessions.get_or_create_session))
        assert len(set(got)) == 1

    def test_the_repaired_service_creates_nothing_when_it_fails_halfway(
        self, tmp_path: Path, tracker: SessionTracker
    ) -> None:
        with closing(ChatDatabase(tmp_path / "chat.sqlite", one_active_session=True)) as database:
            sessions = RepairedSessions(database, tracker, Outage())
            with pytest.raises(ProgressServiceError, match="user-8"):
                asyncio.run(sessions.get_or_create_session("user-8"))
            assert database.find(CONVERSATION, "user-8") is None
            session = asyncio.run(sessions.get_or_create_session("user-8"))
            assert database.find(PROGRESS_UPDATE, "user-8") is not None
        assert session.project is None

    def test_a_session_that_was_ended_is_followed_by_a_new_one(self, tmp_path: Path, tracker: SessionTracker) -> None:
        with closing(ChatDatabase(tmp_path / "chat.sqlite", one_active_session=True)) as database:
            sessions = RepairedSessions(database, tracker, Outage())
            first = asyncio.run(sessions.get_or_create_session("ada"))
            sessions.end(first)
            second = asyncio.run(sessions.get_or_create_session("ada"))
        assert {first.conversation, first.progress_update}.isdisjoint({second.conversation, second.progress_update})

    def test_the_chat_remembers_the_project_in_its_one_session(self, tmp_path: Path, tracker: SessionTracker) -> None:
        async def talk(chat: Chat) -> list[str]:
            return [(await chat.answer(Message("ada", text))).kind for text in ("hello", "2", "what is next?", "bye")]

        with closing(ChatDatabase(tmp_path / "chat.sqlite", one_active_session=True)) as database:
            chat = Chat(RepairedSessions(database, tracker, Outage()), database, tracker, fetch_once=True)
            assert asyncio.run(talk(chat)) == ["greeting", "tasks", "tasks", "farewell"]


async def _three_at_once(call: Callable[[str], Coroutine[Any, Any, UserSessions]]) -> list[UserSessions]:
    return await asyncio.gather(call("ada"), call("ada"), call("ada"))


@pytest.mark.integration
class TestHttp:
    def test_a_body_that_is_no_message_is_refused_with_what_was_expected(self, tmp_path: Path) -> None:
        bodies = ("", "no json", "[]", '{"user": "", "message": "1"}', '{"user": "ada"}', '{"user": 1, "message": 2}')

        async def refusals(client: aiohttp.ClientSession, url: str) -> list[tuple[int, str]]:
            return [await _read(client.post(f"{url}/chat", data=body)) for body in bodies]

        expected = 'expected {"user": "a name", "message": "some text"}'
        assert asyncio.run(_asked(tmp_path, refusals)) == [(400, expected)] * len(bodies)

    def test_the_root_says_how_to_talk_to_the_application(self, tmp_path: Path) -> None:
        async def root(client: aiohttp.ClientSession, url: str) -> tuple[str, tuple[int, str]]:
            return url, await _read(client.get(url))

        url, (status, text) = asyncio.run(_asked(tmp_path, root))
        assert status == 200
        assert f"{url}/chat" in text


async def _read(request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> tuple[int, str]:
    async with request as response:
        return response.status, await response.text()


async def _asked(directory: Path, ask: Callable[[aiohttp.ClientSession, str], Coroutine[Any, Any, Answer]]) -> Answer:
    home = Home(directory)
    home.prepare()
    async with workers(home, fixed=True, count=1) as application, aiohttp.ClientSession() as client:
        return await ask(client, application.url)


@pytest.mark.integration
class TestChildren:
    def test_a_worker_ends_when_whoever_started_it_is_gone(self, tmp_path: Path) -> None:
        (tmp_path / "journal").mkdir()
        with socket.create_server(("127.0.0.1", 0), reuse_port=True) as reserved:
            arguments = ("--database", str(tmp_path / "chat.sqlite"), "--port", str(reserved.getsockname()[1]))
            worker = subprocess.Popen(
                [sys.executable, "-m", "session_exporter.demo.leash", "session_exporter.demo.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "SESSION_EXPORTER_DIR": str(tmp_path / "journal")},
            )
            with worker:
                assert worker.stdout is not None
                assert worker.stdout.readline() == b"ready\n"
                assert worker.stdin is not None
                worker.stdin.close()  # as the kernel does when the starter is killed
                assert worker.wait(DEADLINE_S) == 0

    def test_a_child_that_does_not_come_up_is_an_error_that_shows_what_it_printed(self, tmp_path: Path) -> None:
        async def start() -> None:
            module = "session_exporter.demo.no_such_module"
            async with running(module, log=tmp_path / "worker-1.log", journal=tmp_path) as child:
                await child.says("^(ready)$")

        with pytest.raises(PeerError, match=r"(?s)worker-1 exited with 1 before .*no_such_module"):
            asyncio.run(start())
