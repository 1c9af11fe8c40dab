"""Applications whose clients say which session they expect: whether they got it, in every framework alike."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import flask
import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from django_site import DjangoSite
from fastapi import Depends, FastAPI
from fastapi import Request as FastApiRequest
from recorder import Recorder
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from watching import Base, chats
from webservers import AsgiClient
from werkzeug.test import Client

from session_exporter.core.events import MISSED_BY_ID, MISSED_BY_USER, OTHER_USED, Created, Identified, Unmet
from session_exporter.hooks.aiohttp import middleware as aiohttp_middleware
from session_exporter.hooks.asgi import SessionExporterMiddleware
from session_exporter.hooks.sqlalchemy import map_table
from session_exporter.hooks.wsgi import Middleware
from session_exporter.mappings import cookie, header, path
from session_exporter.tracker import SessionTracker

pytestmark = pytest.mark.integration

EXPECT = [cookie("sid"), header("x-session"), path("chat")]
FUTURE: dict[str, Any] = {"future": True} if sa.__version__.startswith("1.4.") else {}
Ask = Callable[..., str]


class Chats:
    """What the applications do with their chats, which are rows of a table."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url, **FUTURE)
        Base.metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            connection.execute(sa.insert(chats).values(id="e", user_id="ann", status="active"))

    def answer(self, what: str, chat: str) -> str:
        answers = {
            "go on": self.go_on,
            "newest": self.newest,
            "log in": self.log_in,
            "switch": lambda _: self.find("x"),
        }
        return str(answers[what](chat))

    def find(self, chat: str) -> str | None:
        with self.engine.connect() as connection:
            return connection.execute(sa.select(chats.c.id).where(chats.c.id == chat)).scalar()

    def create(self, chat: str) -> str:
        with self.engine.begin() as connection:
            connection.execute(sa.insert(chats).values(id=chat, user_id="ann", status="active"))
        return chat

    def go_on(self, chat: str) -> str:
        return self.find(chat) or self.create("new")

    def newest(self, _: str) -> str:
        with self.engine.connect() as connection:
            found = connection.execute(
                sa.select(chats.c.id).filter_by(user_id="cat", status="active").limit(1)
            ).scalar()
        return found or self.create("new")

    def log_in(self, chat: str) -> str:
        assert self.find(chat)
        with self.engine.begin() as connection:
            connection.execute(sa.update(chats).where(chats.c.id == chat).values(status="closed"))
            connection.execute(sa.insert(chats).values(id="new", user_id="ann", status="active"))
        return "new"


@pytest.fixture
def store(tmp_path: Path, tracker: SessionTracker, journal: Recorder) -> Iterator[Chats]:
    store = Chats(f"sqlite:///{tmp_path / 'chats.db'}")
    store.create("x")
    uninstall = map_table("chats", scope="chat", user="user_id", active={"status": ["active"]}, tracker=tracker)
    yield store
    uninstall()
    store.engine.dispose()
    assert not journal.errors


def starlette_app(store: Chats, tracker: SessionTracker) -> Ask:
    async def handler(request: Request) -> PlainTextResponse:
        chat = request.path_params["chat"]
        return PlainTextResponse(await asyncio.to_thread(store.answer, request.query_params["what"], chat))

    app = SessionExporterMiddleware(
        Starlette(routes=[Route("/{chat}", handler)]), tracker=tracker, expect=EXPECT, user=lambda _scope: "ann"
    )
    return lambda url, **headers: AsgiClient(app).get(url, headers=headers).text


def fastapi_app(store: Chats, tracker: SessionTracker) -> Ask:
    app = FastAPI()

    def found(request: FastApiRequest, chat: str) -> str:  # in a thread of a pool
        return store.answer(request.query_params["what"], chat)

    @app.get("/{chat}")
    async def handler(answer: Annotated[str, Depends(found)]) -> str:
        return answer

    app.add_middleware(SessionExporterMiddleware, tracker=tracker, expect=EXPECT, user=lambda _scope: "ann")
    return lambda url, **headers: str(AsgiClient(app).get(url, headers=headers).json())


