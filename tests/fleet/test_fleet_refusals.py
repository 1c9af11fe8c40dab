"""What a fleet is given that is wrong: it says so, refuses or skips it, and counts everything else."""

import msgspec
import pytest
from fleet_processes import Consumer, Forwarder, fleet_of
from redis_server import RedisServer
from sidecar_process import run, until

from session_exporter.stream import keys
from session_exporter.stream.entries import VERSION
from session_exporter.tracker import SessionTracker

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.integration]

MAIN = "session_exporter"
PASSWORD = "open-sesame"
SKIPPED = "session_exporter_stream_entries_skipped_total"
CONFIG = "lateness: 200ms\n"


@pytest.fixture
def fleet(tmp_path, require_server):
    with fleet_of(tmp_path, require_server("redis-server"), CONFIG, replicas=1, consumers=1) as made:
        yield made


@pytest.fixture
def locked(require_server):
    """A Redis that asks for a password."""
    with RedisServer(require_server("redis-server"), password=PASSWORD) as server:
        yield server


def refused(process, **environment):
    """What a process of the fleet says that ends by itself, at once."""
    done = run(MAIN, *process.command_line(), **environment)
    assert done.returncode == 2, done.stderr
    assert PASSWORD not in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def with_config(process, text):
    process.config_file.write_text(text, encoding="utf-8")
    return process


def both(fleet):
    return [*fleet.forwarders, *fleet.consumers]


@pytest.fixture
def client(fleet):
    made = pytest.importorskip("redis").Redis.from_url(fleet.redis.url)
    yield made
    made.close()


@pytest.mark.parametrize("said", ["", ":not-the-password@"], ids=["no password", "another password"])
def test_who_does_not_know_the_password_is_told_who_refuses(fleet, locked, said) -> None:
    theirs = fleet.redis.url
    for process in both(fleet):
        url = f"redis://{said}{locked.host}:{locked.port}/0"
        with_config(process, process.config_file.read_text().replace(theirs, url))
        message = refused(process)
        assert f"Redis at {locked.host}:{locked.port} refuses" in message
        assert "not-the-password" not in message


def test_the_password_of_the_environment_lets_everybody_in(fleet, locked) -> None:
    url = f"redis://:${{SECRET}}@{locked.host}:{locked.port}/0"
    for process in both(fleet):
        with_config(process, process.config_file.read_text().replace(fleet.redis.url, url))
        process.variables = {"SECRET": PASSWORD}
    fleet.start()
    with_tracker(fleet, lambda tracker: tracker.created("somebody", "a session"))
    fleet.consumers[0].scrape_until(lambda scrape: scrape.total("session_creates_total") == 1, "the create")
    assert all(PASSWORD not in process.log for process in both(fleet))


def test_tls_is_spoken_where_it_is_asked_for(fleet, require_server) -> None:
    require_server("openssl")
    with RedisServer(require_server("redis-server"), tls=True) as secured:
        url = f"{secured.url}?ssl_ca_certs={secured.ca_file}"
        for process in both(fleet):
            with_config(process, process.config_file.read_text().replace(fleet.redis.url, url))
        fleet.start()
        with_tracker(fleet, lambda tracker: tracker.created("somebody", "a session"))
        fleet.consumers[0].scrape_until(lambda scrape: scrape.total("session_creates_total") == 1, "the create")
        for process in both(fleet):
            process.kill()


def test_who_speaks_no_tls_where_it_is_asked_for_waits_and_says_for_what(fleet, require_server) -> None:
    require_server("openssl")
    with RedisServer(require_server("redis-server"), tls=True) as secured:
        for process in both(fleet):
            plain = secured.url.replace("rediss", "redis")
            with_config(process, process.config_file.read_text().replace(fleet.redis.url, plain))
            process.start()
            process.until_logged(rf"level=(warning|error) .*Redis at {secured.host}:{secured.port}")
            process.kill()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("partitions: 16", "partitions: 8"), "the fleet has 16 partitions; stream.partitions says 8"),
        (("/key", "/another-key"), "the fleet's ids are digests under another key"),
    ],
    ids=["other partitions", "another key"],
)
def test_who_is_of_another_fleet_is_refused(fleet, tmp_path, change, message) -> None:
    fleet.start()
    (tmp_path / "another-key").write_bytes(b"the key of another fleet")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    for kind in (Forwarder, Consumer):
        assert message in refused(kind(stranger, fleet.config().replace(*change), arguments=own_arguments(kind)))


