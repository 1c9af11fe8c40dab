"""What a request says of itself is read from every framework's, and hostile headers are nothing."""

import asyncio
import string
from http.cookies import SimpleCookie
from typing import Any

import flask
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection, Request, cookie_parser
from werkzeug.test import EnvironBuilder

from session_exporter import RequestContext
from session_exporter.core.carriers import cookie_in, request_token

HEADERS = {"X-Request-ID": "r-1", "X-Thread-ID": "t-1", "X-Run-ID": "n-1"}


def scope_of(headers: dict[str, str]) -> dict[str, Any]:
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "headers": pairs, "path_params": {"id": 7}}


def environ_of(headers: dict[str, str]) -> dict[str, Any]:
    return EnvironBuilder(headers=headers).get_environ()


def aiohttp_of(headers: dict[str, str]) -> Any:
    async def make() -> Any:
        return make_mocked_request("GET", "/", headers=headers)

    return asyncio.run(make())


def django_of(headers: dict[str, str]) -> Any:
    from django.http import HttpRequest

    request = HttpRequest()
    request.META = environ_of(headers)
    return request


MAKERS = [
    scope_of,
    lambda headers: HTTPConnection(scope_of(headers)),
    lambda headers: Request(scope_of(headers)),
    environ_of,
    lambda headers: flask.Request(environ_of(headers)),
    django_of,
    aiohttp_of,
]
NAMES = ["scope", "starlette connection", "starlette request", "environ", "flask", "django", "aiohttp"]


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_a_context_is_made_of_what_the_headers_say(make: Any, django_site: object) -> None:
    context = RequestContext.from_request(make(HEADERS))
    assert (context.request_id, context.thread_id, context.run_id) == ("r-1", "t-1", "n-1")
    assert (context.user_id, context.session_id) == (None, None)


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_headers_that_are_no_ids_are_passed_over(make: Any, django_site: object) -> None:
    hostile = {"X-Request-ID": "two words", "X-Thread-ID": "undefined", "X-Run-ID": ""}
    context = RequestContext.from_request(make(hostile))
    assert len(context.request_id) == 36
    assert (context.thread_id, context.run_id) == (None, None)


def test_what_is_known_better_is_given() -> None:
    context = RequestContext.from_request(scope_of(HEADERS), user_id="u-1", thread_id="t-2", session_id="s-1")
    assert (context.user_id, context.request_id, context.thread_id) == ("u-1", "r-1", "t-2")
    with pytest.raises(ValueError, match="user_id must be an id, got the placeholder"):
        RequestContext.from_request(scope_of(HEADERS), user_id="None")


@pytest.mark.parametrize("other", [None, 7, "request", {}, {"headers": []}, object(), []])
def test_what_is_no_request_is_refused(other: Any) -> None:
    with pytest.raises(TypeError, match="request must be a request of Starlette"):
        RequestContext.from_request(other)


COOKIE_TEXT = st.text(string.ascii_letters + string.digits + '=;, "\\-_', max_size=12)


@given(st.lists(st.tuples(st.sampled_from(["sid", "xsid", "sidx", "", "a"]), COOKIE_TEXT), max_size=5))
def test_a_cookie_is_the_one_that_starlette_finds(pairs: list[tuple[str, str]]) -> None:
    header = "; ".join(f"{name}={value}" for name, value in pairs)
    found = cookie_parser(header).get("sid", "")
    if '"' not in found and "\\" not in found:
        assert cookie_in(header, "sid") == found


@given(st.text(max_size=30))
def test_a_quoted_cookie_is_read_as_it_was_written(value: str) -> None:
    written = SimpleCookie()
    written["sid"] = value
    found = cookie_in(written["sid"].OutputString(), "sid")
    if value.isascii() and ";" not in value:
        assert found == written["sid"].value


@given(st.text(max_size=200))
def test_a_request_id_is_printable_ascii_or_none(text: str) -> None:
    token = request_token(text)
    assert token in {"", text}
    assert token.isascii()
    assert token.isprintable()
    assert len(token) <= 128
    assert " " not in token
