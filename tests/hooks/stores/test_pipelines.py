"""Pipelines and transactions: every command counts once, when it was carried out."""

import asyncio
import json

import pytest

pytestmark = pytest.mark.integration

VALUE = json.dumps({"user": {"id": "ann"}})
CREATED, FOUND, MISSED = ("created", "a", "ann"), ("found", "a", "ann"), ("missed", "", "")
WRITTEN, ENDED = ("written", "a", "ann"), ("ended", "a", "deleted")


@pytest.fixture(params=[True, False], ids=["transaction", "pipeline"])
def transaction(request):
    return request.param


@pytest.fixture(autouse=True)
def installed(client, install):
    install()


def test_commands_sent_together_are_told_in_their_order(client, told, transaction) -> None:
    client.together(
        *[("get", "session:a"), ("set", "session:a", VALUE), ("get", "other"), ("get", "session:a")],
        *[("expire", "session:a", 60), ("delete", "session:a"), ("delete", "session:a")],
        transaction=transaction,
    )
    assert told() == [MISSED, CREATED, ("again", "a", "ann"), ENDED]


def test_hashes_are_read_in_transactions_as_well(client, told, transaction) -> None:
    client.together(("hset", "session:a", "user", '{"id": "ann"}'), ("hgetall", "session:a"), transaction=transaction)
    assert told() == [WRITTEN, ("again", "a", "ann")]


def test_nothing_is_told_before_a_pipeline_is_executed(client, told) -> None:
    pipeline = client.plain.pipeline()
    pipeline.set("session:a", VALUE)
    assert told() == []
    client._result(pipeline.reset)
    assert told() == []


@pytest.mark.parametrize("raise_on_error", [True, False])
def test_what_went_well_beside_a_command_that_failed_is_told(client, told, transaction, raise_on_error) -> None:
    from redis.exceptions import ResponseError

    client.do("rpush", "list", 1)
    commands = ("set", "session:a", VALUE), ("incr", "list"), ("delete", "session:a")

    def together():
        return client.together(*commands, transaction=transaction, raise_on_error=raise_on_error)

    if raise_on_error:
        with pytest.raises(ResponseError):
            together()
    else:
        replies = together()
        assert (replies[0], type(replies[1]), replies[2]) == (True, ResponseError, 1)
    assert told() == [WRITTEN, ENDED]


def test_a_create_that_failed_in_a_pipeline_is_told(client, told, transaction) -> None:
    client.do("rpush", "session:a", 1)
    commands = ("set", "session:b", VALUE), ("hset", "session:a", "user", "ann")
    client.together(*commands, transaction=transaction, raise_on_error=False)
    assert told() == [("written", "b", "ann"), ("failed", "other", "")]


def test_a_transaction_that_the_server_refuses_makes_nothing(client, told) -> None:
    from redis.exceptions import ResponseError

    with pytest.raises(ResponseError):
        client.together(("set", "session:a", VALUE), ("execute_command", "GET"))
    assert client.do("get", "session:a") is None
    assert told() == [("failed", "other", "ann"), MISSED]


def _write_if_missing(client, meanwhile):
    """Reads under WATCH, lets something happen, and writes: one attempt."""
    pipeline = client.plain.pipeline()
    if client._runner is None:
        with pipeline:
            pipeline.watch("session:a")
            found = pipeline.get("session:a")
            meanwhile()
            pipeline.multi()
            if found is None:
                pipeline.set("session:a", VALUE)
            return pipeline.execute()

    async def attempt():
        async with pipeline:
            await pipeline.watch("session:a")
            found = await pipeline.get("session:a")
            meanwhile()
            pipeline.multi()
            if found is None:
                pipeline.set("session:a", VALUE)
            return await pipeline.execute()

    return client._runner.run(attempt())


def test_a_watched_session_is_looked_up_and_created(client, told) -> None:
    _write_if_missing(client, lambda: None)
    assert told() == [MISSED, CREATED]


def test_a_transaction_that_somebody_prevented_makes_nothing(client, told, redis) -> None:
    from redis import Redis, WatchError

    def meanwhile():
        with Redis.from_url(redis.url) as rival:
            rival.set("session:a", VALUE)

    with pytest.raises(WatchError):
        _write_if_missing(client, meanwhile)
    assert told() == [MISSED, CREATED]  # the rival's
    _write_if_missing(client, lambda: None)
    assert told() == [FOUND]


def test_a_transaction_that_is_tried_again_is_told_as_it_went(client, told) -> None:
    attempts = []

    def write(pipeline):
        attempts.append(pipeline)
        pipeline.multi()
        pipeline.set("session:a", VALUE, nx=True)

    client.do("transaction", write, "session:a")
    assert (len(attempts), told()) == (1, [CREATED])


@pytest.mark.parametrize("client", ["async"], indirect=True)
def test_pipelines_that_run_at_once_are_kept_apart(client, told, transaction) -> None:
    async def one(number):
        pipeline = client.plain.pipeline(transaction=transaction)
        pipeline.set(f"session:{number}", "1", nx=True)
        if number % 2:
            pipeline.hget("session:0", "field")  # of a text: an error
        try:
            await pipeline.execute()
        except Exception as error:  # noqa: BLE001 - compared below
            return type(error).__name__
        return ""

    async def all_at_once():
        await client.plain.set("session:0", "1")
        return await asyncio.gather(*map(one, range(1, 21)))

    assert client._runner.run(all_at_once()) == ["ResponseError", ""] * 10
    assert sorted(told()) == sorted([("written", "0", ""), *(("created", str(n), "") for n in range(1, 21))])
