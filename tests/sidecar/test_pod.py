"""What a forwarder keeps of its pod: the workers' counts, over restarts, and until they have been saved."""

import secrets
from pathlib import Path

import msgspec
import pytest
from stations import SMALL, Consumer, fields

from session_exporter.config import Config, PrivacySettings, StreamSettings
from session_exporter.core import events as wire
from session_exporter.core.scopes import Limits
from session_exporter.errors import ConfigError, StateError, StateIncompatible, StateLocked, StreamRefused
from session_exporter.journal import JournalWriter
from session_exporter.sidecar.pod import Pod
from session_exporter.sidecar.podstate import PodFile
from session_exporter.sidecar.schema import POD_FILE_NAME
from session_exporter.sidecar.state import State
from session_exporter.sidecar.workers import Reloads

pytestmark = pytest.mark.integration
PARTITIONS = 3


class Place:
    """A pod's directories, and who works in them."""

    def __init__(self, home: Path, url: str) -> None:
        self.journal, self.state, self.key = home / "journal", home / "state", home / "key"
        self.key.write_bytes(secrets.token_bytes(32))
        self.url = url
        self.pod: Pod | None = None
        self._writers: list[JournalWriter] = []

    def config(self, **stream: object) -> Config:
        return Config(
            privacy=PrivacySettings(key_file=self.key),
            stream=StreamSettings(self.url, partitions=PARTITIONS, **stream),
        )

    def start(self) -> Pod:
        self.pod = Pod(self.config(), self.journal, self.state, reloads=Reloads(0.0))
        return self.pod

    def kill(self) -> None:
        """Let go of it as the kernel does."""
        if self.pod is not None:
            self.pod._forwarder._server.close()
            self.pod._release_all()
            self.pod = None

    def worker(self, events: int = 0, lost: int = 0) -> JournalWriter:
        """A new worker, that has recorded some events and lost others."""
        writer = JournalWriter(self.journal, replica="pod", limits=SMALL)
        writer.open()
        self._writers.append(writer)
        for number in range(events):
            writer.append(fields(wire.Reused(number + 1, "chat", f"s{number}", f"u{number}")))
        for _ in range(lost):
            writer.append((1, 1, object()))
        return writer

    def close(self) -> None:
        self.kill()
        for writer in self._writers:
            writer.close()


@pytest.fixture
def place(tmp_path, redis):
    made = Place(tmp_path, redis.url)
    yield made
    made.close()


def lost(pod):
    return sum(pod.cycle(60.0).exporter.events_lost.values())


def test_counts_survive_and_the_workers_are_counted_once(place, redis):
    place.worker(events=10, lost=2)
    dead = place.worker(events=5, lost=3)
    dead.close()
    assert lost(place.start()) == 5
    assert place.pod.snapshot.exporter.workers == 1
    assert place.pod.snapshot.forward.forwarded_events == 15
    born_us = place.pod.snapshot.exporter.born_us
    place.pod.close(leaving=True)
    place.pod = None
    with Consumer(redis) as consumer:
        assert consumer.presences() == {}
        consumer.read().commit()
    place.start()
    snapshot = place.pod.cycle(60.0)
    assert lost(place.pod) == 5
    assert snapshot.forward.forwarded_events == 15
    # Only whose the sessions are may be said again.
    assert snapshot.forward.resent_events <= 5
    assert snapshot.exporter.born_us == born_us


def test_the_last_words_of_a_worker_are_saved_before_they_are_deleted(place, redis):
    place.worker(events=5, lost=3).close()
    place.start()
    with Consumer(redis) as consumer:
        place.pod.cycle(60.0)
        consumer.read().commit()
    place.pod._forwarder._look_at_s = 0.0
    place.pod.cycle(60.0)
    assert [path.name for path in place.journal.glob("[!.]*")] == []
    # Whoever follows knows them from the file alone.
    place.kill()
    assert lost(place.start()) == 3


