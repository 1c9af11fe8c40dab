"""Requests of WSGI applications: Flask, Django and plain ones, in process and on a real socket."""

import http.client
import io
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import flask
import pytest
from django_site import DjangoSite
from recorder import Recorder
from webservers import by_session, requests_of, wsgi_server
from werkzeug.test import Client

from session_exporter import RequestContext
from session_exporter.ambient import current, current_request
from session_exporter.hooks.wsgi import Middleware, _Visit
from session_exporter.mappings import cookie, header, path
from session_exporter.serving import Serving, Stay, WebRequest
from session_exporter.tracker import SessionTracker

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def environ_of(**entries: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    return {**environ, **entries}


def call(app: Any, **entries: Any) -> Iterable[bytes]:
    found: Iterable[bytes] = app(environ_of(**entries), lambda *_arguments: None)
    return found


def drain(app: Any, **entries: Any) -> bytes:
    body = call(app, **entries)
    try:
        return b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


@pytest.fixture
def expected() -> list[str | None]:
    return []


@pytest.fixture
def app(tracker: SessionTracker, expected: list[str | None]) -> flask.Flask:
    app = flask.Flask("site")
    app.secret_key = "k"

    def tell(session: str) -> None:
        tracker.reused(None, session)
        request = current_request()
        expected.append(None if request is None else request.context.session_id)

    @app.route("/plain/<id>", methods=["GET", "POST"])
    def plain(id: str) -> str:  # noqa: A002 - the route's name for it
        tell(id)
        return "answer"

    @app.get("/stream/<id>")
    def stream(id: str) -> flask.Response:  # noqa: A002 - as above
        def parts() -> Iterator[bytes]:
            tell(id)
            yield b"first"
            tell("second part")
            yield b"second"

        return flask.Response(parts())

    @app.get("/closing/<id>")
    def closing(id: str) -> flask.Response:  # noqa: A002 - as above
        response = flask.Response("answer")
        response.call_on_close(lambda: tell("on close"))
        tell(id)
        return response

    @app.get("/failing/<id>")
    def failing(id: str) -> str:  # noqa: A002 - as above
        tell(id)
        raise LookupError(id)

    @app.get("/file/<id>")
    def file(id: str) -> flask.Response:  # noqa: A002 - as above
        tell(id)
        return flask.send_file(io.BytesIO(b"f" * 100_000), mimetype="text/plain")

    @app.get("/login/<id>")
    def login(id: str) -> str:  # noqa: A002 - as above
        flask.session["user"] = {"id": id}
        flask.g.user = {"id": f"g-{id}"}
        tell("in")
        return "welcome"

    return app


@pytest.mark.parametrize("kind", ["plain", "stream", "closing", "failing", "file"])
def test_everything_that_the_application_does_for_a_request_is_in_it(
    kind: str, app: flask.Flask, tracker: SessionTracker, journal: Recorder
) -> None:
    drain(Middleware(app, tracker=tracker), PATH_INFO=f"/{kind}/s", HTTP_X_REQUEST_ID="r-1")
    assert current.get() is None
    tracker.reused("u", "after")
    assert requests_of(journal) == ["r-1"] * (2 if kind in {"stream", "closing"} else 1) + [""]
    assert not journal.errors


def test_parts_of_two_bodies_made_in_turn_on_one_thread_do_not_mix(tracker: SessionTracker, journal: Recorder) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        for n in range(3):
            with tracker.request(thread_id=f"t-{n}"):
                yield b"before"
                tracker.reused(environ["user"], environ["user"])
                inside.append(current_request())
                yield b"after"
            tracker.reused(environ["user"], environ["user"])

    inside: list[Any] = []
    wrapped = Middleware(app, tracker=tracker)
    bodies = [iter(call(wrapped, user=f"u-{n}", HTTP_X_REQUEST_ID=f"r-{n}")) for n in range(2)]
    for _ in range(7):
        for body in bodies:
            next(body, None)
            assert current_request() is None
    assert len(journal.reports) == 12
    for n in range(2):
        mine = [event.request for event in journal.events if event.user == f"u-{n}"]
        assert mine[1::2] == [f"r-{n}"] * 3
        assert len(set(mine)) == 4  # those that the application began, each of which outlived a part
    assert {request.context.metadata["parent_request_id"] for request in inside} == {"r-0", "r-1"}


def held_by(app: App, tracker: SessionTracker) -> tuple[Iterable[bytes], WebRequest]:
    held: list[Any] = []

    def holding(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        held.append(current_request())
        return app(environ, start_response)

    body = call(Middleware(holding, tracker=tracker))
    return body, held[0]


class Closing:
    """A body that is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield b"part"

    def close(self) -> None:
        self.closed += 1


def test_the_request_ends_when_the_body_is_closed(tracker: SessionTracker) -> None:
    inner = Closing()
    body, request = held_by(lambda _environ, _start: inner, tracker)
    assert list(body) == [b"part"]
    assert not request.ended
    body.close()  # type: ignore[attr-defined]
    assert request.ended
    assert inner.closed == 1


def test_a_body_that_cannot_be_closed_ends_the_request_when_it_is_exhausted(tracker: SessionTracker) -> None:
    body, request = held_by(lambda _environ, _start: map(bytes, [b"part"]), tracker)
    assert next(iter(body)) == b"part"
    assert not request.ended
    assert list(body) == []
    assert request.ended
    body.close()  # type: ignore[attr-defined]


def test_a_body_that_is_thrown_away_ends_the_request(tracker: SessionTracker) -> None:
    inner = Closing()
    body, request = held_by(lambda _environ, _start: inner, tracker)
    del body
    assert request.ended
    assert inner.closed == 0  # closing it is the server's


def test_an_error_in_the_body_passes_and_the_body_is_still_closed(tracker: SessionTracker) -> None:
    class Failing(Closing):
        def __iter__(self) -> Iterator[bytes]:
            raise LookupError("the application's own")
            yield

    inner = Failing()
    body, request = held_by(lambda _environ, _start: inner, tracker)
    with pytest.raises(LookupError):
        next(iter(body))
    assert not request.ended
    body.close()  # type: ignore[attr-defined]
    assert (request.ended, inner.closed) == (True, 1)


def test_an_error_on_closing_passes_and_ends_the_request(tracker: SessionTracker) -> None:
    class Failing(Closing):
        def close(self) -> None:
            raise LookupError("the application's own")

    body, request = held_by(lambda _environ, _start: Failing(), tracker)
    with pytest.raises(LookupError):
        body.close()  # type: ignore[attr-defined]
    assert request.ended


def test_an_error_of_the_application_passes_unchanged_and_ends_the_request(tracker: SessionTracker) -> None:
    def failing(_environ: Any, _start_response: Any) -> Iterable[bytes]:
        held.append(current_request())
        raise error

    held: list[Any] = []
    error = LookupError("the application's own")
    with pytest.raises(LookupError) as caught:
        call(Middleware(failing, tracker=tracker))
    assert caught.value is error
    assert held[0].ended
    assert current.get() is None


@pytest.mark.parametrize("body", [[b"one"], (b"one", b"two"), []])
def test_a_body_that_is_there_already_is_handed_on_as_it_is(body: Any, tracker: SessionTracker) -> None:
    found, request = held_by(lambda _environ, _start: body, tracker)
    assert found is body
    assert request.ended


def test_a_file_for_the_server_to_send_is_handed_on_as_it_is(tracker: SessionTracker) -> None:
    def app(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        found: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return found

    file = io.BytesIO(b"file")
    for wrapper, kind in [(FileWrapper, FileWrapper), (lambda each: each, io.BytesIO)]:
        assert type(call(Middleware(app, tracker=tracker), **{"wsgi.file_wrapper": wrapper})) is kind


def test_what_servers_look_for_in_a_body_is_still_there(tracker: SessionTracker) -> None:
    class Known(Closing):
        def __len__(self) -> int:
            return 7

        def fileno(self) -> int:
            return 99

    body = call(Middleware(lambda _environ, _start: Known(), tracker=tracker))
    assert (len(body), body.fileno()) == (7, 99)  # type: ignore[arg-type, attr-defined]
    unsized = call(Middleware(lambda _environ, _start: Closing(), tracker=tracker))
    assert not hasattr(unsized, "__len__")
    assert not hasattr(unsized, "fileno")


@pytest.mark.parametrize("make", [Closing, lambda: map(bytes, [b"a", b"b"]), lambda: Sized(b"ab")])
def test_a_body_is_iterated_as_it_would_be_without_us(make: Callable[[], Any], tracker: SessionTracker) -> None:
    def iterate(body: Any) -> list[Any]:
        parts = iter(body)
        first = [next(parts)]
        found = [*first, *itertools.chain(first, parts), *body, *parts]
        try:
            return [*found, next(body)]
        except (TypeError, StopIteration) as error:
            return [*found, type(error)]

    assert iterate(call(Middleware(lambda _environ, _start: make(), tracker=tracker))) == iterate(make())


class Sized(bytearray):
    """A body that says how many parts it has."""


def test_an_environment_that_is_used_again_is_another_request(tracker: SessionTracker, journal: Recorder) -> None:
    def app(_environ: Any, _start_response: Any) -> Iterable[bytes]:
        tracker.reused("u", "s")
        yield b""

    wrapped = Middleware(app, tracker=tracker)
    environ = environ_of()
    for _ in range(2):
        copy = wrapped(environ, None)
        environ = dict(environ)  # as it is while the request lasts
        list(copy)
        copy.close()  # type: ignore[attr-defined]
    assert len(set(requests_of(journal))) == 2


@pytest.mark.parametrize(
    ("expect", "entries", "found"),
    [
        (cookie("sid"), {"HTTP_COOKIE": "a=b; sid=s-1"}, "s-1"),
        (header("X-Session"), {"HTTP_X_SESSION": "s-1"}, "s-1"),
        (lambda environ: environ["QUERY_STRING"], {"QUERY_STRING": "s-1"}, "s-1"),
        (cookie("sid"), {"HTTP_COOKIE": "sid=undefined"}, None),
        (cookie("sid"), {}, None),
    ],
)
def test_the_expected_session_is_known_from_the_beginning(
    *, expect: Any, entries: Any, found: Any, app: flask.Flask, tracker: SessionTracker, expected: list[str | None]
) -> None:
    drain(Middleware(app, tracker=tracker, expect=expect), PATH_INFO="/plain/s", **entries)
    assert expected == [found]


def test_a_parameter_of_the_route_is_expected_once_it_is_routed(app: flask.Flask, tracker: SessionTracker) -> None:
    @app.get("/context/<int:id>")
    def context(id: int) -> str:  # noqa: A002 - the route's name for it
        held.append(current_request())
        return str(RequestContext.from_request(flask.request).session_id)

    held: list[Any] = []
    wrapped = Middleware(app, tracker=tracker, expect=[cookie("sid"), path("id")])
    assert drain(wrapped, PATH_INFO="/context/77") == b"77"
    drain(wrapped, PATH_INFO="/context/78", HTTP_COOKIE="sid=s-1")
    assert [request.context.session_id for request in held] == ["77", "s-1"]


def test_a_parameter_is_known_at_the_end_also_when_nobody_has_asked(app: flask.Flask, tracker: SessionTracker) -> None:
    @app.get("/unasked/<id>")
    def unasked(id: str) -> str:  # noqa: A002 - the route's name for it
        held.append(current_request())
        return ""

    held: list[Any] = []
    drain(Middleware(app, tracker=tracker, expect=path("id")), PATH_INFO="/unasked/s-1")
    assert held[0].context.session_id == "s-1"


def test_routing_arguments_of_other_frameworks_are_read(tracker: SessionTracker) -> None:
    def app(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
        environ["wsgiorg.routing_args"] = ((), {"id": "s-1"})
        return [str(RequestContext.from_request(environ).session_id).encode()]

    assert drain(Middleware(app, tracker=tracker, expect=path("id"))) == b"s-1"


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("session.user.id", "anna"),
        ("g.user.id", "g-anna"),
        ("REMOTE_USER", "remote"),
        ("my.user", "dotted"),
        ("request.view_args.id", "anna"),
        (lambda _environ: flask.session["user"]["id"], "anna"),
        ("session.nobody.id", ""),
        ("g.nobody", ""),
    ],
)
def test_a_user_who_logs_in_later_is_the_user_of_the_events(
    *, user: Any, found: str, app: flask.Flask, tracker: SessionTracker, journal: Recorder
) -> None:
    entries = {"PATH_INFO": "/login/anna", "REMOTE_USER": "remote", "my.user": "dotted"}
    drain(Middleware(app, tracker=tracker, user=user), **entries)
    assert by_session(journal)["in"][1] == found
    assert not journal.errors


def test_looking_into_a_session_leaves_no_trace_in_the_response(
    app: flask.Flask, tracker: SessionTracker, journal: Recorder
) -> None:
    answers = []
    for each in (app, Middleware(app, tracker=tracker, user="session.user.id")):
        client = Client(each)
        client.get("/login/anna")
        answers.append(list(client.get("/plain/s").headers))
    assert answers[0] == answers[1]
    assert "Vary" not in dict(answers[0])
    assert journal.events[-1].user == "anna"


def test_nested_twice_there_is_one_request_and_the_inner_one_adds_what_it_knows(
    app: flask.Flask, tracker: SessionTracker, journal: Recorder, expected: list[str | None]
) -> None:
    inner = Middleware(app, tracker=tracker, expect=header("x-session"), user="REMOTE_USER")
    outer = Middleware(inner, tracker=tracker, expect=cookie("sid"))
    drain(outer, PATH_INFO="/stream/s", HTTP_X_SESSION="s-1", REMOTE_USER="u-1")
    assert len(set(requests_of(journal))) == 1
    assert {event.user for event in journal.events} == {"u-1"}
    assert set(expected) == {"s-1"}


@pytest.mark.integration
def test_a_hundred_concurrent_requests_keep_their_contexts_apart(tracker: SessionTracker, journal: Recorder) -> None:
    arrived = threading.Barrier(100)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        name = environ["PATH_INFO"][1:]
        start_response("200 OK", [])
        tracker.reused(None, name)
        yield b"first"
        arrived.wait(10)
        tracker.reused(None, name)
        yield b"second"

    wrapped = Middleware(app, tracker=tracker, user=lambda environ: environ["HTTP_X_USER"])
    with wsgi_server(wrapped) as address, ThreadPoolExecutor(100) as threads:

        def get(n: int) -> bytes:
            return raw_answer(address, f"/{n}", {"x-request-id": f"r-{n}", "x-user": f"u-{n}"})[2]

        assert set(threads.map(get, range(100))) == {b"firstsecond"}
    assert len(journal.events) == 200
    for event in journal.events:
        assert (event.request, event.user) == (f"r-{event.session}", f"u-{event.session}")


def broken(*_arguments: Any, **_options: Any) -> Any:
    raise RuntimeError("ours")


STEPS = [
    (Serving, "begin"),
    (Serving, "join"),
    (Serving, "end"),
    (Stay, "__init__"),
    (Stay, "enter"),
    (Stay, "leave"),
    (_Visit, "_is_file"),
]


def raw_answer(
    address: str, path_: str, headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", path_, headers=headers)
        response = connection.getresponse()
        found = [(name, value) for name, value in response.getheaders() if name != "Date"]
        return response.status, found, response.read()
    finally:
        connection.close()


@pytest.mark.integration
def test_responses_are_the_same_with_the_middleware_also_when_it_is_broken(
    app: flask.Flask, django_site: DjangoSite, tracker: SessionTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.core.handlers.wsgi import WSGIHandler

    def plain(_environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"answer"]  # of which the server tells the length

    urls = {
        app: [f"/{kind}/s" for kind in ("plain", "stream", "closing", "failing", "file", "missing")],
        WSGIHandler(): [f"/{kind}/s/" for kind in ("anonymous", "asking", "stream", "failing", "missing")],
        plain: ["/"],
    }
    app.logger.disabled = True
    bare, watched = [], []
    for each, paths in urls.items():
        with wsgi_server(each) as address:
            bare.append([raw_answer(address, path_) for path_ in paths])
    for owner, name in [(None, ""), *STEPS]:
        with monkeypatch.context() as patch:
            if owner is not None:
                patch.setattr(owner, name, broken)
            watched.clear()
            for each, paths in urls.items():
                inner = Middleware(each, tracker=tracker, user="user.id")
                outer = Middleware(inner, tracker=tracker, expect=[cookie("sid"), path("id")])
                with wsgi_server(outer) as address:
                    watched.append([raw_answer(address, path_) for path_ in paths])
        assert watched == bare, name


@pytest.mark.parametrize(("owner", "name"), [step for step in STEPS if step[1] not in {"leave", "_is_file"}])
def test_a_broken_middleware_is_counted(
    *,
    owner: Any,
    name: str,
    app: flask.Flask,
    tracker: SessionTracker,
    journal: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapped = Middleware(Middleware(app, tracker=tracker), tracker=tracker, expect=path("id"))
    monkeypatch.setattr(owner, name, broken)
    assert drain(wrapped, PATH_INFO="/plain/s") == b"answer"
    assert journal.errors["wsgi"] >= 1
    assert set(journal.errors) == {"wsgi"}
    assert current.get() is None


def test_the_hook_is_declared_when_the_first_application_is_wrapped(
    app: flask.Flask, tracker: SessionTracker, journal: Recorder
) -> None:
    Middleware(app, tracker=tracker)
    tracker.reused("u", "s")
    assert journal.hooks == {"wsgi": True}


def test_where_nothing_is_to_be_recorded_the_application_is_left_alone(
    app: flask.Flask, journal: Recorder, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_EXPORTER_DISABLED", "1")
    wrapped = Middleware(app, tracker=SessionTracker(journal=journal), expect=cookie("sid"))
    drain(wrapped, PATH_INFO="/plain/s", HTTP_COOKIE="sid=s")
    assert expected == [None]
