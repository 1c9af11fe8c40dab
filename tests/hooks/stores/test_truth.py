"""Any commands in any order: what is reported are the creates and ends that the server's own keys tell of."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder import Recorder
from session_stores import tell

from session_exporter import SessionTracker
from session_exporter.hooks.stores import install_stores
from session_exporter.hooks.stores.contents import is_empty
from session_exporter.mappings import StoreMapping

pytestmark = pytest.mark.integration

IDS = ("a", "b", "c")
MAPPING = StoreMapping("session:*", scope="web", user_path="user", empty_is_end=True, reads_first=True)

keys = st.sampled_from([f"session:{each}" for each in IDS])
texts = st.just("session:c")  # never a hash, of which MGET says that it is not there
hashes = st.sampled_from(["session:a", "session:b"])
values = st.sampled_from([json.dumps({"user": "ann"}), json.dumps({"cart": 1}), "{}", "null", "plain"])
options = st.sampled_from([(), ("NX",), ("XX",), ("GET",), ("XX", "GET"), ("NX", "GET"), ("EX", 60), ("KEEPTTL",)])
single = st.one_of(
    st.tuples(st.just("SET"), keys, values, options).map(lambda each: (*each[:3], *each[3])),
    st.tuples(st.sampled_from(["SETNX", "GETSET"]), keys, values),
    st.tuples(st.sampled_from(["SETEX", "PSETEX"]), keys, st.just(60_000), values),
    st.tuples(st.sampled_from(["GET", "EXISTS", "DEL", "UNLINK", "GETDEL", "PERSIST"]), keys),
    st.tuples(st.sampled_from(["EXPIRE", "PEXPIRE"]), keys, st.sampled_from([0, -1, 60_000])),
    st.tuples(st.just("EXPIRE"), keys, st.sampled_from([0, 60]), st.sampled_from(["NX", "XX", "GT", "LT"])),
    st.tuples(st.sampled_from(["HSET", "HMSET", "HSETNX"]), hashes, st.sampled_from(["user", "cart"]), values),
    st.tuples(st.sampled_from(["HGET", "HMGET"]), hashes, st.sampled_from(["user", "cart"])),
    st.tuples(st.sampled_from(["MSET", "MSETNX"]), keys, values, st.just("else"), st.just("1")),
    st.tuples(st.just("HGETALL"), hashes),
    st.tuples(st.just("MGET"), texts, texts),
)
batches = st.tuples(st.sampled_from(["pipeline", "transaction"]), st.lists(single, min_size=1, max_size=4))
steps = st.lists(st.one_of(single.map(lambda each: ("single", [each])), batches), max_size=12)


class Truth:
    """Which sessions there are, as the server says that is not watched for it."""

    def __init__(self, client) -> None:
        self._client = client
        self._living = dict.fromkeys(IDS, False)
        self.changes: list[tuple[str, str]] = []

    def look(self) -> None:
        for each, was in self._living.items():
            key = f"session:{each}".encode()
            kind = self._ask("TYPE", key)
            held = self._ask("GET", key) if kind == b"string" else b"hash"
            self._living[each] = kind != b"none" and not is_empty(held)
            if self._living[each] != was:
                self.changes.append(("ended" if was else "created", each))

    def _ask(self, *command):
        self._client.send_command(*command)
        return self._client.read_response()


def _execute(client, how, commands) -> None:
    from redis.exceptions import ResponseError

    try:
        if how == "single":
            client.execute_command(*commands[0])
            return
        with client.pipeline(transaction=how == "transaction") as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            pipeline.execute()
    except ResponseError:
        """A hash is read as a text, or likewise: the other commands count."""


@given(steps=steps)
def test_creates_and_ends_are_those_of_the_keys(shared_redis, steps) -> None:
    from redis import Redis
    from redis.connection import Connection

    shared_redis.flush()
    recorder, observer = Recorder(), Connection(host=shared_redis.host, port=shared_redis.port)
    client, truth = Redis.from_url(shared_redis.url), Truth(observer)
    uninstall = install_stores([MAPPING], SessionTracker(journal=recorder))
    try:
        for how, commands in steps:
            # What happens within a batch is not to be seen from outside: it is the same as one by one.
            _execute(client, how, commands)
            truth.look()
    finally:
        uninstall()
        client.close()
        observer.disconnect()
    assert not recorder.errors
    reported = [each[:2] for each in map(tell, recorder.events) if each[0] in {"created", "ended"}]
    if all(how == "single" for how, _ in steps):
        assert reported == truth.changes
    for each in IDS:
        own = [kind for kind, session in reported if session == each]
        seen = [kind for kind, session in truth.changes if session == each]
        assert own == ["created", "ended"] * (len(own) // 2) + ["created"] * (len(own) % 2)
        assert (len(own) % 2, len(own) >= len(seen)) == (len(seen) % 2, True)