def own_arguments(kind):
    return ["--stream.partitions=0"] if kind is Consumer else []


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("stream.url", "privacy: {key_file: KEY}\n"),
        ("privacy.key_file", "stream: {url: 'redis://127.0.0.1:1/0'}\n"),
        ("privacy.show_ids", "stream: {url: 'redis://127.0.0.1:1/0'}\nprivacy: {key_file: KEY, show_ids: true}\n"),
    ],
)
def test_what_the_configuration_lacks_is_named(fleet, tmp_path, key, text) -> None:
    home = tmp_path / "lacking"
    home.mkdir()
    for kind in (Forwarder, Consumer):
        process = kind(home, text.replace("KEY", str(fleet.key_file)), arguments=own_arguments(kind))
        assert key in refused(process)


def test_a_second_owner_of_a_partition_is_refused_and_both_are_named(fleet, tmp_path) -> None:
    fleet.start()
    home = tmp_path / "second"
    home.mkdir()
    second = Consumer(home, fleet.config("replica: the-second\n"), arguments=["--stream.partitions=3"])
    message = refused(second)
    assert "consumer-0" in message
    assert "the-second" in message
    assert fleet.consumers[0].answer() is not None


def test_what_a_stranger_writes_into_a_stream_is_counted_and_skipped(fleet, client) -> None:
    fleet.start()
    newer = msgspec.msgpack.encode([VERSION + 1, "of tomorrow"])
    malformed = [
        {"another field": b"hello"},
        {keys.FIELD: b"no MessagePack at all \xc1"},
        {keys.FIELD: msgspec.msgpack.encode([VERSION, "too short"])},
        {keys.FIELD: b"\x91" * 60_000},
        {keys.FIELD: msgspec.msgpack.encode([VERSION, "x", ["w" * 200, "", 0], 1, [], []])},
    ]
    for partition in (0, 7, keys.SHARED):
        for entry in [*malformed, {keys.FIELD: newer}, {keys.FIELD: newer}]:
            client.xadd(keys.stream(partition), entry)
    with_tracker(fleet, lambda tracker: [tracker.created(f"user {n}", f"session {n}") for n in range(100)])
    client.hset(keys.FORWARDERS, "a stranger", b"who is no forwarder")

    consumer = fleet.consumers[0]
    consumer.scrape_until(lambda scrape: scrape.total("session_creates_total") == 100, "what is good")
    found = consumer.scrape()
    assert found.value(SKIPPED, reason="malformed") == 3 * len(malformed)
    assert found.value(SKIPPED, reason="newer_version") == 3 * 2
    assert consumer.stop() == 0
    again = consumer.start().scrape()
    assert again.regressions(found) == []
    assert again.total(SKIPPED) == found.total(SKIPPED)


def test_a_key_of_somebody_elses_in_place_of_a_stream_is_named(fleet, client) -> None:
    client.set(keys.stream(5), "not a stream")
    for process in both(fleet):
        assert keys.stream(5) in refused(process)


def with_tracker(fleet, act) -> None:
    tracker = SessionTracker(fleet.journals[0])
    act(tracker)
    tracker.close()


def test_forwarders_that_cannot_reach_redis_start_and_answer_scrapes(fleet) -> None:
    fleet.redis.kill()
    forwarder = fleet.forwarders[0].start()
    with_tracker(fleet, lambda tracker: tracker.created("somebody", "a session"))
    waiting = forwarder.scrape_until(lambda scrape: scrape.total("session_exporter_journal_bytes") > 0, "what waits")
    assert waiting.value("session_exporter_stream_up") == 0
    fleet.redis.restart()
    until(lambda: forwarder.scrape().value("session_exporter_stream_up") == 1, "Redis is back")
    fleet.start()
    fleet.consumers[0].scrape_until(lambda scrape: scrape.total("session_creates_total") == 1, "the create")
