"""Streams in, committed counts out: exactly once, by each consumer its own share."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from consumers import PARTITIONS, Consumer, Fleet
from redis_server import RedisServer

from session_exporter.core import events as wire
from session_exporter.core.fleet import FleetLedger
from session_exporter.core.shares import partition_of
from session_exporter.core.totals import ScopeTotals
from session_exporter.sidecar.rendering import render
from session_exporter.sidecar.state import State
from session_exporter.stream import keys
from session_exporter.stream.reader import StreamReader

pytestmark = pytest.mark.integration


@pytest.fixture
def fleet(tmp_path: Path, redis: RedisServer) -> Iterator[Fleet]:
    with Fleet(tmp_path, redis) as fleet:
        yield fleet


@pytest.fixture
def consumer(fleet: Fleet) -> Consumer:
    return fleet.consumer()


class Killed(BaseException):
    """The process was killed here."""


def killed_in(consumer: Consumer, owner: type[State | StreamReader], step: str) -> None:
    """Run a cycle that is killed at the beginning of a step."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, die)
        with pytest.raises(Killed):
            consumer.cycle()
    consumer.kill()


def counts(chat: ScopeTotals) -> tuple[int, int, int, int]:
    return chat.creates, chat.reuses, chat.adopted, chat.duplicate_creates


