"""The URL of a Redis, whose password may be of any characters and is shown nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_server import RedisServer

from session_exporter.config import StreamSettings
from session_exporter.errors import ConfigError, StreamRefused
from session_exporter.stream.server import StreamServer, stream_url

AWKWARD = ("p@hunter2/x", "abc/def+gh=", "abc#def", "abc?x=1", "sec[ret", "50%20off", "a:b//c", "$HOME ${X}")


def password_of(settings, environ):
    return StreamServer(settings, environ=environ).client.connection_pool.connection_kwargs["password"]


@pytest.mark.parametrize("password", AWKWARD)
def test_a_variable_stands_for_a_password_as_it_is(password) -> None:
    settings = StreamSettings(url="redis://me:${PASSWORD}@localhost:6379/0")
    assert password_of(settings, {"PASSWORD": password}) == password


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_password_arrives(password) -> None:
    assert password_of(StreamSettings(url="redis://:${PASSWORD}@localhost"), {"PASSWORD": password}) == password


@pytest.mark.parametrize("password", AWKWARD[:5])
def test_a_url_that_is_a_variable_is_refused_when_it_is_cut_by_its_password(password) -> None:
    url = f"redis://:{password}@localhost:6379"
    with pytest.raises(ConfigError, match="not a URL; expected redis://user:password@host") as refused:
        stream_url(StreamSettings(url="${URL}"), {"URL": url})
    assert not any(part in str(refused.value) for part in ("hunter2", "abc", "def", "sec["))


def test_variables_elsewhere_are_parts_of_the_url() -> None:
    environ = {"PLACE": "[::1]:6400", "NUMBER": "3", "URL": "redis://:p%40ss@localhost"}
    assert stream_url(StreamSettings(url="redis://${PLACE}/${NUMBER}"), environ) == "redis://[::1]:6400/3"
    assert password_of(StreamSettings(url="${URL}"), environ) == "p@ss"


@pytest.mark.parametrize("url", ["redis://localhost:port", "redis://localhost/first", "redis://localhost/0#there"])
def test_what_is_no_url_is_refused_before_anybody_is_asked(url) -> None:
    with pytest.raises(ConfigError, match="not a URL"):
        stream_url(StreamSettings(url=url), {})


def test_a_database_that_redis_does_not_have_is_no_reason_to_wait(redis: RedisServer) -> None:
    server = StreamServer(StreamSettings(url=f"{redis.url.rpartition('/')[0]}/99"), environ={})
    with pytest.raises(StreamRefused, match="DB index is out of range"):
        server.connect()
