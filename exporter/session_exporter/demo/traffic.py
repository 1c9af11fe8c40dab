"""The chat application's users: concurrent, impatient, reproducible, and they notice when they are greeted anew."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from session_exporter.demo.application import GOODBYE, TASKS
from session_exporter.errors import PeerError

SMALL_TALK: Final = ("what is next?", "done with the first one", "who is on site today?", "and after that?")
REQUEST_TIMEOUT_S: Final = 30.0
# A message that fails is sent again: each of the four workers may fail a user once.
ATTEMPTS: Final = 6


@dataclass(frozen=True, slots=True)
class Plan:
    """How much traffic.

    Attributes:
        users: How many people chat at once.
        messages: What each of them says in all, the goodbye included.
        seconds: How long that takes them; a slow machine takes longer.
        two_tabs_every: Every so-manieth user has two tabs open, which both send the first message.
        greets_every: Every so-manieth user begins with a hello; the others come with a project in mind.
        name: What user names begin with.
        seed: Of everything random here.
    """

    users: int = 40
    messages: int = 30
    seconds: float = 4.0
    two_tabs_every: int = 3
    greets_every: int = 4
    name: str = "user"
    seed: int = 1


@dataclass(slots=True)
class TrafficCounts:
    """What the users saw.

    Attributes:
        answers: Answers by kind: tasks, greeting, farewell.
        wrong_greetings: Greetings to users who had picked a project.
        wrongly_greeted: Who these users are.
        failures: Answers that asked to send the message again.
        workers: The workers that answered, by process id.
    """

    answers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("tasks", "greeting", "farewell"), 0))
    wrong_greetings: int = 0
    wrongly_greeted: set[str] = field(default_factory=set)
    failures: int = 0
    workers: dict[int, int] = field(default_factory=dict)


class Visitor:
    """One user.

    Args:
        client: Opens a new connection for every message, so that any worker may get it.
        url: Of the application.
        number: From 1; decides about tabs and manners.
        plan: How much to say, and when.
        tally: Shared by all users.
    """

    def __init__(self, client: aiohttp.ClientSession, url: str, number: int, plan: Plan, tally: TrafficCounts) -> None:
        self._client = client
        self._url = url
        self._plan = plan
        self._tally = tally
        self._user = f"{plan.name}-{number:02d}"
        self._tabs = 2 if number % plan.two_tabs_every == 0 else 1
        self._greets = number % plan.greets_every == 0
        self._random = random.Random(f"{plan.seed} {number}")  # noqa: S311 - it decides about small talk
        self._project = self._random.choice(sorted(TASKS))
        self._has_picked = False

    async def visit(self) -> None:
        """Say everything, at a steady pace."""
        pace_s = self._plan.seconds / self._plan.messages
        due_s = asyncio.get_running_loop().time() + self._random.uniform(0, pace_s)
        for index in range(self._plan.messages):
            await asyncio.sleep(due_s + index * pace_s - asyncio.get_running_loop().time())
            await self._speak(index)

    async def _speak(self, index: int) -> None:
        if index == 0:
            text = "hello" if self._greets else self._project
            await asyncio.gather(*(self._say(text) for _ in range(self._tabs)))
        elif index == self._plan.messages - 1:
            await self._say(GOODBYE)
        else:
            await self._say(self._random.choice(SMALL_TALK) if self._has_picked else self._project)

    async def _say(self, text: str) -> None:
        had_picked = self._has_picked
        kind = await self._answer(text)
        self._tally.answers[kind] += 1
        if kind == "greeting" and had_picked:
            self._tally.wrong_greetings += 1
            self._tally.wrongly_greeted.add(self._user)
        if kind != "farewell":
            self._has_picked = kind == "tasks"

    async def _answer(self, text: str) -> str:
        for _ in range(ATTEMPTS):
            async with self._client.post(f"{self._url}/chat", json={"user": self._user, "message": text}) as response:
                body = await response.json()
            self._tally.workers[body["worker"]] = self._tally.workers.get(body["worker"], 0) + 1
            if "kind" in body:
                return str(body["kind"])
            self._tally.failures += 1
        raise PeerError(f"the application answered none of {ATTEMPTS} times {text!r} of {self._user}: {body['error']}")


async def drive(url: str, plan: Plan) -> TrafficCounts:
    """Let everybody chat at once, and return what they saw.

    Raises:
        PeerError: A user gave up.
        aiohttp.ClientError: The application does not answer.
    """
    tally = TrafficCounts()
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
        await asyncio.gather(*(Visitor(client, url, number + 1, plan, tally).visit() for number in range(plan.users)))
    return tally