def test_while_they_cannot_be_saved_they_stay(place, redis):
    place.worker(events=5, lost=3).close()
    place.start()
    with Consumer(redis) as consumer:
        place.pod.cycle(60.0)
        consumer.read().commit()
    (place.state / POD_FILE_NAME).unlink()
    (place.state / POD_FILE_NAME).mkdir()
    place.worker(lost=1)
    place.pod._forwarder._look_at_s = 0.0
    assert lost(place.pod) == 4
    assert len(list(place.journal.glob("*.ctl"))) == 2
    (place.state / POD_FILE_NAME).rmdir()
    place.pod.cycle(60.0)
    assert len(list(place.journal.glob("*.ctl"))) == 1


def test_a_killed_forwarder_is_followed_by_one_that_removes_its_presence(place, redis):
    place.start().cycle(60.0)
    place.kill()
    with Consumer(redis) as consumer:
        (before,) = consumer.presences()
        place.start()
        (after,) = consumer.presences()
    assert before != after


@pytest.mark.parametrize("content", [b"", b"\xc1", b"{}", msgspec.msgpack.encode({"identity": 1}), bytes(4096)])
def test_a_file_that_cannot_be_read_lets_counting_begin_anew(place, content):
    place.worker(events=5, lost=2)
    place.start().cycle(60.0)
    place.kill()
    (place.state / POD_FILE_NAME).write_bytes(content)
    # What the workers have counted so far belongs to the counters that are lost.
    place.worker(lost=1)
    assert lost(place.start()) == 0
    place.worker(lost=1)
    assert lost(place.pod) == 1


def test_a_pod_without_a_past_counts_what_its_workers_have_lost(place):
    place.worker(lost=2)
    assert lost(place.start()) == 2


def test_two_forwarders_do_not_share_a_directory(place, tmp_path):
    place.start()
    for journal, state in ((place.journal, tmp_path / "other"), (tmp_path / "other", place.state)):
        with pytest.raises(StateLocked):
            Pod(place.config(), journal, state, reloads=Reloads(0.0))


@pytest.mark.parametrize(
    ("privacy", "told"),
    [
        (PrivacySettings(), "privacy.key_file: not set"),
        (PrivacySettings(show_ids=True, key_file=Path("key")), "privacy.show_ids: true; expected false"),
    ],
)
def test_ids_travel_as_digests_under_a_shared_key_only(place, privacy, told):
    config = Config(privacy=privacy, stream=StreamSettings(place.url))
    with pytest.raises(ConfigError, match=told):
        Pod(config, place.journal, place.state, reloads=Reloads(0.0))


def test_a_key_that_cannot_be_read_is_named(place):
    place.key.unlink()
    with pytest.raises(StateError, match=str(place.key)):
        place.start()


def test_without_an_address_there_is_nothing_to_forward_to(place):
    place.url = ""
    with pytest.raises(ConfigError, match=r"stream\.url: not set"):
        place.start()


def test_a_reload_goes_on_where_it_was(place, redis):
    place.worker(events=10)
    place.start().cycle(60.0)
    place.pod.reload(place.config(max_entries=5000))
    place.worker(events=10)
    snapshot = place.pod.cycle(60.0)
    assert snapshot.forward.forwarded_events == 20
    with Consumer(redis) as consumer:
        assert len(consumer.presences()) == 1


def test_a_reload_that_the_fleet_refuses_changes_nothing(place):
    place.worker(events=10)
    place.start()
    place.key.write_bytes(b"another key than that of the fleet")
    with pytest.raises(StreamRefused, match="another key"):
        place.pod.reload(place.config())
    assert place.pod.cycle(60.0).forward.forwarded_events == 10


def test_the_state_of_a_sidecar_is_none_of_a_forwarder_and_the_other_way_round(tmp_path):
    State(tmp_path / "sidecar", Limits()).close()
    with pytest.raises(StateIncompatible, match="the state of a sidecar; expected a directory of the forwarder's own"):
        PodFile(tmp_path / "sidecar")
    forwarder = PodFile(tmp_path / "forwarder")
    forwarder.save(forwarder.load(ids="key", now_us=1))
    forwarder.close()
    with pytest.raises(StateIncompatible, match="the state of a forwarder; expected a directory of the sidecar's own"):
        State(tmp_path / "forwarder", Limits())
