"""Requests of ASGI applications, with Starlette and FastAPI, in process and on real sockets."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from recorder import Recorder
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from webservers import AsgiClient, by_session, requests_of, uvicorn_server

from session_exporter import RequestContext
from session_exporter.ambient import current, current_request
from session_exporter.hooks.asgi import AsgiRequests, SessionExporterMiddleware, request_context
from session_exporter.mappings import cookie, header, path
from session_exporter.serving import Serving, Stay
from session_exporter.tracker import SessionTracker
from session_exporter.wrapped_calls import current_call

UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


class Site:
    """An application that tells of sessions wherever code of its own runs."""

    def __init__(self, tracker: SessionTracker) -> None:
        self.tracker = tracker
        self.expected: list[str | None] = []
        self.released = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/async/{id}", self.asynchronous, methods=["GET", "POST", "OPTIONS"]),
                Route("/sync/{id}", self.synchronous),
                Route("/stream/{id}", self.stream),
                Route("/background/{id}", self.background),
                Route("/failing/{id}", self.failing),
                Mount("/mounted", routes=[Route("/{id}", self.asynchronous)]),
            ]
        )

    def tell(self, session: str) -> None:
        self.tracker.reused(None, session)
        request = current_request()
        self.expected.append(None if request is None else request.context.session_id)

    async def asynchronous(self, request: Request) -> PlainTextResponse:
        self.tell(request.path_params["id"])
        return PlainTextResponse("answer")

    def synchronous(self, request: Request) -> PlainTextResponse:
        self.tell(request.path_params["id"])
        return PlainTextResponse("answer")

    async def stream(self, request: Request) -> StreamingResponse:
        self.tell(request.path_params["id"])

        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            self.tell("second part")
            yield b"second"

        return StreamingResponse(parts())

    async def background(self, request: Request) -> PlainTextResponse:
        self.tell(request.path_params["id"])
        return PlainTextResponse("answer", background=BackgroundTask(self.tell, "in the background"))

    async def failing(self, request: Request) -> PlainTextResponse:
        self.tell(request.path_params["id"])
        raise LookupError("the application's own")


@pytest.fixture
def site(tracker: SessionTracker) -> Site:
    return Site(tracker)


async def get(app: Any, url: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.get(url, **options)


def test_events_of_one_request_carry_one_id_and_those_of_the_next_another(
    site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    app = SessionExporterMiddleware(site.app, tracker=tracker)

    async def main() -> None:
        for path_ in ("/stream/a", "/async/b"):
            await get(app, path_)

    asyncio.run(main())
    first, second, other = requests_of(journal)
    assert first == second != other
    assert len(first) == 16


@pytest.mark.parametrize("kind", ["async", "sync", "background", "stream", "failing"])
def test_everything_that_the_application_does_for_a_request_is_in_it(
    kind: str, site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    app = SessionExporterMiddleware(site.app, tracker=tracker)

    async def main() -> None:
        try:
            await get(app, f"/{kind}/s", headers={"x-request-id": "r-1"})
        except LookupError:
            assert kind == "failing"
        assert current.get() is None
        tracker.reused("u", "after")

    asyncio.run(main())
    assert requests_of(journal) == ["r-1"] * (2 if kind in {"background", "stream"} else 1) + [""]
    assert not journal.errors


def test_added_through_starlette_it_is_the_same(site: Site, tracker: SessionTracker, journal: Recorder) -> None:
    site.app.add_middleware(SessionExporterMiddleware, tracker=tracker, expect=cookie("sid"))
    assert AsgiClient(site.app).get("/sync/s", headers={"cookie": "sid=s-1"}).text == "answer"
    assert len(requests_of(journal)[0]) == 16
    assert site.expected == ["s-1"]


def test_the_error_of_the_application_passes_unchanged(site: Site, tracker: SessionTracker) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise error

    error = LookupError("the application's own")
    app = SessionExporterMiddleware(failing, tracker=tracker)
    with pytest.raises(LookupError) as caught:
        asyncio.run(app({"type": "http", "headers": []}, None, None))  # type: ignore[arg-type]
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_no_method_is_special(method: str, site: Site, tracker: SessionTracker, journal: Recorder) -> None:
    client = AsgiClient(SessionExporterMiddleware(site.app, tracker=tracker))
    client.request(method, "/async/s", headers={"x-request-id": "r"})
    assert requests_of(journal) == ["r"]


@pytest.mark.parametrize("type_", ["lifespan", "other"])
def test_what_is_no_connection_passes_untouched(type_: str, tracker: SessionTracker) -> None:
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.extend(arguments)
        assert current_request() is None

    scope, receive, send = {"type": type_}, object(), object()
    asyncio.run(SessionExporterMiddleware(app, tracker=tracker)(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [scope, receive, send]
    assert scope == {"type": type_}


def test_http_receive_and_send_are_the_servers_own_and_the_scope_is_as_before(tracker: SessionTracker) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((receive, send))
        scope["route"] = "set by the application"

    seen: list[Any] = []
    scope, receive, send = {"type": "http", "headers": []}, object(), object()
    asyncio.run(SessionExporterMiddleware(app, tracker=tracker)(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [(receive, send)]
    assert scope == {"type": "http", "headers": [], "route": "set by the application"}


@pytest.mark.parametrize("given", [UUID, "a", "!" * 128, "req_01H8:x/y=="])
def test_a_sane_request_id_is_taken_over(given: str, site: Site, tracker: SessionTracker, journal: Recorder) -> None:
    app = SessionExporterMiddleware(site.app, tracker=tracker)
    asyncio.run(get(app, "/async/s", headers={"x-request-id": given}))
    assert requests_of(journal) == [given]


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "undefined", "a\tb", "caf\xe9"])
def test_an_id_that_is_none_is_replaced_and_no_failure_of_ours(
    given: str, site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    app = SessionExporterMiddleware(site.app, tracker=tracker, expect=header("x-session"))
    headers = {"x-request-id": given.encode("latin-1"), "x-session": b"undefined", "x-thread-id": b"None"}
    asyncio.run(get(app, "/async/s", headers=headers))
    assert re.fullmatch("[0-9a-f]{16}", requests_of(journal)[0])
    assert site.expected == [None]
    assert not journal.errors


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("sid=s-1", "s-1"),
        ("a=b; sid=s-1; c=d", "s-1"),
        ("xsid=no; sid=s-1", "s-1"),
        ("sid=s-1;xsid=no", "s-1"),
        ("sid=old; sid=s-1", "s-1"),
        ("xsid=no", None),
        ("a=sid=s-1", None),
        ('sid="s-1"', "s-1"),
        ('sid="s\\0541"', "s,1"),
        ("sid=", None),
        ("sid=; ;;=;\xff", None),
        ("sid=null", None),
        ("sid", None),
        (f"sid={'x' * 300}", "blake2b:"),
    ],
)
def test_a_cookie_says_which_session_is_expected(
    sent: str, expected: str | None, site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    app = SessionExporterMiddleware(site.app, tracker=tracker, expect=cookie("sid"))
    asyncio.run(get(app, "/async/s", headers={"cookie": sent.encode("latin-1")}))
    (found,) = site.expected
    assert (found or "")[:8] == (expected or "")[:8]
    assert not journal.errors


@pytest.mark.parametrize("placeholder", ["undefined", "null", "%20"])
def test_a_placeholder_in_the_route_is_no_session_and_no_failure(
    placeholder: str, tracker: SessionTracker, journal: Recorder
) -> None:
    async def endpoint(_request: Request) -> PlainTextResponse:
        tracker.looked_up("u1")
        request = current_request()
        assert request is not None
        assert request.find_session() == ""
        return PlainTextResponse("")

    routed = Starlette(routes=[Route("/{id}", endpoint)])
    app = SessionExporterMiddleware(routed, tracker=tracker, expect=path("id"))
    asyncio.run(get(app, f"/{placeholder}"))
    assert len(journal.events) == 1
    assert not journal.errors


def test_cookies_may_come_in_several_headers(site: Site, tracker: SessionTracker) -> None:
    app = SessionExporterMiddleware(site.app, tracker=tracker, expect=cookie("sid"))
    asyncio.run(get(app, "/async/s", headers=[("cookie", "sid=s-1"), ("cookie", "a=b")]))
    assert site.expected == ["s-1"]


def test_the_first_place_that_says_something_counts(site: Site, tracker: SessionTracker) -> None:
    places = (cookie("sid"), lambda scope: scope["path"] == "/async/b" and "called", header("X-Session"))
    app = SessionExporterMiddleware(site.app, tracker=tracker, expect=places)
    for url, headers in [("/async/a", {"x-session": "h"}), ("/async/b", {}), ("/async/a", {"cookie": "sid=c"})]:
        asyncio.run(get(app, url, headers=headers))
    assert site.expected == ["h", "called", "c"]


def test_a_callable_that_raises_is_counted_and_the_next_place_is_asked(
    site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    def broken(scope: Any) -> str:
        raise KeyError("session")

    expect = [broken, lambda _scope: object(), lambda _scope: True, header("x-session")]
    app = SessionExporterMiddleware(site.app, tracker=tracker, expect=expect)
    asyncio.run(get(app, "/async/s", headers={"x-session": "h"}))
    assert site.expected == ["h"]
    assert journal.errors == {"asgi": 3}


@pytest.mark.parametrize("expect", ["sid", 7, [cookie("sid"), "sid"], None])
def test_what_is_no_place_is_refused_at_once(expect: Any, tracker: SessionTracker) -> None:
    with pytest.raises(TypeError, match="expect must be cookie"):
        SessionExporterMiddleware(None, tracker=tracker, expect=expect)  # type: ignore[arg-type]


@pytest.mark.parametrize("user", ["", "a..b", 7])
def test_what_is_no_user_is_refused_at_once(user: Any, tracker: SessionTracker) -> None:
    with pytest.raises(TypeError, match="user must be a callable, or words"):
        SessionExporterMiddleware(None, tracker=tracker, user=user)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["/async/{}", "/sync/{}", "/mounted/{}"])
def test_a_parameter_of_the_route_is_expected_once_it_is_routed(url: str, site: Site, tracker: SessionTracker) -> None:
    contexts = []

    class Watching(SessionExporterMiddleware):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await super().__call__(scope, receive, send)
            contexts.append(held[0].context)

    held: list[Any] = []
    site.tell = lambda _session: held.append(current_request())  # type: ignore[method-assign]
    asyncio.run(get(Watching(site.app, tracker=tracker, expect=path("id")), url.format(UUID)))
    assert contexts[0].session_id == UUID


def test_a_parameter_of_the_route_is_known_to_whoever_asks_for_the_context(tracker: SessionTracker) -> None:
    async def handler(request: Request) -> JSONResponse:
        return JSONResponse(RequestContext.from_request(request).session_id)

    app = Starlette(routes=[Route("/{id:int}", handler)])
    app.add_middleware(SessionExporterMiddleware, tracker=tracker, expect=path("id"))
    assert AsgiClient(app).get("/77").json() == "77"


class ByToken(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("authorization")
        return (AuthCredentials(), SimpleUser(name)) if name else None


@pytest.mark.parametrize("user", ["user.username", lambda scope: scope["user"].username])
def test_a_user_who_is_authenticated_later_is_the_user_of_the_events(
    user: Any, site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    site.app.add_middleware(AuthenticationMiddleware, backend=ByToken())
    app = SessionExporterMiddleware(site.app, tracker=tracker, user=user)
    asyncio.run(get(app, "/sync/s", headers={"authorization": "anna"}))
    assert by_session(journal)["s"][1] == "anna"


@pytest.mark.parametrize("user", ["user.username", "user.identity", "user.missing.id", "state.user.id", "client.7"])
def test_a_user_who_is_nobody_is_not_known_and_no_failure(
    user: Any, site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    site.app.add_middleware(AuthenticationMiddleware, backend=ByToken())
    app = SessionExporterMiddleware(site.app, tracker=tracker, user=user)
    asyncio.run(get(app, "/sync/s"))
    assert by_session(journal)["s"][1] == ""
    assert not journal.errors


def test_a_user_kept_in_the_state_of_the_request_is_found(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        tracker.reused(None, "before")
        request.state.user = {"id": 7}
        tracker.reused(None, "after")
        return PlainTextResponse("")

    app = SessionExporterMiddleware(Starlette(routes=[Route("/", handler)]), tracker=tracker, user="state.user.id")
    asyncio.run(get(app, "/"))
    assert [event.user for event in journal.events] == ["", "7"]


def test_a_request_begun_inside_has_the_late_user_and_the_late_session_too(
    tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        with tracker.request(request_id="inside") as inside:
            tracker.reused(None, "before")
            request.state.user = "anna"
            tracker.reused(None, "after")
            found.append(inside.find_session())
        return PlainTextResponse("")

    found: list[str] = []
    app = SessionExporterMiddleware(
        Starlette(routes=[Route("/{id}", handler)]), tracker=tracker, user="state.user", expect=path("id")
    )
    asyncio.run(get(app, "/s-1"))
    assert [event.user for event in journal.reports] == ["", "anna"]
    assert found == ["s-1"]


@pytest.mark.parametrize("bad", ["undefined", 1.5, object()])
def test_a_late_answer_that_is_no_id_is_counted_and_nobodys(
    bad: Any, tracker: SessionTracker, journal: Recorder
) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        request.state.found = bad
        tracker.reused(None, "s")
        return PlainTextResponse("")

    app = SessionExporterMiddleware(
        Starlette(routes=[Route("/", handler)]),
        tracker=tracker,
        user="state.found",
        expect=lambda scope: scope.get("state", {}).get("found"),
    )
    asyncio.run(get(app, "/"))
    assert by_session(journal)["s"][1] == ""
    assert journal.errors == {"asgi": 3}  # the session is asked for at the first event and at the end


def test_looking_into_a_session_leaves_no_trace_in_the_response(tracker: SessionTracker, journal: Recorder) -> None:
    async def handler(request: Request) -> PlainTextResponse:
        if "login" in request.query_params:
            request.session["user"] = {"id": "anna"}
        tracker.reused(None, "s")
        return PlainTextResponse("")

    def app() -> Starlette:
        return Starlette(
            routes=[Route("/", handler)], middleware=[Middleware(SessionMiddleware, secret_key="k", max_age=None)]
        )

    bare = AsgiClient(app())
    watched = AsgiClient(
        SessionExporterMiddleware(
            app(), tracker=tracker, user="session.user.id", expect=lambda scope: scope.get("session", {}).get("sid")
        )
    )
    for client in (bare, watched):
        client.get("/?login")
    assert bare.get("/").headers.raw == watched.get("/").headers.raw
    assert [event.user for event in journal.events] == ["", "anna", "", "anna"]


def test_nested_twice_there_is_one_request_and_the_inner_one_adds_what_it_knows(
    site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    site.app.add_middleware(
        SessionExporterMiddleware, tracker=tracker, expect=header("x-session"), user=lambda _scope: "u-1"
    )
    app = SessionExporterMiddleware(site.app, tracker=tracker, expect=cookie("sid"))
    asyncio.run(get(app, "/stream/s", headers={"x-session": "s-1"}))
    assert len(set(requests_of(journal))) == 1
    assert {event.user for event in journal.events} == {"u-1"}
    assert set(site.expected) == {"s-1"}
    assert current_request() is None


def test_an_application_that_calls_another_one_in_process_serves_two_requests(
    site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    inner = SessionExporterMiddleware(site.app, tracker=tracker)

    async def handler(request: Request) -> PlainTextResponse:
        tracker.reused("u", "outer")
        await get(inner, "/async/inner")
        tracker.reused("u", "outer again")
        return PlainTextResponse("")

    app = SessionExporterMiddleware(
        Starlette(routes=[Route("/", handler)]), tracker=tracker, user=lambda _scope: "u", expect=lambda _scope: "s"
    )
    asyncio.run(get(app, "/"))
    first, inside, last = requests_of(journal)
    assert first == last != inside
    assert by_session(journal)["inner"][1] == ""
    assert site.expected == [None]


def test_a_hundred_concurrent_requests_keep_their_contexts_apart(tracker: SessionTracker, journal: Recorder) -> None:
    async def main() -> None:
        arrived = asyncio.Barrier(100)

        async def handler(request: Request) -> PlainTextResponse:
            name = request.path_params["id"]
            tracker.reused(None, name)
            await arrived.wait()
            await asyncio.to_thread(tracker.reused, None, name)
            await asyncio.create_task(later(name))
            return PlainTextResponse(name)

        async def later(name: str) -> None:
            await asyncio.sleep(0)
            tracker.reused(None, name)

        app = SessionExporterMiddleware(
            Starlette(routes=[Route("/{id}", handler)]),
            tracker=tracker,
            user=lambda scope: dict(scope["headers"])[b"x-user"].decode(),
        )
        headers = [{"x-request-id": f"r-{n}", "x-user": f"u-{n}"} for n in range(100)]
        await asyncio.gather(*(get(app, f"/{n}", headers=headers[n]) for n in range(100)))

    asyncio.run(main())
    assert len(journal.events) == 300
    for event in journal.events:
        assert (event.request, event.user) == (f"r-{event.session}", f"u-{event.session}")


def test_a_task_that_outlives_its_request_is_no_longer_in_it(tracker: SessionTracker, journal: Recorder) -> None:
    async def main() -> None:
        answered = asyncio.Event()

        async def later() -> None:
            await answered.wait()
            tracker.reused(None, "late")

        async def handler(request: Request) -> PlainTextResponse:
            tasks.append(asyncio.create_task(later()))
            return PlainTextResponse("")

        tasks: list[Any] = []
        app = SessionExporterMiddleware(Starlette(routes=[Route("/", handler)]), tracker=tracker)
        await get(app, "/")
        answered.set()
        await tasks[0]

    asyncio.run(main())
    assert requests_of(journal) == [""]


@pytest.mark.integration
def test_a_client_that_goes_away_ends_its_request(tracker: SessionTracker, journal: Recorder) -> None:
    held: list[Any] = []

    async def handler(request: Request) -> StreamingResponse:
        held.append(current_request())

        async def parts() -> AsyncIterator[bytes]:
            for n in range(10**9):
                yield b"part"
                tracker.reused(None, f"part {n}")
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    async def main() -> None:
        app = SessionExporterMiddleware(Starlette(routes=[Route("/", handler)]), tracker=tracker)
        async with uvicorn_server(app) as address, httpx.AsyncClient() as client:
            async with client.stream("GET", f"http://{address}/") as response:
                await anext(response.aiter_raw())
            async with asyncio.timeout(10):
                while not held[0].ended:  # noqa: ASYNC110 - that is what is asked
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert set(requests_of(journal)) == {held[0].request_id}


@pytest.mark.integration
def test_requests_on_one_connection_have_nothing_to_do_with_each_other(
    tracker: SessionTracker, journal: Recorder
) -> None:
    # Reading resumes within the first request, whose context variables the event loop then keeps for the connection.
    async def handler(request: Request) -> PlainTextResponse:
        size = len(await request.body())
        tracker.reused(None, request.path_params["id"])
        if size:
            current_request().bind_user("u-1")  # type: ignore[union-attr]
            current_call.set(object())  # type: ignore[arg-type]
        return PlainTextResponse(f"{current_call.get() is None}")

    async def main() -> None:
        app = Starlette(routes=[Route("/{id}", handler, methods=["POST"])])
        app.add_middleware(SessionExporterMiddleware, tracker=tracker, expect=header("x-session"))
        async with uvicorn_server(app) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
            await client.post("/a", content=b"x" * 3_000_000, headers={"x-session": "s-1"})
            assert (await client.post("/b")).text == "True"

    asyncio.run(main())
    assert by_session(journal)["b"][1] == ""
    assert len(set(requests_of(journal))) == 2


@pytest.fixture
def context_app() -> FastAPI:
    app = FastAPI()

    @app.get("/{id}")
    async def read(id: str, context: Annotated[RequestContext, Depends(request_context)]) -> dict[str, Any]:  # noqa: A002 - the route's name for it
        request = current_request()
        ids = {name: getattr(context, name) for name in ("request_id", "user_id", "thread_id", "run_id", "session_id")}
        return {**ids, "current": request is not None and request.context == context}

    return app


IDS = {"x-request-id": "r-1", "x-thread-id": "t-1", "x-run-id": "n-1"}


def test_a_dependency_gives_the_context_that_the_middleware_made(context_app: FastAPI, tracker: SessionTracker) -> None:
    context_app.add_middleware(SessionExporterMiddleware, tracker=tracker, expect=path("id"), user=lambda _scope: "u-1")
    found = AsgiClient(context_app).get("/s-1", headers=IDS).json()
    assert found == {
        "request_id": "r-1",
        "user_id": "u-1",
        "thread_id": "t-1",
        "run_id": "n-1",
        "session_id": "s-1",
        "current": True,
    }


def test_a_dependency_gives_a_context_without_the_middleware_as_well(context_app: FastAPI) -> None:
    found = AsgiClient(context_app).get("/s-1", headers=IDS).json()
    assert found == {
        "request_id": "r-1",
        "user_id": None,
        "thread_id": "t-1",
        "run_id": "n-1",
        "session_id": None,
        "current": False,
    }


def test_a_request_that_the_application_begins_inside_is_the_one_whose_context_is_given(
    tracker: SessionTracker,
) -> None:
    async def handler(request: Request) -> JSONResponse:
        with tracker.request(request_id="inner", thread_id="t-2"):
            inside = RequestContext.from_request(request)
        return JSONResponse([inside.request_id, inside.user_id, RequestContext.from_request(request).request_id])

    app = Starlette(routes=[Route("/", handler)])
    app.add_middleware(SessionExporterMiddleware, tracker=tracker, user=lambda _scope: "u-1")
    assert AsgiClient(app).get("/", headers=IDS).json() == ["inner", "u-1", "r-1"]


def broken(*_arguments: Any, **_options: Any) -> Any:
    raise RuntimeError("ours")


STEPS = [
    (AsgiRequests, "_said"),
    (Serving, "begin"),
    (Serving, "join"),
    (Serving, "end"),
    (Stay, "__init__"),
    (Stay, "enter"),
    (Stay, "leave"),
]


@pytest.mark.parametrize(("owner", "name"), [(None, ""), *STEPS], ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("kind", ["async", "sync", "stream", "background", "failing", "missing"])
def test_responses_are_the_same_with_the_middleware_also_when_it_is_broken(
    *, kind: str, owner: Any, name: str, site: Site, tracker: SessionTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = AsgiClient(Site(tracker).app, raises=False).get(f"/{kind}/s")
    site.app.add_middleware(SessionExporterMiddleware, tracker=tracker, user="user.id")  # the inner one
    client = AsgiClient(
        SessionExporterMiddleware(site.app, tracker=tracker, expect=[cookie("sid"), path("id")]),
        raises=False,
    )
    if owner is not None:
        monkeypatch.setattr(owner, name, broken)
    watched = client.get(f"/{kind}/s")
    assert (watched.status_code, watched.headers.raw, watched.content) == (
        bare.status_code,
        bare.headers.raw,
        bare.content,
    )


@pytest.mark.parametrize(("owner", "name"), STEPS)
def test_a_broken_middleware_is_counted(
    *, owner: Any, name: str, site: Site, tracker: SessionTracker, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.app.add_middleware(SessionExporterMiddleware, tracker=tracker)
    client = AsgiClient(SessionExporterMiddleware(site.app, tracker=tracker, expect=path("id")))
    monkeypatch.setattr(owner, name, broken)
    client.get("/async/s")
    assert journal.errors["asgi"] >= 1
    assert set(journal.errors) == {"asgi"}


def test_the_hook_is_declared_when_the_first_application_is_wrapped(
    site: Site, tracker: SessionTracker, journal: Recorder
) -> None:
    SessionExporterMiddleware(site.app, tracker=tracker)
    tracker.reused("u", "s")
    assert journal.hooks == {"asgi": True}


def test_where_nothing_is_to_be_recorded_the_application_is_left_alone(
    site: Site, journal: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DISABLED", "1")
    app = SessionExporterMiddleware(site.app, tracker=SessionTracker(journal=journal), expect=header("x-session"))
    asyncio.run(get(app, "/async/s", headers={"x-session": "s"}))
    assert site.expected == [None]
