"""Websockets: the connection is a request, and each message that it receives one of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
import websockets
from fastapi import Depends, FastAPI
from recorder import Recorder
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from webservers import by_session, requests_of, uvicorn_server

from session_exporter import RequestContext
from session_exporter.ambient import Request, current, current_request
from session_exporter.hooks.asgi import SessionExporterMiddleware, request_context
from session_exporter.mappings import cookie
from session_exporter.messages import Connection, MessageRequest
from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Handler = Callable[[WebSocket], Awaitable[None]]


def serve(handler: Handler, tracker: SessionTracker, **options: Any) -> SessionExporterMiddleware:
    return SessionExporterMiddleware(Starlette(routes=[WebSocketRoute("/", handler)]), tracker=tracker, **options)


async def converse(app: Any, *messages: str, headers: dict[str, str] | None = None) -> list[str]:
    """What the application answers to each message."""
    async with (
        uvicorn_server(app) as address,
        websockets.connect(f"ws://{address}/", additional_headers=headers or {}) as client,
    ):
        answers = []
        for message in messages:
            await client.send(message)
            answers.append(str(await client.recv()))
        return answers


def test_each_message_is_a_request_of_its_own(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(websocket: WebSocket) -> None:
        tracker.reused("u", "handshake")
        await websocket.accept()
        tracker.reused("u", "accepted")
        async for text in websocket.iter_text():
            tracker.reused("u", text)
            await asyncio.to_thread(tracker.reused, "u", text)
            await websocket.send_text(text)
        tracker.reused("u", "closed")

    asyncio.run(converse(serve(handler, tracker), "a", "b"))
    handshake, accepted, a, a_thread, b, b_thread, closed = requests_of(journal)
    assert handshake == accepted == closed
    assert a == a_thread
    assert b == b_thread
    assert len({handshake, a, b}) == 3
    assert not journal.errors


def test_a_message_has_the_user_and_the_expected_session_of_the_handshake(
    tracker: SessionTracker, journal: Recorder
) -> None:
    contexts: list[RequestContext] = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            tracker.reused(None, text)
            contexts.append(RequestContext.from_request(websocket))
            await websocket.send_text(text)

    app = serve(handler, tracker, expect=cookie("sid"), user=lambda scope: dict(scope["headers"])[b"x-user"].decode())
    headers = {"cookie": "sid=s-1", "x-user": "anna", "x-request-id": "r-1", "x-thread-id": "t-1"}
    asyncio.run(converse(app, "a", "b", headers=headers))
    assert [event.user for event in journal.reports] == ["anna", "anna"]
    assert [context.request_id for context in contexts] == requests_of(journal)
    for context in contexts:
        assert (context.user_id, context.session_id, context.thread_id) == ("anna", "s-1", "t-1")
        assert context.metadata["parent_request_id"] == "r-1"


def test_messages_that_are_worked_on_at_the_same_time_keep_their_requests(
    tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        all_here = asyncio.Barrier(10)

        async def work(text: str) -> None:
            tracker.reused("u", text)
            await all_here.wait()
            tracker.reused("u", text)
            await asyncio.to_thread(tracker.reused, "u", text)
            if text == "9":
                await websocket.send_text("done")

        async with asyncio.TaskGroup() as tasks:
            async for text in websocket.iter_text():
                tasks.create_task(work(text))

    async def main() -> None:
        async with (
            uvicorn_server(serve(handler, tracker)) as address,
            websockets.connect(f"ws://{address}/") as client,
        ):
            for n in range(10):
                await client.send(str(n))
            await client.recv()
            async with asyncio.timeout(10):
                while len(journal.events) < 30:  # noqa: ASYNC110 - that is what is asked
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    found: dict[str, set[str]] = {}
    for event in journal.events:
        found.setdefault(event.session, set()).add(event.request)
    assert all(len(requests) == 1 for requests in found.values())
    assert len({request for requests in found.values() for request in requests}) == 10


async def by_wait_for(websocket: WebSocket) -> str:
    return await asyncio.wait_for(websocket.receive_text(), 10)


async def by_task(websocket: WebSocket) -> str:
    return await asyncio.create_task(websocket.receive_text())


async def by_wait(websocket: WebSocket) -> str:
    never = asyncio.create_task(asyncio.Event().wait())
    receiving = asyncio.create_task(websocket.receive_text())
    await asyncio.wait({never, receiving}, return_when=asyncio.FIRST_COMPLETED)
    never.cancel()
    return receiving.result()


@pytest.mark.parametrize("receive", [WebSocket.receive_text, by_wait_for, by_task, by_wait])
def test_a_message_is_current_in_the_handler_however_it_was_waited_for(
    receive: Callable[[WebSocket], Awaitable[str]], tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        tracker.reused("u", "connection")
        for _ in range(3):
            text = await receive(websocket)
            tracker.reused("u", text)
            await websocket.send_text(text)

    asyncio.run(converse(serve(handler, tracker), "a", "b", "c"))
    assert len(set(requests_of(journal))) == 4
    assert not journal.errors


def test_a_task_that_reads_all_messages_keeps_them_from_the_handler(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        connection = current_request()
        texts: asyncio.Queue[str] = asyncio.Queue()

        async def read() -> None:
            async for text in websocket.iter_text():
                tracker.reused("u", f"read {text}")
                texts.put_nowait(text)
            texts.put_nowait("")

        reading = asyncio.create_task(read())
        while text := await texts.get():
            if text != "a":
                assert current_request() is connection
            await websocket.send_text(text)
        await reading

    asyncio.run(converse(serve(handler, tracker), "a", "b", "c"))
    assert len(set(requests_of(journal))) == 3


def test_a_request_that_the_application_begins_for_the_connection_is_what_messages_belong_to(
    tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        with tracker.request(user_id="anna"):
            for _ in range(2):
                text = await websocket.receive_text()
                tracker.reused(None, text)
                with tracker.request(request_id=f"own {text}"):
                    tracker.reused(None, f"own {text}")
                await websocket.send_text(text)
        tracker.reused(None, "outside")

    asyncio.run(converse(serve(handler, tracker), "a", "b"))
    found = by_session(journal)
    assert [user for _, user in found.values()] == ["anna"] * 4 + [""]
    assert found["own b"][0] == "own b"
    assert len({request for request, _ in found.values()}) == 5


def test_a_user_whom_a_message_brings_is_the_user_of_those_after_it(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            if text.startswith("token "):
                current_request().bind_user(text.removeprefix("token "))  # type: ignore[union-attr]
            tracker.reused(None, text)
            await websocket.send_text(text)

    asyncio.run(converse(serve(handler, tracker), "a", "token anna", "b"))
    assert [event.user for event in journal.events] == ["", "anna", "anna"]


class ByToken(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        token = conn.headers.get("authorization", "")
        return (AuthCredentials(), SimpleUser(token)) if token.startswith("good ") else None


async def chat(websocket: WebSocket, tracker: SessionTracker) -> None:
    if not websocket.user.is_authenticated:
        tracker.looked_up(None, None)
        await websocket.close(1008)
        return
    await websocket.accept()
    try:
        while True:
            text = await websocket.receive_text()
            tracker.reused(None, websocket.cookies["sid"])
            await websocket.send_text(text)
    except WebSocketDisconnect:
        tracker.ended(websocket.cookies["sid"], reason="completed")


@pytest.fixture
def chat_app(tracker: SessionTracker) -> Any:
    async def handler(websocket: WebSocket) -> None:
        await chat(websocket, tracker)

    app = Starlette(routes=[WebSocketRoute("/", handler)])
    app.add_middleware(AuthenticationMiddleware, backend=ByToken())
    app.add_middleware(SessionExporterMiddleware, tracker=tracker, expect=cookie("sid"), user="user.username")
    return app


def test_a_client_that_connects_again_goes_on_with_its_session(
    chat_app: Any, tracker: SessionTracker, journal: Recorder
) -> None:
    headers = {"authorization": "good anna", "cookie": "sid=s-1"}
    for _ in range(2):
        assert asyncio.run(converse(chat_app, "a", headers=headers)) == ["a"]
    assert {(event.session, event.user) for event in journal.events} == {("s-1", "good anna")}
    assert len(set(requests_of(journal))) == 4  # two connections, and a message in each


def test_a_bad_token_is_refused_and_nobodys(chat_app: Any, journal: Recorder) -> None:
    with pytest.raises(websockets.InvalidStatus):
        asyncio.run(converse(chat_app, "a", headers={"authorization": "bad", "cookie": "sid=s-1"}))
    assert [(event.session, event.user) for event in journal.reports] == [("", "")]
    assert not journal.errors


def test_what_outlives_the_connection_is_no_longer_in_it(tracker: SessionTracker, journal: Recorder) -> None:
    async def main() -> None:
        closed = asyncio.Event()
        tasks: list[Any] = []

        async def later(text: str) -> None:
            await closed.wait()
            tracker.reused("u", text)

        async def handler(websocket: WebSocket) -> None:
            await websocket.accept()
            text = await websocket.receive_text()
            tasks.append(asyncio.create_task(later(text)))
            await websocket.send_text(text)

        await converse(serve(handler, tracker), "a")
        closed.set()
        await tasks[0]

    asyncio.run(main())
    assert requests_of(journal) == [""]


def test_messages_do_not_hold_on_to_those_before_them(tracker: SessionTracker) -> None:
    depths = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            request, depth = current_request(), 0
            while request is not None:
                request, depth = request.outer, depth + 1
            depths.append(depth)
            await websocket.send_text(text)

    asyncio.run(converse(serve(handler, tracker), *"abcde"))
    assert depths == [2] * 5


def test_who_waits_for_the_end_of_a_message_is_told_when_the_connection_ends(tracker: SessionTracker) -> None:
    told: list[tuple[str, bool]] = []
    left: list[int] = []

    def tell(request: Request) -> None:
        told.append((request.request_id, request.ended))

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        ids = []
        async for text in websocket.iter_text():
            request = current_request()
            assert request is not None
            request.when_ended(tell)
            request.when_ended(left.append)  # type: ignore[arg-type]
            request.forget(left.append)  # type: ignore[arg-type]
            if text == "forgotten":
                request.forget(tell)
            else:
                ids.append(request.request_id)
            await websocket.send_text(text)
        assert told == []
        expected.extend(ids)

    expected: list[str] = []
    asyncio.run(converse(serve(handler, tracker), "a", "forgotten", "b"))
    assert sorted(told) == sorted((each, True) for each in expected)
    assert len(told) == 2
    assert left == []


def test_fastapi_gives_the_context_of_a_connection(tracker: SessionTracker) -> None:
    app = FastAPI()

    @app.websocket("/")
    async def handler(websocket: WebSocket, context: Annotated[RequestContext, Depends(request_context)]) -> None:
        await websocket.accept()
        await websocket.send_text(f"{context.request_id} {await websocket.receive_text()}")

    app.add_middleware(SessionExporterMiddleware, tracker=tracker)
    assert asyncio.run(converse(app, "a", headers={"x-request-id": "r-1"})) == ["r-1 a"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MessageRequest, "__init__"),
        (Connection, "_surroundings"),
        (Connection, "_tell_server"),
        (Connection, "_leave_message"),
        (Connection, "__init__"),
    ],
)
def test_a_conversation_is_the_same_when_the_middleware_is_broken(
    owner: type, name: str, tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text.upper())

    def broken(*_arguments: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(owner, name, broken)
    assert asyncio.run(converse(serve(handler, tracker), "a", "b")) == ["A", "B"]
    tracker.reused("u", "s")
    assert journal.errors["asgi"] >= 1
    assert current.get() is None
