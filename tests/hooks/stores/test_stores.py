"""What each command says of a session, for clients of both kinds."""

import json
import time

import pytest
from session_stores import tell

from session_exporter.core.events import LookedUp
from session_exporter.hooks.stores.commands import COMMANDS
from session_exporter.mappings import StoreMapping

pytestmark = pytest.mark.integration

VALUE = json.dumps({"user": {"id": "ann"}, "cart": [1]})
CREATED, FOUND, MISSED = ("created", "a", "ann"), ("found", "a", "ann"), ("missed", "", "")
WRITTEN, ENDED = ("written", "a", "ann"), ("ended", "a", "deleted")


@pytest.fixture
def other(redis):
    """Somebody else's client, which the hook is not told of: what it does happens in another process."""
    from redis.connection import Connection

    connection = Connection(host=redis.host, port=redis.port)

    def do(*command):
        connection.send_command(*command)
        return connection.read_response()

    yield do
    connection.disconnect()


@pytest.fixture(autouse=True)
def installed(client, install):
    install()


def test_a_session_that_was_missed_before_is_created_by_its_write(client, told) -> None:
    client.do("get", "session:a")
    client.do("set", "session:a", VALUE, ex=60)
    assert told() == [MISSED, CREATED]


def test_nobody_can_tell_whether_a_write_of_an_unknown_session_created_it(client, told) -> None:
    client.do("set", "session:a", VALUE)
    assert told() == [WRITTEN]


def test_a_session_that_is_written_back_after_it_was_read_is_no_further_reuse(client, told) -> None:
    client.do("set", "session:a", VALUE)
    told()
    for _ in range(3):
        client.do("get", "session:a")
        client.do("set", "session:a", VALUE)
    assert told() == [FOUND] * 3


def test_a_session_that_another_process_made_is_found(client, told, other) -> None:
    other("SET", "session:a", VALUE)
    client.do("get", "session:a")
    client.do("SETEX", "session:a", 60, VALUE)
    assert told() == [FOUND]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("set", "session:a", VALUE), WRITTEN),
        (("SETEX", "session:a", 60, VALUE), WRITTEN),
        (("PSETEX", "session:a", 60_000, VALUE), WRITTEN),
        (("mset", {"session:a": VALUE, "other": "1"}), WRITTEN),
        (("SETNX", "session:a", VALUE), CREATED),
        (("msetnx", {"session:a": VALUE, "other": "1"}), CREATED),
        (("GETSET", "session:a", VALUE), CREATED),
        (("hset", "session:a", "user", '{"id": "ann"}'), WRITTEN),
        (("hsetnx", "session:a", "user", '{"id": "ann"}'), WRITTEN),
        (("HMSET", "session:a", "user", '{"id": "ann"}', "cart", "[]"), WRITTEN),
        (("execute_command", "set", "session:a", VALUE, "nx"), CREATED),
    ],
    ids=lambda each: each[0] if each[0] != "execute_command" else each[1],
)
def test_a_first_write_is_told_by_every_command_that_writes(client, told, command, expected) -> None:
    client.do(*command)
    assert told() == [expected]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"nx": True}, [CREATED]),
        ({"xx": True}, []),
        ({"get": True}, [CREATED]),
        ({"nx": True, "get": True}, [CREATED]),
        ({"xx": True, "get": True}, []),
    ],
)
def test_the_options_of_set_tell_whether_a_session_is_new(client, told, options, expected) -> None:
    client.do("set", "session:a", VALUE, **options)
    assert told() == expected


@pytest.mark.parametrize("options", [{"nx": True}, {"xx": True}, {"get": True}, {"nx": True, "get": True}])
def test_the_options_of_set_tell_that_a_session_was_there(client, told, other, options) -> None:
    other("SET", "session:a", VALUE)
    client.do("set", "session:a", VALUE, **options)
    assert all(kind == "attributed" for kind, *_ in told())
    client.do("set", "session:a", VALUE)
    assert "created" not in str(told())


def test_a_session_that_is_known_not_to_be_there_is_created_by_the_next_write(client, told) -> None:
    client.do("set", "session:a", VALUE, xx=True)
    client.do("set", "session:a", VALUE)
    assert told() == [CREATED]


@pytest.mark.parametrize(
    "command",
    [
        *[("get", "session:a"), ("getex", "session:a"), ("mget", ["session:a", "else"]), ("exists", "session:a")],
        *[("exists", "session:a", "session:a"), ("execute_command", "get", "session:a")],
    ],
    ids=str,
)
def test_a_lookup_finds_a_session_or_does_not(client, told, other, command) -> None:
    client.do(*command)
    other("SET", "session:a", VALUE)
    client.do(*command)
    missed, found = told()
    assert (missed[0], found[:2]) == ("missed", ("found", "a"))
    assert found[2] == ("" if "exists" in command else "ann")