def flask_app(store: Chats, tracker: SessionTracker) -> Ask:
    app = flask.Flask("chats")

    @app.get("/<chat>")
    def handler(chat: str) -> str:
        return store.answer(flask.request.args["what"], chat)

    app.wsgi_app = Middleware(app.wsgi_app, tracker=tracker, expect=EXPECT, user=lambda _environ: "ann")  # type: ignore[method-assign]
    return lambda url, **headers: Client(app).get(url, headers=headers).text


def aiohttp_app(store: Chats, tracker: SessionTracker) -> Ask:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=store.answer(request.query["what"], request.match_info["chat"]))

    async def ask(url: str, headers: dict[str, str]) -> str:
        middleware = aiohttp_middleware(tracker=tracker, expect=EXPECT, user=lambda _request: "ann")
        app = web.Application(middlewares=[middleware])
        app.router.add_get("/{chat}", handler)
        async with TestClient(TestServer(app)) as client, client.get(url, headers=headers) as response:
            return await response.text()

    return lambda url, **headers: asyncio.run(ask(url, headers))


@pytest.fixture(params=[starlette_app, fastapi_app, flask_app, aiohttp_app], ids=lambda make: make.__name__)
def ask(request: pytest.FixtureRequest, store: Chats, tracker: SessionTracker) -> Ask:
    """Asks an application: takes a URL and headers, and returns the body."""
    made: Ask = request.param(store, tracker)
    return made


def verdicts(journal: Recorder) -> list[tuple[str, int, str]]:
    return [(event.session, event.missed, event.actual) for event in journal.events if isinstance(event, Unmet)]


WAYS = {
    "path": ("/{}", {}),
    "cookie": ("/{}", {"cookie": "sid={}"}),
    "header": ("/{}", {"x-session": "{}"}),
}


@pytest.mark.parametrize(("url", "headers"), WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize(
    ("what", "chat", "verdict"),
    [
        ("go on", "e", []),
        ("go on", "gone", [("gone", MISSED_BY_ID, "new")]),
        ("newest", "e", [("e", MISSED_BY_USER, "new")]),
        ("switch", "e", [("e", OTHER_USED, "x")]),
        ("log in", "e", []),
    ],
)
def test_the_verdict_is_that_of_what_the_application_did(
    ask: Ask, journal: Recorder, *, url: str, headers: dict[str, str], what: str, chat: str, verdict: Any
) -> None:
    asked = {name: value.format(chat) for name, value in headers.items()}
    assert ask(f"{url.format(chat)}?what={what.replace(' ', '%20')}", **asked) in {"e", "x", "new"}
    assert verdicts(journal) == verdict
    assert {event.user for event in journal.events if isinstance(event, Unmet)} <= {"ann", "cat"}
    assert len({event.request for event in journal.events}) == 1


@pytest.fixture(params=[starlette_app, fastapi_app, flask_app, aiohttp_app], ids=lambda make: make.__name__)
def ask_route_first(
    request: pytest.FixtureRequest, store: Chats, tracker: SessionTracker, monkeypatch: pytest.MonkeyPatch
) -> Ask:
    """Likewise, of an application whose pages are about the chat of their route, if they have one."""
    monkeypatch.setattr(sys.modules[__name__], "EXPECT", [path("chat"), cookie("sid"), header("x-session")])
    made: Ask = request.param(store, tracker)
    return made


def test_a_page_about_the_session_of_its_route_is_not_judged_by_that_of_the_cookie(
    ask_route_first: Ask, journal: Recorder
) -> None:
    ask_route_first("/x?what=go%20on", cookie="sid=e")
    assert verdicts(journal) == []
    ask_route_first("/gone?what=go%20on", cookie="sid=e")
    assert verdicts(journal) == [("gone", MISSED_BY_ID, "new")]


def test_where_the_route_names_no_session_the_one_of_the_cookie_is_expected(
    store: Chats, tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse(store.answer(request.query_params["what"], "e"))

    expect = [path("chat"), cookie("sid")]
    app = SessionExporterMiddleware(Starlette(routes=[Route("/", handler)]), tracker=tracker, expect=expect)
    AsgiClient(app).get("/?what=log%20in", headers={"cookie": "sid=e"})
    assert [(event.session, event.expected) for event in journal.events if isinstance(event, Created)] == [("new", "e")]
    AsgiClient(app).get("/?what=switch", headers={"cookie": "sid=e"})
    assert verdicts(journal) == [("e", OTHER_USED, "x")]


def test_where_nothing_is_routed_the_cookie_is_expected_at_last(
    store: Chats, tracker: SessionTracker, journal: Recorder
) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        store.find("x")
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})

    expect = [path("chat"), lambda _scope: None, cookie("sid")]
    AsgiClient(SessionExporterMiddleware(app, tracker=tracker, expect=expect)).get("/", headers={"cookie": "sid=e"})
    assert verdicts(journal) == [("e", OTHER_USED, "x")]