def test_what_was_sent_before_a_cycle_is_committed_and_shown_by_it(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    fleet.created(1, "s2", worker="v")
    fleet.reused(2, "s2")
    snapshot = consumer.cycle()
    assert counts(snapshot.ledger.scopes["chat"]) == (2, 1, 0, 1)
    body = render(snapshot)[0].decode()
    assert 'session_rapid_duplicate_creates_total{cause="cross_replica",scope="chat"} 1.0' in body
    assert "session_exporter_stream_up 1.0" in body
    assert 'session_exporter_stream_lag_seconds{partition="shared"} 0.0' in body
    assert f"session_exporter_stream_partitions {PARTITIONS}.0" in body
    assert "session_exporter_workers" not in body
    assert [incident.detail["cause"] for incident in consumer.alarms] == ["cross_replica"]
    assert len(consumer.incidents()) == 1


def test_ids_are_neither_sent_nor_kept_nor_shown(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "secret-session", "secret-user", request="secret-request")
    fleet.created(1, "secret-other", "secret-user")
    consumer.cycle()
    consumer.stop()
    kept = b"".join(path.read_bytes() for path in consumer.state.iterdir())
    assert b"secret" not in kept
    sent = [fleet.client.xrange(keys.stream(stream)) for stream in (*range(PARTITIONS), keys.SHARED)]
    assert sum(map(len, sent)) >= 2
    assert "secret" not in str(sent)


def test_a_consumer_asks_by_the_plain_id_for_the_incidents_of_a_user(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    fleet.created(1, "s2")
    consumer.cycle()
    names = consumer.engine.names
    assert consumer.incidents(user=names.label("u", names.digest("ann")))
    assert not consumer.incidents(user=names.label("u", names.digest("bob")))


def test_two_consumers_count_together_what_there_is_and_nothing_twice(fleet: Fleet) -> None:
    one, other = fleet.consumer("one", [0, 1]), fleet.consumer("other", [2, 3])
    for number in range(20):
        fleet.created(number, f"s{number}", f"u{number}")
        fleet.reused(number + 0.5, f"s{number}", f"u{number}")
        fleet.tell(wire.Ended, number + 0.7, f"s{number}", "", reason="completed")
    found = [each.chat() for each in (one, other)]
    assert all(chat.creates for chat in found)
    assert [sum(getattr(chat, name) for chat in found) for name in ("creates", "reuses")] == [20, 20]
    assert sum(chat.ends["completed"] for chat in found) == 20


def test_counts_go_on_after_a_restart_with_the_time_when_they_began(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    before = consumer.chat()
    consumer.stop()
    fleet.reused(5, "s1")
    after = consumer.chat()
    assert (after.creates, after.reuses, after.born_us) == (1, 1, before.born_us)
    assert consumer.cycle().exporter.states_lost == 0


@pytest.mark.parametrize(("owner", "step"), [(State, "commit"), (StreamReader, "release")])
def test_a_consumer_that_is_killed_around_its_commit_counts_once(
    fleet: Fleet, consumer: Consumer, owner: type[State | StreamReader], step: str
) -> None:
    fleet.created(0, "s1")
    consumer.cycle()
    fleet.reused(1, "s1")
    fleet.created(2, "s2", "bob")
    killed_in(consumer, owner, step)
    fleet.reused(3, "s2", "bob")
    assert counts(consumer.chat()) == (2, 2, 0, 0)
    assert consumer.cycle().ledger.events["created"] == 2


def test_what_was_committed_but_not_published_is_published_after_the_next_start(
    fleet: Fleet, consumer: Consumer
) -> None:
    fleet.created(0, "s1")
    killed_in(consumer, StreamReader, "release")
    published = [fleet.client.hgetall(keys.committed(partition)) for partition in range(PARTITIONS)]
    assert not any(published)
    consumer.cycle()
    published = [fleet.client.hgetall(keys.committed(partition)) for partition in range(PARTITIONS)]
    assert {position for each in published for position in each.values()} == {b"1:10"}


def test_what_is_sent_again_is_dropped_and_counted_as_such(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    fleet.reused(1, "s1")
    assert consumer.cycle().stream.redelivered_events == 0
    fleet.send_again()
    fleet.reused(2, "s1")
    snapshot = consumer.cycle()
    assert counts(snapshot.ledger.scopes["chat"]) == (1, 2, 0, 0)
    assert snapshot.stream.redelivered_events >= 2
    redelivered = snapshot.stream.redelivered_events
    consumer.kill()
    assert consumer.cycle().stream.redelivered_events >= redelivered


def test_what_a_stream_lost_before_it_was_read_is_counted_as_lost(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    consumer.cycle()
    fleet.reused(1, "s1")
    fleet.reused(2, "s1")
    stream = keys.stream(partition_of(consumer.engine.names.digest("ann"), PARTITIONS))
    for identifier, _ in fleet.client.xrange(stream)[1:]:
        fleet.client.xdel(stream, identifier)
    fleet.reused(3, "s1")
    snapshot = consumer.cycle()
    assert snapshot.exporter.events_lost == {("stream_cut", "unknown"): 2}
    assert 'events_lost_total{kind="unknown",reason="stream_cut"} 2.0' in render(snapshot)[0].decode()
    consumer.kill()
    assert consumer.cycle().exporter.events_lost == {("stream_cut", "unknown"): 2}
    assert consumer.chat().reuses == 1


def test_entries_of_strangers_are_skipped_and_counted(fleet: Fleet, consumer: Consumer) -> None:
    fleet.client.xadd(keys.stream(0), {"other": b"field"})
    fleet.client.xadd(keys.stream(1), {keys.FIELD: msgspec.msgpack.encode([99, "of tomorrow"])})
    fleet.created(0, "s1")
    snapshot = consumer.cycle()
    assert snapshot.stream.entries_skipped == {"malformed": 1, "newer_version": 1}
    assert snapshot.ledger.scopes["chat"].creates == 1


def test_verdicts_wait_for_a_forwarder_that_may_send_something_older(fleet: Fleet, consumer: Consumer) -> None:
    fleet.behind_s = 10
    fleet.announce(10)
    fleet.created(20, "s2", worker="v")
    assert consumer.chat().creates == 0
    fleet.behind_s = 0
    fleet.created(15, "s1", worker="w")
    assert counts(consumer.chat()) == (2, 0, 0, 1)
    (incident,) = consumer.incidents()
    assert incident["gap_ms"] == 5000.0


def test_nothing_more_to_read_is_no_backlog_though_verdicts_wait(fleet: Fleet, consumer: Consumer) -> None:
    fleet.behind_s = 10
    fleet.announce(10)
    fleet.created(20, "s1")
    assert consumer.chat().creates == 0
    assert consumer.engine._intake.reader.behind_us() is not None
    assert not consumer.engine.backlog()


def test_stopping_leaves_what_waits_to_be_judged_in_its_order(fleet: Fleet, consumer: Consumer) -> None:
    fleet.behind_s = 10
    fleet.announce(10)
    fleet.created(20, "s2", worker="v")
    consumer.cycle()
    consumer.stop()
    fleet.behind_s = 0
    fleet.created(19, "s1", worker="w")
    fleet.announce(40)
    assert counts(consumer.chat()) == (2, 0, 0, 1)
    (incident,) = consumer.incidents()
    assert [create["at"] for create in incident["creates"]] == sorted(create["at"] for create in incident["creates"])


def test_stopping_gives_the_partitions_back(fleet: Fleet, consumer: Consumer) -> None:
    consumer.cycle()
    assert fleet.client.get(keys.owner(0))
    consumer.stop()
    assert not fleet.client.get(keys.owner(0))


def test_the_time_is_that_of_redis(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(30, "s1")
    consumer.behind_us = 3_600_000_000
    snapshot = consumer.cycle()
    assert snapshot.ledger.scopes["chat"].creates == 1
    assert snapshot.stream.clock_skew_s == pytest.approx(3600, abs=1)


def test_its_ledger_counts_a_share(consumer: Consumer) -> None:
    consumer.cycle()
    ledger = consumer.engine._progress.ledger
    assert isinstance(ledger, FleetLedger)
    assert (ledger.share.owned, ledger.share.partitions) == (frozenset(range(PARTITIONS)), PARTITIONS)


def test_cycles_with_nothing_new_do_not_write(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    consumer.cycle()
    path = consumer.state / "state.sqlite3-wal"
    before = path.stat().st_size
    snapshots = [consumer.cycle() for _ in range(3)]
    assert path.stat().st_size == before
    assert snapshots[0] is not snapshots[1]