@pytest.mark.parametrize("command", [("hget", "user"), ("hmget", ["user", "none"]), ("hgetall",)], ids=str)
def test_a_lookup_in_a_hash_finds_a_session_or_does_not(client, told, other, command) -> None:
    name, *fields = command
    client.do(name, "session:a", *fields)
    other("HSET", "session:a", "user", '{"id": "ann"}')
    client.do(name, "session:a", *fields)
    assert told() == [MISSED, FOUND]


def test_a_field_that_is_not_there_is_no_missing_session(client, told, other) -> None:
    other("HSET", "session:a", "user", '{"id": "ann"}')
    client.do("hgetall", "session:a")
    client.do("hget", "session:a", "cart")
    assert told() == [FOUND, ("found", "a", "")]


def test_a_hash_that_gets_no_new_field_was_there(client, told, other) -> None:
    other("HSET", "session:a", "user", '{"id": "ann"}')
    client.do("hset", "session:a", mapping={"user": '{"id": "ann"}'})
    assert told() == [("attributed", "a", "ann")]


@pytest.mark.parametrize("command", ["delete", "unlink", "getdel"])
def test_a_session_ends_once_when_its_key_is_removed(client, told, command) -> None:
    client.do("set", "session:a", VALUE)
    for _ in range(2):
        client.do(command, "session:a")
    assert told() == [WRITTEN, ENDED]


def test_an_expiry_of_nothing_ends_a_session(client, told) -> None:
    client.do("set", "session:a", VALUE)
    client.do("expire", "session:a", 0)
    client.do("set", "session:a", VALUE)
    client.do("pexpire", "session:a", -1)
    assert told() == [WRITTEN, ENDED, CREATED, ENDED]


@pytest.mark.parametrize(("command", "units_per_s"), [("expireat", 1), ("pexpireat", 1000)])
def test_only_an_expiry_in_the_past_ends_a_session(client, told, command, units_per_s) -> None:
    client.do("set", "session:a", VALUE)
    client.do(command, "session:a", (int(time.time()) + 600) * units_per_s)
    client.do(command, "session:a", (int(time.time()) - 600) * units_per_s)
    assert told() == [WRITTEN, ENDED]


def test_a_later_expiry_is_neither_lookup_nor_reuse(client, told) -> None:
    client.do("set", "session:a", VALUE)
    told()
    client.do("expire", "session:a", 60)
    client.do("persist", "session:a")
    client.do("expire", "session:b", 60)
    assert told() == []


def test_several_sessions_end_together_when_all_were_there(client, told) -> None:
    client.do("mset", {"session:a": VALUE, "session:b": VALUE})
    told()
    client.do("delete", "session:a", "session:b", "session:b")
    assert sorted(told()) == [ENDED, ("ended", "b", "deleted")]


def test_it_is_said_once_when_a_reply_does_not_tell_which_sessions_ended(client, told, caplog) -> None:
    caplog.set_level("INFO", "session_exporter")
    client.do("set", "session:a", VALUE)
    told()
    for _ in range(2):
        client.do("delete", "session:a", "session:b")
        client.do("set", "session:a", VALUE)
    assert {kind for kind, *_ in told()} == {"written"}
    assert caplog.text.count("told only how many there were") == 1


@pytest.mark.parametrize("nothing", ["{}", "[]", '""', "null", "", " {} "])
def test_an_empty_value_ends_a_session_once(client, told, nothing) -> None:
    client.do("set", "session:a", VALUE)
    client.do("set", "session:a", nothing)
    client.do("expire", "session:a", 60)
    client.do("set", "session:a", nothing)
    client.do("get", "session:a")
    client.do("exists", "session:a")
    client.do("delete", "session:a")
    assert told() == [WRITTEN, ENDED, MISSED, MISSED]


def test_a_session_is_created_anew_where_an_empty_value_was(client, told, other) -> None:
    other("SET", "session:a", "{}")
    client.do("get", "session:a")
    client.do("set", "session:a", VALUE)
    client.do("set", "session:a", "{}")
    client.do("set", "session:a", VALUE, get=True)
    assert told() == [MISSED, CREATED, ENDED, CREATED]


def test_an_empty_value_that_was_never_a_session_is_none(client, told) -> None:
    client.do("get", "session:a")
    client.do("set", "session:a", "{}")
    client.do("delete", "session:a")
    assert told() == [MISSED]


def test_a_user_who_appears_later_is_attributed(client, told) -> None:
    client.do("get", "session:a")
    client.do("set", "session:a", '{"cart": []}')
    client.do("set", "session:a", VALUE)
    client.do("set", "session:a", VALUE)
    assert told() == [MISSED, ("created", "a", ""), ("attributed", "a", "ann")]


