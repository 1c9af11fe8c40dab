"""Websockets: each message is judged once, when the work on it is done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import websockets
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from recorder import Recorder
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from webservers import DEADLINE_S, uvicorn_server

from session_exporter.ambient import current, current_request
from session_exporter.core.events import MISSED_BY_USER, OTHER_USED, Identified, Unmet
from session_exporter.hooks.aiohttp import middleware
from session_exporter.hooks.asgi import SessionExporterMiddleware
from session_exporter.mappings import cookie
from session_exporter.messages import WORKERS_MAX, MessageRequest
from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Handler = Callable[[WebSocket], Awaitable[None]]
HEADERS = {"cookie": "sid=e", "x-thread-id": "t"}


def serve(handler: Handler, tracker: SessionTracker) -> SessionExporterMiddleware:
    app = Starlette(routes=[WebSocketRoute("/", handler)])
    return SessionExporterMiddleware(app, tracker=tracker, expect=cookie("sid"), user=lambda _scope: "ann")


async def converse(app: Any, *messages: str) -> None:
    """Send messages, each when the one before has been answered."""
    async with (
        uvicorn_server(app) as address,
        websockets.connect(f"ws://{address}/", additional_headers=HEADERS) as client,
    ):
        for message in messages:
            await client.send(message)
            await client.recv()


def verdicts(journal: Recorder) -> list[tuple[str, int, str]]:
    return [(event.session, event.missed, event.actual) for event in journal.events if isinstance(event, Unmet)]


async def told(journal: Recorder, count: int) -> None:
    """Wait until there are so many verdicts."""
    async with asyncio.timeout(DEADLINE_S):
        while len(verdicts(journal)) < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


async def by_iterating(websocket: WebSocket) -> str:
    return await websocket.receive_text()


async def by_wait_for(websocket: WebSocket) -> str:
    return await asyncio.wait_for(websocket.receive_text(), 10)


async def by_task(websocket: WebSocket) -> str:
    return await asyncio.create_task(websocket.receive_text())


@pytest.mark.parametrize("receive", [by_iterating, by_wait_for, by_task])
def test_each_message_is_judged_once_and_before_the_connection_ends(
    receive: Callable[[WebSocket], Awaitable[str]], tracker: SessionTracker, journal: Recorder
) -> None:
    seen: list[int] = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        for _ in range(3):
            text = await receive(websocket)
            seen.append(len(verdicts(journal)))
            tracker.reused(None, text)
            await asyncio.to_thread(tracker.reused, None, f"{text} again")
            await websocket.send_text(text)

    asyncio.run(converse(serve(handler, tracker), "x", "e", "y"))
    assert seen == [0, 1, 1]
    assert verdicts(journal) == [("e", OTHER_USED, "x again"), ("e", OTHER_USED, "y again")]
    requests = [event.request for event in journal.events if isinstance(event, Unmet)]
    assert requests == [event.request for event in journal.events if event.session in {"x", "y"}]
    assert not journal.errors


def test_what_a_connection_got_when_it_began_excuses_no_message(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        tracker.reused(None, "e")
        await websocket.receive_text()
        tracker.looked_up(None, None)
        await websocket.send_text("answer")

    asyncio.run(converse(serve(handler, tracker), "a"))
    assert verdicts(journal) == [("e", MISSED_BY_USER, "")]


def test_what_a_message_got_the_connection_has_not_missed(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(websocket: WebSocket) -> None:
        tracker.looked_up(None, None)
        await websocket.accept()
        await websocket.receive_text()
        tracker.reused(None, "e")
        await websocket.send_text("answer")

    asyncio.run(converse(serve(handler, tracker), "a"))
    assert verdicts(journal) == []


def test_a_message_that_names_another_session_expects_that_one(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        for found in ("x", "z"):
            text = await websocket.receive_text()
            current_request().bind_session(text)  # type: ignore[union-attr]
            tracker.reused(None, found)
            await websocket.send_text(text)

    asyncio.run(converse(serve(handler, tracker), "x", "y"))
    assert verdicts(journal) == [("y", OTHER_USED, "z")]


def test_a_message_that_tasks_work_on_is_judged_when_the_last_of_them_is_done(
    tracker: SessionTracker, journal: Recorder
) -> None:
    async def main() -> None:
        proceed, started = asyncio.Event(), asyncio.Event()

        async def search(text: str) -> None:
            tracker.looked_up(None, None)
            started.set()
            await proceed.wait()
            if text == "found":
                tracker.reused(None, "e")

        async def handler(websocket: WebSocket) -> None:
            await websocket.accept()
            async with asyncio.TaskGroup() as tasks:
                async for text in websocket.iter_text():
                    tasks.create_task(search(text))
                    tasks.create_task(proceed.wait())
                    await websocket.send_text(text)

        async with (
            uvicorn_server(serve(handler, tracker)) as address,
            websockets.connect(f"ws://{address}/", additional_headers=HEADERS) as client,
        ):
            for message in ("found", "missed"):
                started.clear()
                await client.send(message)
                await client.recv()
                await started.wait()
            assert verdicts(journal) == []
            proceed.set()
            await told(journal, 1)
        assert verdicts(journal) == [("e", MISSED_BY_USER, "")]

    asyncio.run(main())


def test_what_a_request_inside_of_a_message_lost_waits_for_the_message(
    tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            with tracker.request(request_id=f"job {text}"):
                tracker.looked_up(None, None)
            await asyncio.create_task(job(text))
            if text == "found":
                tracker.reused(None, "e")
            await websocket.send_text(text)

    async def job(text: str) -> None:
        with tracker.request(request_id=f"task {text}"):
            tracker.reused(None, "x")

    asyncio.run(converse(serve(handler, tracker), "found", "missed"))
    jobs = [event.request for event in journal.events if isinstance(event, Unmet)]
    assert jobs == ["job missed", "task missed"]


def test_a_message_with_more_tasks_than_are_waited_for_is_judged_with_the_connection(
    tracker: SessionTracker, journal: Recorder
) -> None:
    seen: list[int] = []

    async def search() -> None:
        tracker.looked_up(None, None)
        await asyncio.sleep(0)

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            seen.append(len(verdicts(journal)))
            tasks = [asyncio.create_task(search()) for _ in range(WORKERS_MAX + 2)]
            await asyncio.gather(*tasks)
            await websocket.send_text(text)

    asyncio.run(converse(serve(handler, tracker), "a", "b"))
    assert seen[0] == 0
    assert len(verdicts(journal)) == 2
    assert not journal.errors


@pytest.mark.parametrize("name", ["note", "leave", "_follow", "_judge", "_judge_at_last", "_work_done", "is_read_by"])
def test_a_conversation_is_the_same_when_a_verdict_cannot_be_given(
    name: str, tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            tracker.looked_up(None, None)
            await asyncio.create_task(asyncio.to_thread(tracker.reused, None, text))
            await websocket.send_text(text)
        ended.append(True)

    def broken(*_arguments: Any) -> Any:
        raise RuntimeError("ours")

    ended: list[bool] = []
    monkeypatch.setattr(MessageRequest, name, broken)
    asyncio.run(converse(serve(handler, tracker), "a", "b"))
    assert ended == [True]
    assert len(journal.reports) == 4
    assert current.get() is None


def test_each_message_says_to_which_thread_it_belongs(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            tracker.reused(None, "e")
            await websocket.send_text(text)

    asyncio.run(converse(serve(handler, tracker), "a", "b"))
    told = [event for event in journal.events if isinstance(event, Identified)]
    assert [event.thread for event in told] == ["t", "t"]
    assert len({event.request for event in told}) == 2


@pytest.mark.parametrize("waits", [False, True])
def test_messages_of_aiohttp_are_judged_alike(tracker: SessionTracker, journal: Recorder, *, waits: bool) -> None:
    seen: list[int] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        for _ in range(3):
            text = await (asyncio.create_task(websocket.receive_str()) if waits else websocket.receive_str())
            seen.append(len(verdicts(journal)))
            tracker.reused("ann", text)
            await websocket.send_str(text)
        return websocket

    async def main() -> None:
        app = web.Application(middlewares=[middleware(tracker=tracker, expect=cookie("sid"))])
        app.router.add_get("/", handler)
        async with TestClient(TestServer(app)) as client, client.ws_connect("/", headers=HEADERS) as websocket:
            for text in ("x", "e", "y"):
                await websocket.send_str(text)
                await websocket.receive_str()

    asyncio.run(main())
    assert seen == [0, 1, 1]
    assert verdicts(journal) == [("e", OTHER_USED, "x"), ("e", OTHER_USED, "y")]
    assert not journal.errors
