"""The chat application: a message goes through a pipeline, a handler and an action, and each needs the user's session.

In its racy form each of the three fetches the session by itself, all at once. In its repaired form the session is
fetched once per message and passed on. `tracker` calls are all the instrumentation there is: here, the request around
each message and the application's own suspicion that a context was lost; in `sessions`, lookups, creates and ends.
"""

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import web

from session_exporter.demo.sessions import ProgressServiceError, SessionService, UserSessions
from session_exporter.demo.store import CONVERSATION, ChatDatabase
from session_exporter.tracker import SessionTracker

TASKS: Final = {
    "1": "Harbour bridge: order the steel, pour the piers, invite the mayor",
    "2": "School roof: scaffold, strip the tiles, insulate, tile",
    "3": "Tram line: survey the route, move the water main, lay the track",
}
GREETING: Final = "Hello! Which project is it about? Say 1 for Harbour bridge, 2 for School roof, 3 for Tram line."
FAREWELL: Final = "Goodbye!"
GOODBYE: Final = "bye"

_HINT: Final = """A small chat application. Try:

  curl -s URL/chat -d '{"user": "ada", "message": "1"}'
  curl -s URL/chat -d '{"user": "ada", "message": "what is next?"}'
"""


@dataclass(frozen=True, slots=True)
class Message:
    """What a user said."""

    user: str
    text: str

    @property
    def picked(self) -> str | None:
        """The project that this message picks, if it picks one."""
        return self.text if self.text in TASKS else None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the application says: the tasks of the user's project, a greeting when it knows of none, or goodbye."""

    kind: Literal["tasks", "greeting", "farewell"]
    text: str


class ChatPipeline:
    """Keeps the conversation's history."""

    def __init__(self, sessions: SessionService, database: ChatDatabase) -> None:
        self._sessions = sessions
        self._database = database

    async def run(self, message: Message, session: UserSessions | None) -> None:
        """Count the message; fetches the session when none is passed."""
        session = session or await self._sessions.get_or_create_session(message.user)
        self._database.count_message(session.conversation)


class MessageHandler:
    """Understands what the user wants."""

    def __init__(self, sessions: SessionService, database: ChatDatabase) -> None:
        self._sessions = sessions
        self._database = database

    async def handle(self, message: Message, session: UserSessions | None) -> UserSessions:
        """Remember the project that the message picks; fetches the session when none is passed."""
        session = session or await self._sessions.get_or_create_session(message.user)
        if message.picked:
            self._database.remember_project(session.conversation, message.picked)
        return session


class TaskAction:
    """Does what the user wants: shows the tasks of their project."""

    def __init__(self, sessions: SessionService, database: ChatDatabase, tracker: SessionTracker) -> None:
        self._sessions = sessions
        self._database = database
        self._tracker = tracker

    async def perform(self, message: Message, session: UserSessions | None) -> Reply:
        """Answer the message; fetches the session when none is passed."""
        session = session or await self._sessions.get_or_create_session(message.user)
        project = message.picked or session.project
        if message.text == GOODBYE:
            return Reply("farewell", FAREWELL)
        if project is None:
            self._suspect_lost_context(message, session)
            return Reply("greeting", GREETING)
        self._database.show_progress(session.progress_update, project)
        return Reply("tasks", TASKS[project])

    def _suspect_lost_context(self, message: Message, session: UserSessions) -> None:
        expected = self._database.conversation_with_project(message.user)
        if expected is not None:
            self._tracker.context_lost(message.user, expected=expected, actual=session.conversation, scope=CONVERSATION)


class Chat:
    """The application without its HTTP.

    Args:
        sessions: Either implementation.
        database: This worker's connection.
        tracker: What is told of everything that happens to sessions.
        fetch_once: Fetch the session once per message and pass it on, instead of once per stage.
    """

    def __init__(
        self, sessions: SessionService, database: ChatDatabase, tracker: SessionTracker, *, fetch_once: bool
    ) -> None:
        self._sessions = sessions
        self._tracker = tracker
        self._fetch_once = fetch_once
        self._pipeline = ChatPipeline(sessions, database)
        self._handler = MessageHandler(sessions, database)
        self._action = TaskAction(sessions, database, tracker)

    async def answer(self, message: Message) -> Reply:
        """Answer one message.

        Raises:
            ProgressServiceError: The injected failure; the message should be sent again.
        """
        with self._tracker.request(user_id=message.user):
            session = await self._sessions.get_or_create_session(message.user) if self._fetch_once else None
            used, reply = await self._through_all_stages(message, session)
            if message.text == GOODBYE:
                self._sessions.end(used)
            return reply

    async def _through_all_stages(self, message: Message, session: UserSessions | None) -> tuple[UserSessions, Reply]:
        pipeline = asyncio.ensure_future(self._pipeline.run(message, session))
        handler = asyncio.ensure_future(self._handler.handle(message, session))
        action = asyncio.ensure_future(self._action.perform(message, session))
        await asyncio.wait((pipeline, handler, action))  # one that fails does not leave the others running
        _, used, reply = await asyncio.gather(pipeline, handler, action)
        return used, reply


CHAT: Final = web.AppKey("chat", Chat)


async def post_chat(request: web.Request) -> web.Response:
    """POST /chat with {"user": ..., "message": ...}; answers {"kind": ..., "reply": ..., "worker": pid}."""
    message = _message_in(await request.text())
    try:
        reply = await request.app[CHAT].answer(message)
    except ProgressServiceError as error:
        return web.json_response({"error": str(error), "worker": os.getpid()}, status=503)
    return web.json_response({"kind": reply.kind, "reply": reply.text, "worker": os.getpid()})


def _message_in(body: str) -> Message:
    with contextlib.suppress(ValueError):
        match json.loads(body):
            case {"user": str(user), "message": str(text)} if user:
                return Message(user, text.strip())
    raise web.HTTPBadRequest(text='expected {"user": "a name", "message": "some text"}')


async def get_hint(request: web.Request) -> web.Response:
    """GET / says how to talk to the application."""
    return web.Response(text=_HINT.replace("URL", str(request.url.origin())))


def web_application(chat: Chat) -> web.Application:
    """Wrap the chat in HTTP: POST /chat, and GET / for people."""
    application = web.Application()
    application[CHAT] = chat
    application.add_routes([web.post("/chat", post_chat), web.get("/", get_hint)])
    return application
