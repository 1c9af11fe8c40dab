"""The middleware for applications that have none: all frameworks, before and after their applications are made."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import flask
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_ws import WebSocketResponse
from django_site import DjangoSite
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from recorder import Recorder
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from webservers import AsgiClient, by_session, requests_of
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from session_exporter.ambient import current_request
from session_exporter.hooks.aiohttp import middleware as aiohttp_middleware
from session_exporter.hooks.asgi import SessionExporterMiddleware
from session_exporter.hooks.frameworks import install_middleware
from session_exporter.hooks.wsgi import Middleware
from session_exporter.mappings import MiddlewareMapping, cookie, header, path
from session_exporter.tracker import SessionTracker

Install = Callable[..., Callable[[], None]]


@pytest.fixture
def install(tracker: SessionTracker) -> Iterator[Install]:
    """Installs the middleware for the duration of the test."""
    uninstalls: list[Callable[[], None]] = []

    def install(*mappings: MiddlewareMapping) -> Callable[[], None]:
        uninstalls.append(install_middleware(mappings, tracker))
        return uninstalls[-1]

    yield install
    for uninstall in uninstalls:
        uninstall()


def starlette_app(tracker: SessionTracker, **options: Any) -> Starlette:
    async def handler(request: Request) -> PlainTextResponse:
        tracker.reused(None, request.path_params["id"])
        return PlainTextResponse("answer")

    route = Route("/{id}", handler)
    return Starlette(routes=[Mount("/sub", app=Starlette(routes=[route])), route], **options)


def test_a_starlette_application_that_has_served_before_gets_it(
    install: Install, tracker: SessionTracker, journal: Recorder
) -> None:
    client = AsgiClient(starlette_app(tracker))
    client.get("/before")
    install(MiddlewareMapping("starlette", expect=(cookie("sid"),)))
    client.get("/after", headers={"x-request-id": "r-1"})
    client.get("/sub/mounted", headers={"x-request-id": "r-2"})
    assert requests_of(journal) == ["", "r-1", "r-2"]


def test_fastapi_gets_it_with_the_user_that_a_dependency_finds(
    install: Install, tracker: SessionTracker, journal: Recorder
) -> None:
    install(MiddlewareMapping("starlette", expect=(path("id"),), user="state.user.id"))
    app = FastAPI()
    held: list[Any] = []

    @app.get("/{id}")
    async def handler(request: Request, id: str) -> StreamingResponse:  # noqa: A002 - the route's name for it
        request.state.user = {"id": 7}
        held.append(current_request())

        async def parts() -> AsyncIterator[bytes]:
            tracker.reused(None, id)
            yield b"part"

        return StreamingResponse(parts())

    AsgiClient(app).get("/s-1", headers={"x-request-id": "r-1"})
    assert by_session(journal) == {"s-1": ("r-1", "7")}
    assert held[0].context.session_id == "s-1"


@pytest.mark.parametrize("own_first", [True, False])
def test_an_application_that_has_the_middleware_anyway_has_one_request(
    own_first: bool,  # noqa: FBT001 - a parameter of the test
    install: Install,
    tracker: SessionTracker,
    journal: Recorder,
) -> None:
    app = starlette_app(tracker)
    if own_first:
        app.add_middleware(SessionExporterMiddleware, tracker=tracker, user=lambda _scope: "u-1")
    install(MiddlewareMapping("starlette"))
    if not own_first:
        app = SessionExporterMiddleware(app, tracker=tracker, user=lambda _scope: "u-1")  # type: ignore[assignment]
    AsgiClient(app).get("/s", headers={"x-request-id": "r-1"})
    assert by_session(journal) == {"s": ("r-1", "u-1")}


def test_installed_twice_it_is_there_once_and_the_first_one_to_be_taken_away_is_the_first(
    install: Install, tracker: SessionTracker, journal: Recorder
) -> None:
    original = Starlette.__dict__["__call__"]
    first = install(MiddlewareMapping("starlette"))
    replaced = Starlette.__dict__["__call__"]
    assert replaced is not original
    second = install(MiddlewareMapping("starlette"))
    assert Starlette.__dict__["__call__"] is replaced
    second()
    client = AsgiClient(starlette_app(tracker))
    client.get("/installed")
    first()
    first()
    assert Starlette.__dict__["__call__"] is original
    client.get("/not")
    assert [request != "" for request in requests_of(journal)] == [True, False]
    assert journal.hooks == {"asgi": False}
    install(MiddlewareMapping("starlette"))
    client.get("/again")
    assert requests_of(journal)[-1] != ""
    assert journal.hooks == {"asgi": True}


def test_what_others_have_put_over_it_stays_and_ours_does_nothing_any_more(
    install: Install, tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Starlette, "__call__", Starlette.__dict__["__call__"])
    uninstall = install(MiddlewareMapping("starlette"))
    ours = Starlette.__dict__["__call__"]

    async def theirs(app: Any, scope: Any, receive: Any, send: Any) -> None:
        await ours(app, scope, receive, send)

    monkeypatch.setattr(Starlette, "__call__", theirs)
    uninstall()
    assert Starlette.__dict__["__call__"] is theirs
    AsgiClient(starlette_app(tracker)).get("/s")
    assert requests_of(journal) == [""]


def test_a_framework_that_is_named_twice_has_all_places_of_both(
    install: Install, tracker: SessionTracker, journal: Recorder
) -> None:
    expected: list[Any] = []

    async def handler(_request: Request) -> PlainTextResponse:
        expected.append(current_request().context.session_id)  # type: ignore[union-attr]
        return PlainTextResponse("")

    install(
        MiddlewareMapping("starlette", expect=(cookie("sid"),)),
        MiddlewareMapping("starlette", expect=(header("x-session"),), user="client.0"),
    )
    client = AsgiClient(Starlette(routes=[Route("/", handler)]))
    client.get("/", headers={"cookie": "sid=c"})
    client.get("/", headers={"x-session": "h"})
    assert expected == ["c", "h"]


def test_a_version_that_is_not_known_is_told_once_and_left_alone(
    install: Install,
    tracker: SessionTracker,
    journal: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delattr(RequestHandler, "_handle_request")
    install(MiddlewareMapping("aiohttp"))
    tracker.reused("u", "s")
    assert journal.hooks == {"aiohttp": False}
    assert journal.errors == {"aiohttp": 1}
    assert "aiohttp: this version of aiohttp is not known" in caplog.text


def flask_app(tracker: SessionTracker) -> flask.Flask:
    app = flask.Flask("site")
    app.secret_key = "k"

    @app.get("/<id>")
    def handler(id: str) -> str:  # noqa: A002 - the route's name for it
        flask.session["user"] = f"user of {id}"
        tracker.reused(None, id)
        return "answer"

    return app


@pytest.mark.parametrize("wrap", [lambda app: app, lambda app: DispatcherMiddleware(app.wsgi_app)])
def test_a_flask_application_gets_it_however_the_server_has_it(
    wrap: Callable[[Any], Any], install: Install, tracker: SessionTracker, journal: Recorder
) -> None:
    app = flask_app(tracker)
    install(MiddlewareMapping("flask", user="session.user"))
    Client(wrap(app)).get("/s", headers={"x-request-id": "r-1"})
    assert by_session(journal) == {"s": ("r-1", "user of s")}
    assert current_request() is None


def test_a_flask_application_keeps_what_was_put_around_it(
    install: Install, tracker: SessionTracker, journal: Recorder
) -> None:
    app = flask_app(tracker)
    app.wsgi_app = Middleware(app.wsgi_app, tracker=tracker, user="REMOTE_USER")  # type: ignore[method-assign]
    install(MiddlewareMapping("flask"))
    Client(app).get("/s", environ_base={"REMOTE_USER": "u-1"}, headers={"x-request-id": "r-1"})
    assert by_session(journal) == {"s": ("r-1", "u-1")}


class Look:
    """Tells of a session, and counts what the database is asked for meanwhile."""

    def __init__(self, tracker: SessionTracker) -> None:
        self.tracker = tracker
        self.asked: list[str] = []
        self.expected: list[str] = []

    def __call__(self, request: Any) -> None:
        from django.db import connection

        def note(execute: Any, sql: str, *arguments: Any) -> Any:
            self.asked.append(sql)
            return execute(sql, *arguments)

        with connection.execute_wrapper(note):
            self.tracker.reused(None, request.path)
            found = current_request()
            self.expected.append("" if found is None else found.find_session())


@pytest.fixture
def look(tracker: SessionTracker, django_site: DjangoSite) -> Look:
    django_site.look = django_site.look_again = look = Look(tracker)
    return look


@pytest.mark.parametrize("user", ["user.pk", "user.id", "session._auth_user_id"])
@pytest.mark.parametrize("kind", ["asking", "stream"])
def test_the_user_of_django_is_known_once_the_view_has_asked_and_never_before(
    *, kind: str, user: str, install: Install, django_site: DjangoSite, look: Look, journal: Recorder
) -> None:
    from django.core.handlers.wsgi import WSGIHandler

    handler = WSGIHandler()
    install(MiddlewareMapping("django", expect=(path("id"),), user=user))
    client = Client(handler)
    client.get("/login/")
    client.get(f"/{kind}/s-1/", buffered=True)
    users = ["", django_site.user_id] if kind == "asking" else ["", ""]
    assert [event.user for event in journal.reports] == users
    assert look.expected == ["s-1", "s-1"]
    assert look.asked == []
    assert len(set(requests_of(journal))) == 1
    assert not journal.errors


def test_who_has_not_logged_in_is_nobody(
    install: Install, django_site: DjangoSite, look: Look, journal: Recorder
) -> None:
    from django.core.handlers.wsgi import WSGIHandler

    install(MiddlewareMapping("django", user="user.pk"))
    assert Client(WSGIHandler()).get("/asking/s/").get_json() == {"name": "", "id": "s"}
    assert [event.user for event in journal.events] == ["", ""]
    assert not journal.errors


def test_middleware_put_around_django_by_hand_knows_user_and_route_too(
    django_site: DjangoSite, look: Look, tracker: SessionTracker, journal: Recorder
) -> None:
    from django.core.handlers.wsgi import WSGIHandler

    client = Client(Middleware(WSGIHandler(), tracker=tracker, expect=path("id"), user="user.pk"))
    client.get("/login/")
    client.get("/asking/s-1/")
    assert [event.user for event in journal.reports] == ["", django_site.user_id]
    assert look.expected == ["s-1", "s-1"]
    assert look.asked == []


@pytest.mark.parametrize("kind", ["asking", "async"])
def test_django_under_asgi_is_the_same(
    kind: str, install: Install, django_site: DjangoSite, tracker: SessionTracker, journal: Recorder
) -> None:
    from django.core.handlers.asgi import ASGIHandler

    django_site.look = django_site.look_again = lambda request: tracker.reused(None, request.path)
    install(MiddlewareMapping("django", expect=(path("id"),), user="user.pk"))
    client = AsgiClient(ASGIHandler())
    client.get("/login/")
    assert client.get(f"/{kind}/s-1/", headers={"x-request-id": "r-1"}).json() == {"name": "anna", "id": "s-1"}
    assert [(event.request, event.user) for event in journal.reports] == [("r-1", ""), ("r-1", django_site.user_id)]
    assert not journal.errors


async def handle(request: web.Request) -> web.StreamResponse:
    tracker: SessionTracker = request.config_dict["tracker"]
    tracker.reused(None, "s")
    if request.path == "/websocket":
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            tracker.reused(None, message.data)
            await websocket.send_str(message.data)
        return websocket

    async def parts() -> AsyncIterator[bytes]:
        tracker.reused(None, "part")
        yield b"part"

    return web.Response(body=parts())


def aiohttp_app(tracker: SessionTracker, middlewares: Sequence[Any] = ()) -> web.Application:
    app = web.Application(middlewares=middlewares)
    app["tracker"] = tracker
    app.router.add_get("/{id}", handle)
    return app


pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.AppKey")


@pytest.mark.integration
def test_an_aiohttp_server_that_is_running_already_gets_it(
    install: Install, tracker: SessionTracker, journal: Recorder
) -> None:
    async def main() -> None:
        async with TestClient(TestServer(aiohttp_app(tracker))) as client:
            await (await client.get("/plain")).read()
            install(MiddlewareMapping("aiohttp", expect=(path("id"),)))
            await (await client.get("/plain", headers={"x-request-id": "r-1"})).read()
            async with client.ws_connect("/websocket") as websocket:
                for text in "ab":
                    await websocket.send_str(text)
                    await websocket.receive_str()

    asyncio.run(main())
    first, first_part, second, second_part, connection, a, b = requests_of(journal)
    assert (first, first_part) == ("", "")
    assert (second, second_part) == ("r-1", "r-1")
    assert len({connection, a, b, ""}) == 4
    assert not journal.errors


@pytest.mark.integration
def test_an_aiohttp_application_that_has_the_middleware_anyway_has_one_request(
    install: Install, tracker: SessionTracker, journal: Recorder
) -> None:
    async def main() -> None:
        app = aiohttp_app(tracker, [aiohttp_middleware(tracker=tracker, user=lambda _request: "u-1")])
        install(MiddlewareMapping("aiohttp"))
        async with TestClient(TestServer(app)) as client:
            await (await client.get("/plain", headers={"x-request-id": "r-1"})).read()

    asyncio.run(main())
    assert by_session(journal) == {"s": ("r-1", "u-1"), "part": ("r-1", "u-1")}


def test_everything_is_put_back(install: Install, tracker: SessionTracker) -> None:
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.base import BaseHandler
    from django.core.handlers.wsgi import WSGIHandler

    methods = [
        (Starlette, "__call__"),
        (flask.Flask, "__call__"),
        (flask.Flask, "wsgi_app"),
        (WSGIHandler, "__call__"),
        (ASGIHandler, "__call__"),
        (RequestHandler, "_handle_request"),
    ]
    shared = [
        (flask.Flask, "full_dispatch_request"),
        (BaseHandler, "get_response"),
        (BaseHandler, "get_response_async"),
        (WebSocketResponse, "receive"),
    ]
    before = [owner.__dict__[name] for owner, name in methods + shared]
    uninstall = install(
        *(MiddlewareMapping(framework, user="user.id") for framework in ("starlette", "flask", "django", "aiohttp"))
    )
    assert all(owner.__dict__[name] is not method for (owner, name), method in zip(methods, before, strict=False))
    uninstall()
    assert [owner.__dict__[name] for owner, name in methods + shared] == before


LATER = """
import sys
from session_exporter.hooks.frameworks import install_middleware
from session_exporter.mappings import FRAMEWORKS, MiddlewareMapping
uninstall = install_middleware([MiddlewareMapping(each, user="user.id") for each in FRAMEWORKS])
early = {"asyncio", "flask", "starlette", "django", "aiohttp", "wrapt"} & set(sys.modules)
assert not early, early
import flask, starlette.applications, aiohttp.web
import django.core.handlers.wsgi, django.core.handlers.asgi
for method in (flask.Flask.__call__, flask.Flask.full_dispatch_request, starlette.applications.Starlette.__call__,
               aiohttp.web_protocol.RequestHandler._handle_request, aiohttp.web.WebSocketResponse.receive,
               django.core.handlers.wsgi.WSGIHandler.__call__, django.core.handlers.asgi.ASGIHandler.__call__):
    assert hasattr(method, "__wrapped__"), method
uninstall()
assert not hasattr(flask.Flask.__call__, "__wrapped__")
"""


@pytest.mark.integration
def test_a_framework_that_is_imported_later_gets_it_then_and_nothing_is_imported_before() -> None:
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