def test_a_login_says_which_session_it_replaces(ask: Ask, journal: Recorder) -> None:
    ask("/e?what=log%20in")
    assert [(event.session, event.expected) for event in journal.events if isinstance(event, Created)] == [("new", "e")]


def test_a_thread_that_the_client_names_is_the_request_s(ask: Ask, journal: Recorder) -> None:
    ask("/e?what=go%20on", **{"x-thread-id": "t-1", "x-run-id": "n-1"})
    told = [event for event in journal.events if isinstance(event, Identified)]
    assert [(event.scope, event.user, event.thread, event.run) for event in told] == [("chat", "ann", "t-1", "n-1")]


def test_a_client_that_says_nothing_has_lost_nothing(store: Chats, tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse(store.answer("go on", "gone"))

    app = SessionExporterMiddleware(
        Starlette(routes=[Route("/", handler)]), tracker=tracker, expect=[cookie("sid"), header("x-session")]
    )
    AsgiClient(app).get("/")
    assert verdicts(journal) == []


def test_what_is_sent_after_the_answer_has_begun_still_belongs_to_the_request(
    store: Chats, tracker: SessionTracker, journal: Recorder
) -> None:
    async def parts() -> Any:
        yield "first"
        yield store.find("e") or ""

    async def handler(request: Request) -> StreamingResponse:
        store.find("x")
        return StreamingResponse(parts())

    async def background(request: Request) -> PlainTextResponse:
        store.find("x")
        return PlainTextResponse("", background=BackgroundTask(store.find, "e"))

    app = SessionExporterMiddleware(
        Starlette(routes=[Route("/stream", handler), Route("/background", background)]),
        tracker=tracker,
        expect=header("x-session"),
    )
    for url in ("/stream", "/background"):
        AsgiClient(app).get(url, headers={"x-session": "e"})
    assert verdicts(journal) == []


def test_a_middleware_of_the_application_that_looks_before_the_route_is_known_is_judged_by_the_route(
    store: Chats, tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse(store.find(request.path_params["chat"]) or "")

    def before(app: Any) -> Any:
        async def looking(scope: Any, receive: Any, send: Any) -> None:
            store.find("e")
            store.find("x")
            await app(scope, receive, send)

        return looking

    app = SessionExporterMiddleware(
        before(Starlette(routes=[Route("/{chat}", handler)])), tracker=tracker, expect=path("chat")
    )
    AsgiClient(app).get("/e")
    AsgiClient(app).get("/gone")
    assert verdicts(journal) == [("gone", MISSED_BY_ID, "x")]


def test_django_is_judged_by_the_parameter_of_its_route(
    django_site: DjangoSite, tracker: SessionTracker, journal: Recorder
) -> None:
    from django.core.wsgi import get_wsgi_application

    app = Middleware(get_wsgi_application(), tracker=tracker, expect=path("id"))
    for found in ("s-1", None):
        django_site.look = lambda _request, found=found: tracker.looked_up("ann", found, asked="s-1")
        assert Client(app).get("/anonymous/s-1/").status_code == 200
    assert verdicts(journal) == [("s-1", MISSED_BY_ID, "")]
    assert not journal.errors
