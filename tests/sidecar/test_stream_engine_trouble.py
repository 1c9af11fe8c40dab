"""What a consumer does without its Redis, its volume or its partitions; and what it refuses."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from consumers import PARTITIONS, Consumer, Fleet
from redis_server import RedisServer
from sidecar_process import until
from sidecars import Sidecar, tampered

from session_exporter.config import PrivacySettings, StreamSettings
from session_exporter.core import events as wire
from session_exporter.errors import (
    ConfigError,
    PartitionTaken,
    StateError,
    StateIncompatible,
    StreamRefused,
    StreamUnavailable,
)
from session_exporter.sidecar.summary import read_summary
from session_exporter.stream import keys
from session_exporter.stream.reader import StreamReader

pytestmark = pytest.mark.integration
GUIDE = Path(__file__).parents[2] / "docs/howto/run-a-fleet.md"


@pytest.fixture
def fleet(tmp_path: Path, redis: RedisServer) -> Iterator[Fleet]:
    with Fleet(tmp_path, redis) as fleet:
        yield fleet


@pytest.fixture
def consumer(fleet: Fleet) -> Consumer:
    return fleet.consumer()


@pytest.fixture
def mortal(tmp_path: Path, require_server: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """A fleet whose Redis may be killed; nobody waits long for it."""
    monkeypatch.setitem(StreamReader.__init__.__kwdefaults__, "start_s", 0.2)
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(require_server("redis-server"), keeps=True))
        yield stack.enter_context(Fleet(tmp_path, server))


# A lost volume.


def test_a_lost_volume_starts_new_counters_and_counts_only_what_its_predecessor_did_not(fleet: Fleet) -> None:
    before = fleet.consumer("before")
    fleet.created(0, "s1")
    fleet.created(1, "s2", "bob")
    born_us = before.chat().born_us
    before.kill()
    fleet.client.delete(*map(keys.owner, range(PARTITIONS)))
    fleet.reused(2, "s1")
    fleet.created(3, "s3", "eve")

    after = fleet.consumer("after")
    snapshot = after.cycle()
    chat = snapshot.ledger.scopes["chat"]
    assert (chat.creates, chat.reuses, chat.adopted, chat.active_sessions) == (1, 1, 0, 3)
    assert chat.born_us > born_us
    assert snapshot.exporter.states_lost == 1
    assert after.cycle().ledger.events["created"] == 1
    after.stop()
    assert after.cycle().exporter.states_lost == 1


def test_a_lost_volume_alarms_nobody_of_what_its_predecessor_has_found(fleet: Fleet) -> None:
    before = fleet.consumer("before")
    fleet.created(0, "s1")
    fleet.created(1, "s2")
    assert before.chat().duplicate_creates == 1
    before.stop()
    after = fleet.consumer("after")
    assert after.chat().duplicate_creates == 0
    assert (after.alarms, after.incidents()) == ([], [])
    assert sum(read_summary(after.state, since_s=3600, scope=None, now_us=fleet.at(90))["minutes"]) == 0


def test_a_new_consumer_of_partitions_that_nobody_had_has_lost_nothing(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    snapshot = consumer.cycle()
    assert (snapshot.exporter.states_lost, snapshot.ledger.scopes["chat"].creates) == (0, 1)


# Whose state it is.


@pytest.mark.parametrize(("owned", "theirs"), [([0, 1], "0-1"), ([1, 3], "1,3"), (None, "0-3")])
def test_a_state_of_other_partitions_is_refused_and_both_are_named(
    fleet: Fleet, owned: list[int] | None, theirs: str
) -> None:
    consumer = fleet.consumer("consumer", owned)
    consumer.cycle()
    consumer.stop()
    other = fleet.consumer("consumer", [2])
    with pytest.raises(StateIncompatible) as caught:
        other.cycle()
    assert str(caught.value) == (
        f"{other.state}: a state of the partitions {theirs} of 4; expected one of the partitions 2 of 4: "
        "start with --source and --stream.partitions as before, or with another --state.directory"
    )


def test_a_reload_that_changes_the_number_of_partitions_is_refused(fleet: Fleet) -> None:
    consumer = fleet.consumer("consumer", [1])
    fleet.created(0, "s1")
    consumer.cycle()
    more = replace(consumer.config, stream=replace(consumer.config.stream, partitions=8))
    with pytest.raises(StateIncompatible, match="partitions 1 of 4; expected one of the partitions 1 of 8"):
        consumer.engine.reload(more)
    assert consumer.cycle().stream.up


def test_a_state_of_a_journal_is_refused_by_a_consumer_and_the_reverse(fleet: Fleet, tmp_path: Path) -> None:
    sidecar = Sidecar(tmp_path)
    sidecar.cycle(0)
    sidecar.stop()
    with pytest.raises(StateIncompatible, match=r"a state of the journal; expected one of the partitions 0-3 of 4"):
        fleet.consumer("state").cycle()
    consumer = fleet.consumer("streamed")
    consumer.cycle()
    consumer.stop()
    sidecar.state = consumer.state
    with pytest.raises(StateIncompatible, match="a state of the partitions 0-3 of 4; expected one of the journal"):
        sidecar.cycle(0)
    sidecar.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"privacy": PrivacySettings()}, "privacy.key_file: not set; expected a file"),
        ({"privacy": PrivacySettings(show_ids=True, key_file=Path("/x"))}, "privacy.show_ids: true; expected false"),
        ({"stream": StreamSettings()}, "stream.url: not set; expected a URL, or stream.url_file"),
        ({"stream": StreamSettings("http://:hunter2@x")}, "stream.url: expected a URL that begins with redis://"),
        ({"stream": StreamSettings("redis://:${SECRET}@x")}, "stream.url: the environment has no variable SECRET"),
        (
            {"stream": StreamSettings("redis://x", partitions=2)},
            r"--stream.partitions: 2-3; expected numbers from 0 to 1: stream.partitions says that there are 2",
        ),
    ],
)
def test_a_configuration_that_will_not_do_is_refused_before_anything_is_made(
    fleet: Fleet, change: dict[str, object], message: str
) -> None:
    consumer = fleet.consumer("consumer", range(PARTITIONS), **change)
    with pytest.raises(ConfigError, match=message) as caught:
        consumer.cycle()
    assert "hunter2" not in str(caught.value)
    assert not consumer.state.exists()


def test_a_reload_under_which_ids_would_be_shown_is_refused(fleet: Fleet, consumer: Consumer) -> None:
    consumer.cycle()
    with pytest.raises(ConfigError, match=r"privacy\.show_ids"):
        consumer.engine.reload(replace(consumer.config, privacy=replace(consumer.config.privacy, show_ids=True)))
    assert consumer.cycle().stream.up


def test_a_reload_with_a_redis_that_refuses_leaves_the_one_before(
    fleet: Fleet, consumer: Consumer, require_server: Callable[[str], str]
) -> None:
    fleet.created(0, "s1")
    consumer.cycle()
    with RedisServer(require_server("redis-server"), password="hunter2") as locked:
        elsewhere = replace(consumer.config.stream, url=f"redis://{locked.host}:{locked.port}")
        with pytest.raises(StreamRefused):
            consumer.engine.reload(replace(consumer.config, stream=elsewhere))
    fleet.reused(1, "s1")
    assert consumer.chat().reuses == 1


def test_a_reload_with_a_new_scope_keeps_counts_and_partitions(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    consumer.cycle()
    rules = {**consumer.config.scopes, "desk": replace(consumer.config.scopes["chat"], name="desk")}
    consumer.engine.reload(replace(consumer.config, scopes=rules))
    fleet.tell(wire.Created, 1, "d1", "ann", scope="desk")
    scopes = consumer.cycle().ledger.scopes
    assert (scopes["chat"].creates, scopes["desk"].creates) == (1, 1)


# A disk that is full.


def test_what_could_not_be_committed_is_counted_once_when_it_can_be(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    consumer.cycle()
    fleet.reused(1, "s1")
    trigger = "CREATE TRIGGER full_disk BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    place = Sidecar(consumer.state.parent)
    place.state = consumer.state
    with tampered(place, trigger) as other:
        for _ in range(2):
            with pytest.raises(StateError, match="disk full"):
                consumer.cycle()
        assert fleet.client.get(keys.owner(0)), "a partition is given back for the sake of a disk"
        other.execute("DROP TRIGGER full_disk")
    assert consumer.chat().reuses == 1


# Redis away.


def test_a_consumer_without_redis_shows_what_it_has_committed(mortal: Fleet) -> None:
    consumer = mortal.consumer()
    mortal.created(0, "s1")
    consumer.cycle()
    mortal.server.kill()
    for _ in range(3):
        snapshot = consumer.cycle()
        assert (snapshot.ledger.scopes["chat"].creates, snapshot.stream.up) == (1, False)
    mortal.server.restart()
    mortal.reused(1, "s1")
    until(lambda: consumer.chat().reuses == 1, "it reads again")
    assert consumer.cycle().stream.up


def test_a_consumer_that_starts_without_redis_shows_what_it_has_committed_and_judges_nothing(mortal: Fleet) -> None:
    consumer = mortal.consumer()
    mortal.behind_s = 10
    mortal.announce(10)
    mortal.created(0, "s1")
    mortal.created(20, "s2")
    assert consumer.chat().creates == 1
    consumer.stop()
    mortal.server.kill()
    for _ in range(3):
        snapshot = consumer.cycle()
        assert (snapshot.ledger.scopes["chat"].creates, snapshot.stream.up) == (1, False)
    mortal.server.restart()
    mortal.behind_s = 0
    mortal.announce(40)
    mortal.reused(21, "s2")
    until(lambda: consumer.chat().creates == 2, "it judges again")


def test_a_consumer_that_never_committed_waits_for_redis_to_tell_whether_somebody_did(mortal: Fleet) -> None:
    before = mortal.consumer("before")
    mortal.created(0, "s1")
    before.cycle()
    before.stop()
    mortal.server.kill()
    after = mortal.consumer("after")
    for _ in range(2):
        with pytest.raises(StreamUnavailable):
            after.cycle()
    assert after.engine.snapshot is None
    mortal.server.restart()
    assert (after.chat().creates, after.cycle().exporter.states_lost) == (0, 1)


# Another owner.


def test_the_permissions_that_the_guide_gives_a_consumer_are_enough(fleet: Fleet) -> None:
    rules = next(line.split() for line in GUIDE.read_text().splitlines() if line.startswith("user consumer "))
    fleet.client.execute_command("ACL", "SETUSER", "consumer", "on", ">sesame", *rules[4:])
    fleet.client.acl_log_reset()
    try:
        url = fleet.server.url.replace("//", "//consumer:sesame@")
        settings = StreamSettings(url, partitions=PARTITIONS)
        before, after = (fleet.consumer(name, stream=settings) for name in ("before", "after"))
        fleet.created(0, "s1")
        assert before.chat().creates == 1
        before.stop()
        fleet.created(20, "s2")
        assert (after.chat().creates, after.cycle().exporter.states_lost) == (1, 1)
        after.stop()
        refused = {entry["object"] for entry in fleet.client.acl_log()}
        assert refused <= {"info"}, refused
    finally:
        fleet.client.acl_deluser("consumer")


def take_over(fleet: Fleet, partition: int = 2) -> None:
    fleet.client.set(keys.owner(partition), "99:0123456789abcdef:the-other", px=60_000)


def test_a_consumer_whose_partition_another_one_takes_shows_nothing_any_more(fleet: Fleet, consumer: Consumer) -> None:
    fleet.created(0, "s1")
    consumer.cycle()
    take_over(fleet)

    def lose() -> bool:
        fleet.reused(1, "s1")
        try:
            consumer.cycle()
        except PartitionTaken as error:
            message = str(error)
            assert "partition 2 is owned by the-other (state 0123456789abcdef)" in message
            assert "consumer" in message
            return True
        return False

    until(lose, "it finds out")
    assert consumer.engine.snapshot is None
    with pytest.raises(PartitionTaken):
        consumer.cycle()
    consumer.stop()
    assert fleet.client.get(keys.owner(2)) == b"99:0123456789abcdef:the-other"


def test_a_partition_that_another_one_owns_is_refused_at_the_start(
    fleet: Fleet, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(fleet)
    with pytest.raises(PartitionTaken, match="partition 2 is owned by the-other"):
        consumer.cycle()
    assert not [name for name in fleet.client.keys(f"{keys.PREFIX}:*:owner") if b"{2}" not in name]


def test_what_is_no_stream_is_refused_at_the_start_and_partitions_are_given_back(
    fleet: Fleet, consumer: Consumer
) -> None:
    fleet.client.set(keys.stream(1), "a stranger's")
    with pytest.raises(StreamRefused, match=r"session-exporter:\{1\} is a string; expected a stream, or nothing"):
        consumer.cycle()
    assert not fleet.client.keys(f"{keys.PREFIX}:*:owner")


def test_a_consumer_takes_its_own_lease_over_at_once(fleet: Fleet, consumer: Consumer) -> None:
    consumer.cycle()
    consumer.kill()
    assert fleet.client.get(keys.owner(0))
    assert consumer.cycle().stream.up


# For people.


def test_the_summary_says_where_the_events_come_from(fleet: Fleet, consumer: Consumer) -> None:
    consumer.cycle()
    said = read_summary(consumer.state, since_s=3600, scope=None, now_us=fleet.at(60))["exporter"]
    place = f"partitions 0-3 of 4 in Redis at {fleet.server.host}:{fleet.server.port}"
    assert (said["source"], said["journal_directory"]) == (place, "")
    expected = "expected session-exporter forward beside the application"
    assert said["hint"] == f"nothing has been counted yet: no forwarder has sent anything to {place}; {expected}"
    fleet.created(0, "s1")
    consumer.cycle()
    assert read_summary(consumer.state, since_s=3600, scope=None, now_us=fleet.at(60))["exporter"]["hint"] == ""


def seen(fleet: Fleet, consumer: Consumer) -> dict[str, Any]:
    return read_summary(consumer.state, since_s=3600, scope=None, now_us=fleet.at(60), sight=consumer.engine.sight())


def test_nothing_is_called_healthy_while_redis_is_away_and_what_is_wrong_stays_wrong(mortal: Fleet) -> None:
    consumer = mortal.consumer()
    cut_off = "this consumer cannot reach the stream: events wait to be counted"
    for second in range(20):
        mortal.reused(second, "s1")
    consumer.cycle()
    well = seen(mortal, consumer)
    assert (well["healthy"], cut_off in well["exporter"]["notes"]) == (True, False)
    mortal.server.kill()
    consumer.cycle()
    doubtful = seen(mortal, consumer)
    assert (doubtful["healthy"], doubtful["total"]["reuses"], doubtful["exporter"]["hint"]) == (None, 20, "")
    assert doubtful["exporter"]["notes"][0] == cut_off
    mortal.server.restart()
    until(lambda: consumer.cycle().stream.up, "it is connected again")
    assert seen(mortal, consumer)["healthy"] is True
    mortal.created(30, "s2", user="bob")
    mortal.created(31, "s3", user="bob")
    consumer.cycle()
    mortal.server.kill()
    consumer.cycle()
    wrong = seen(mortal, consumer)
    assert (wrong["healthy"], wrong["exporter"]["notes"][0]) == (False, cut_off)


def test_a_consumer_that_has_never_seen_its_redis_says_so(mortal: Fleet) -> None:
    mortal.server.kill()
    consumer = mortal.consumer()
    exporter = seen(mortal, consumer)["exporter"]
    place = f"partitions 0-3 of 4 in Redis at {mortal.server.host}:{mortal.server.port}"
    assert exporter["hint"] == f"nothing has been counted yet: {place} cannot be reached"
    assert (exporter["source"], exporter["journal_directory"]) == (place, "")
    without_it = read_summary(consumer.state, since_s=3600, scope=None, now_us=mortal.at(60))["exporter"]
    assert (without_it["hint"], without_it["notes"]) == ("nothing has been counted yet", [])
