"""Requests of aiohttp's server, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer
from recorder import Recorder
from webservers import requests_of

from session_exporter import RequestContext
from session_exporter.ambient import current_request
from session_exporter.hooks.aiohttp import AiohttpRequests, middleware
from session_exporter.mappings import cookie, header, path
from session_exporter.messages import Connection, MessageRequest
from session_exporter.serving import Serving, Stay
from session_exporter.tracker import SessionTracker

pytestmark = pytest.mark.integration


class Site:
    """An application that tells of sessions wherever code of its own runs."""

    def __init__(self, tracker: SessionTracker, *middlewares: Any) -> None:
        self.tracker = tracker
        self.expected: list[str | None] = []
        self.app = web.Application(middlewares=middlewares)
        self.app.router.add_get("/plain/{id}", self.plain)
        self.app.router.add_get("/thread/{id}", self.thread)
        self.app.router.add_get("/stream/{id}", self.stream)
        self.app.router.add_get("/failing/{id}", self.failing)
        self.app.router.add_get("/refusing/{id}", self.refusing)

    def tell(self, session: str) -> None:
        self.tracker.reused(None, session)
        request = current_request()
        self.expected.append(None if request is None else request.context.session_id)

    async def plain(self, request: web.Request) -> web.Response:
        self.tell(request.match_info["id"])
        return web.Response(text="answer")

    async def thread(self, request: web.Request) -> web.Response:
        await asyncio.to_thread(self.tell, request.match_info["id"])
        return web.Response(text="answer")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        self.tell(request.match_info["id"])
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        self.tell("second part")
        await response.write(b"second")
        return response

    async def failing(self, request: web.Request) -> web.Response:
        self.tell(request.match_info["id"])
        raise LookupError("the application's own")

    async def refusing(self, request: web.Request) -> web.Response:
        self.tell(request.match_info["id"])
        raise web.HTTPConflict(text="no")


Answer = tuple[int, list[tuple[str, str]], bytes]


async def answers(app: web.Application, *urls: str, **options: Any) -> list[Answer]:
    found = []
    async with TestClient(TestServer(app)) as client:
        for url in urls:
            async with client.get(url, **options) as response:
                headers = [(name, value) for name, value in response.headers.items() if name != "Date"]
                found.append((response.status, headers, await response.read()))
    return found


@pytest.mark.parametrize("kind", ["plain", "thread", "stream", "failing", "refusing"])
def test_everything_that_the_handler_does_is_in_its_request(
    kind: str, tracker: SessionTracker, journal: Recorder
) -> None:
    for url, headers in [(f"/{kind}/a", {"x-request-id": "r-1"}), ("/plain/b", {})]:
        asyncio.run(answers(Site(tracker, middleware(tracker=tracker)).app, url, headers=headers))
    assert requests_of(journal)[:-1] == ["r-1"] * (2 if kind == "stream" else 1)
    assert len(requests_of(journal)[-1]) == 16
    assert not journal.errors


@pytest.mark.parametrize(
    ("expect", "headers", "found"),
    [
        (cookie("sid"), {"cookie": "a=b; sid=s-1"}, "s-1"),
        (header("X-Session"), {"x-session": "s-1"}, "s-1"),
        (path("id"), {}, "in the path"),
        ([cookie("sid"), path("id")], {"cookie": "sid=s-1"}, "s-1"),
        (lambda request: request.query["q"], {}, "asked"),
        (header("x-session"), {"x-session": "None"}, None),
    ],
)
def test_the_expected_session_is_known(expect: Any, headers: Any, found: Any, tracker: SessionTracker) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(RequestContext.from_request(request).session_id)

    app = web.Application(middlewares=[middleware(tracker=tracker, expect=expect)])
    app.router.add_get("/{id}", handler)
    [(_, _, body)] = asyncio.run(answers(app, "/in%20the%20path?q=asked", headers=headers))
    assert body.decode() == (f'"{found}"' if found else "null")


@pytest.mark.parametrize("user", ["user.id", lambda request: request.get("user", {}).get("id")])
@pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
def test_a_user_who_is_authenticated_later_is_the_user_of_the_events(
    user: Any, tracker: SessionTracker, journal: Recorder
) -> None:
    @web.middleware
    async def authenticate(request: web.Request, handler: Any) -> Any:
        tracker.reused(None, "before")
        request["user"] = {"id": "anna"}
        return await handler(request)

    site = Site(tracker, middleware(tracker=tracker, user=user), authenticate)
    asyncio.run(answers(site.app, "/plain/s"))
    assert [event.user for event in journal.events] == ["", "anna"]


def test_nested_twice_there_is_one_request_and_the_inner_one_adds_what_it_knows(
    tracker: SessionTracker, journal: Recorder
) -> None:
    inner = middleware(tracker=tracker, expect=header("x-session"), user=lambda _request: "u-1")
    site = Site(tracker, middleware(tracker=tracker, expect=cookie("sid")), inner)
    asyncio.run(answers(site.app, "/stream/s", headers={"x-session": "s-1"}))
    assert len(set(requests_of(journal))) == 1
    assert {event.user for event in journal.events} == {"u-1"}
    assert set(site.expected) == {"s-1"}


def test_a_hundred_concurrent_requests_keep_their_contexts_apart(tracker: SessionTracker, journal: Recorder) -> None:
    async def main() -> None:
        arrived = asyncio.Barrier(100)

        async def handler(request: web.Request) -> web.Response:
            name = request.match_info["id"]
            tracker.reused(None, name)
            await arrived.wait()
            await asyncio.to_thread(tracker.reused, None, name)
            return web.Response(text=name)

        app = web.Application(middlewares=[middleware(tracker=tracker, user=lambda request: request.headers["x-user"])])
        app.router.add_get("/{id}", handler)
        async with TestServer(app) as server, ClientSession() as client:

            async def get(n: int) -> None:
                headers = {"x-request-id": f"r-{n}", "x-user": f"u-{n}"}
                async with client.get(server.make_url(f"/{n}"), headers=headers) as response:
                    await response.read()

            await asyncio.gather(*(get(n) for n in range(100)))

    asyncio.run(main())
    assert len(journal.events) == 200
    for event in journal.events:
        assert (event.request, event.user) == (f"r-{event.session}", f"u-{event.session}")


def broken(*_arguments: Any, **_options: Any) -> Any:
    raise RuntimeError("ours")


STEPS = [
    (AiohttpRequests, "_said"),
    (Serving, "begin"),
    (Serving, "join"),
    (Serving, "end"),
    (Stay, "__init__"),
    (Stay, "enter"),
    (Stay, "leave"),
]


@pytest.mark.parametrize(("owner", "name"), [(None, ""), *STEPS], ids=lambda value: getattr(value, "__name__", value))
def test_responses_are_the_same_with_the_middleware_also_when_it_is_broken(
    owner: Any, name: str, tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [f"/{kind}/s" for kind in ("plain", "thread", "stream", "failing", "refusing", "missing")]
    bare = asyncio.run(answers(Site(tracker).app, *urls))
    inner = middleware(tracker=tracker, user="user.id")
    watched = Site(tracker, middleware(tracker=tracker, expect=[cookie("sid"), path("id")]), inner)
    if owner is not None:
        monkeypatch.setattr(owner, name, broken)
    assert asyncio.run(answers(watched.app, *urls)) == bare
    assert set(journal.errors) == ({"aiohttp"} if owner else set())


Receive = Callable[[web.WebSocketResponse], Awaitable[str]]


async def by_receive(websocket: web.WebSocketResponse) -> str:
    return str((await websocket.receive()).data)


async def by_iterating(websocket: web.WebSocketResponse) -> str:
    async for message in websocket:
        return str(message.data)
    return ""


async def by_wait_for(websocket: web.WebSocketResponse) -> str:
    return await asyncio.wait_for(websocket.receive_str(), 10)


async def by_task(websocket: web.WebSocketResponse) -> str:
    return await asyncio.create_task(websocket.receive_str())


def websocket_app(handle: Callable[[web.WebSocketResponse], Awaitable[None]], *middlewares: Any) -> web.Application:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await handle(websocket)
        return websocket

    app = web.Application(middlewares=middlewares)
    app.router.add_get("/", handler)
    return app


async def converse(app: web.Application, *messages: str, headers: dict[str, str] | None = None) -> list[str]:
    async with TestClient(TestServer(app)) as client, client.ws_connect("/", headers=headers) as websocket:
        found = []
        for message in messages:
            await websocket.send_str(message)
            found.append(await websocket.receive_str())
        return found


@pytest.mark.parametrize("receive", [by_receive, by_iterating, by_wait_for, by_task])
def test_each_message_of_a_websocket_is_a_request_of_its_own(
    receive: Receive, tracker: SessionTracker, journal: Recorder
) -> None:
    async def handle(websocket: web.WebSocketResponse) -> None:
        tracker.reused(None, "connection")
        for _ in range(3):
            text = await receive(websocket)
            tracker.reused(None, text)
            await websocket.send_str(text)

    app = websocket_app(handle, middleware(tracker=tracker, user=lambda request: request.headers["x-user"]))
    assert asyncio.run(converse(app, "a", "b", "c", headers={"x-user": "anna"})) == ["a", "b", "c"]
    assert len(set(requests_of(journal))) == 4
    assert {event.user for event in journal.events} == {"anna"}
    assert not journal.errors


def test_messages_that_are_worked_on_at_the_same_time_keep_their_requests(
    tracker: SessionTracker, journal: Recorder
) -> None:
    async def handle(websocket: web.WebSocketResponse) -> None:
        all_here = asyncio.Barrier(5)

        async def work(text: str) -> None:
            tracker.reused("u", text)
            await all_here.wait()
            tracker.reused("u", text)
            await websocket.send_str(text)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(work(await websocket.receive_str()))

    async def main() -> None:
        app = websocket_app(handle, middleware(tracker=tracker))
        async with TestClient(TestServer(app)) as client, client.ws_connect("/") as websocket:
            for n in range(5):
                await websocket.send_str(str(n))
            for _ in range(5):
                await websocket.receive_str()

    asyncio.run(main())
    assert len(journal.events) == 10
    assert len({(event.session, event.request) for event in journal.events}) == 5


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (MessageRequest, "__init__"),
        (Connection, "_surroundings"),
        (Connection, "_tell_server"),
        (Connection, "__init__"),
    ],
)
def test_a_conversation_is_the_same_when_the_middleware_is_broken(
    owner: type, name: str, tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle(websocket: web.WebSocketResponse) -> None:
        async for message in websocket:
            await websocket.send_str(message.data.upper())

    app = websocket_app(handle, middleware(tracker=tracker))
    monkeypatch.setattr(owner, name, broken)
    assert asyncio.run(converse(app, "a", "b")) == ["A", "B"]
    assert set(journal.errors) <= {"aiohttp"}
    tracker.reused("u", "s")
    assert journal.errors["aiohttp"] >= 1


def test_what_is_no_message_begins_no_request(tracker: SessionTracker) -> None:
    seen: list[tuple[Any, Any]] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(autoping=False)
        await websocket.prepare(request)
        for _ in range(2):
            message = await websocket.receive()
            seen.append((message.type, current_request()))
        return websocket

    async def main() -> None:
        app = web.Application(middlewares=[middleware(tracker=tracker)])
        app.router.add_get("/", handler)
        async with TestClient(TestServer(app)) as client, client.ws_connect("/") as websocket:
            await websocket.ping()
            await websocket.send_bytes(b"message")
            await websocket.receive()

    asyncio.run(main())
    assert [(kind, type(request) is MessageRequest) for kind, request in seen] == [
        (WSMsgType.PING, False),
        (WSMsgType.BINARY, True),
    ]


def test_the_request_of_a_middleware_ends_before_a_generated_body_is_written(
    tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(_request: web.Request) -> web.Response:
        async def parts() -> AsyncIterator[bytes]:
            tracker.reused("u", "part")
            yield b"part"

        return web.Response(body=parts())

    app = web.Application(middlewares=[middleware(tracker=tracker)])
    app.router.add_get("/", handler)
    [(_, _, body)] = asyncio.run(answers(app, "/"))
    assert body == b"part"
    assert requests_of(journal) == [""]


def test_the_hook_is_declared_when_the_first_middleware_is_made(tracker: SessionTracker, journal: Recorder) -> None:
    middleware(tracker=tracker)
    tracker.reused("u", "s")
    assert journal.hooks == {"aiohttp": True}


def test_where_nothing_is_to_be_recorded_the_application_is_left_alone(
    journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DISABLED", "1")
    tracker = SessionTracker(journal=journal)
    site = Site(tracker, middleware(tracker=tracker, expect=header("x-session")))
    asyncio.run(answers(site.app, "/plain/s", headers={"x-session": "s"}))
    assert site.expected == [None]