@pytest.mark.parametrize(
    "value",
    [
        *["plain", "{", b"\x80\x04]\x94.", '{"user": null}', '{"user": {"id": ["x"]}}', '{"user": {"id": 1.5}}', "7"],
        "[" * 10_000,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_without_a_user_is_no_failure(client, told, value) -> None:
    client.do("set", "session:a", value)
    assert told() == [("written", "a", "")]


@pytest.mark.parametrize(("written", "user"), [('"ann"', "ann"), ("42", "42"), ('"Zoë"', "Zoë")])
def test_users_are_texts_or_numbers(client, told, written, user) -> None:
    client.do("set", "session:a", f'{{"user": {{"id": {written}}}}}')
    assert told() == [("written", "a", user)]


@pytest.mark.parametrize("key", [b"session:a", memoryview(b"session:a")], ids=["bytes", "memoryview"])
def test_a_key_may_be_bytes(client, told, key) -> None:
    client.do("set", key, VALUE)
    client.do("delete", key)
    assert told() == [WRITTEN, ENDED]


def test_keys_of_anything_else_are_let_through(client, told) -> None:
    for key in ("session:", "sessions:a", "xsession:a", 7, 1.5, b"\xff"):
        client.do("set", key, VALUE)
        client.do("get", key)
        client.do("delete", key)
    client.do("incr", "session:count")
    client.do("lpush", "session:list", 1)
    assert told() == []


def test_only_the_star_of_a_pattern_stands_for_anything(client, told, install) -> None:
    install(StoreMapping("app?[1].*:data", scope="web"))
    client.do("SETNX", "app?[1].a:data", "1")
    client.do("SETNX", "appX1.a:data", "1")
    client.do("SETNX", "app?[1].:data", "1")
    assert told() == [("created", "a", "")]


def test_the_first_pattern_that_fits_is_the_keys_own(client, told, install) -> None:
    install(StoreMapping("other:web:*", scope="web"), StoreMapping("other:*", scope="web"))
    client.do("SETNX", "other:web:a", "1")
    client.do("SETNX", "other:b", "1")
    assert told() == [("created", "a", ""), ("created", "b", "")]


def test_where_sessions_are_read_first_a_write_of_an_unread_one_is_a_create(client, told, install, other) -> None:
    install(StoreMapping("read:*", scope="web", reads_first=True))
    client.do("set", "read:a", "1")
    client.do("set", "read:a", "2")
    other("SET", "read:b", "1")
    client.do("get", "read:b")
    client.do("set", "read:b", "2")
    assert told() == [("created", "a", ""), ("found", "b", "")]


def test_a_user_of_the_request_stands_in_for_one_that_the_value_does_not_tell(client, told, tracker) -> None:
    with tracker.request(user_id="bob"):
        client.do("get", "session:b")
        client.do("set", "session:b", "plain")
        client.do("get", "session:a")
        client.do("set", "session:a", VALUE)
    assert told() == [("missed", "", "bob"), ("created", "b", "bob"), ("missed", "", "bob"), CREATED]


def test_events_carry_the_request_the_place_in_the_code_and_how_long_it_took(client, recorder, tracker) -> None:
    with tracker.request(request_id="r1"):
        client.do("get", "session:a")
        client.do("set", "session:a", VALUE)
    lookup, create = recorder.events
    assert isinstance(lookup, LookedUp)
    assert lookup.duration_us > 0
    assert (lookup.request, create.request) == ("r1", "r1")
    assert all("stores/conftest.py:" in str(event.sites) for event in recorder.events)


def test_a_refused_write_of_a_new_session_is_a_failed_create(client, told) -> None:
    from redis.exceptions import ResponseError

    client.do("get", "session:a")
    with pytest.raises(ResponseError, match="syntax error"):
        client.do("execute_command", "SET", "session:a", VALUE, "KEEPTTL", "EX", 5)
    assert told() == [MISSED, ("failed", "other", "ann")]
    client.do("set", "session:a", VALUE)
    with pytest.raises(ResponseError):
        client.do("execute_command", "SET", "session:a", VALUE, "KEEPTTL", "EX", 5)
    with pytest.raises(ResponseError):
        client.do("execute_command", "GET", "session:a", "b")
    assert told() == [CREATED]


def test_commands_are_known_in_capitals_and_small() -> None:
    assert {name.upper() for name in COMMANDS} == {name for name in COMMANDS if name.isupper()}
    assert all(command.written is not None for name, command in COMMANDS.items() if "SET" in name)


def test_what_is_told_in_short_is_told_in_full(client, recorder) -> None:
    client.do("SETNX", "session:a", VALUE)
    assert [tell(event) for event in recorder.events] == [CREATED]
    assert recorder.hooks == {"redis": True}
