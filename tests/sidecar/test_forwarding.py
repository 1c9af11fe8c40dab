"""`session-exporter forward` as a process: started, asked, killed and told to stop."""

import secrets
import signal

import pytest
from sidecar_process import Sidecar, run
from stations import PARTITIONS, Consumer, Station

from session_exporter.stream import keys

pytestmark = pytest.mark.integration
FORWARDED = "session_exporter_forwarded_events_total"
RESENT = "session_exporter_forward_resent_events_total"
ERRORS = "session_exporter_forward_errors_total"
UP = "session_exporter_stream_up"


class Post(Sidecar):
    """`session-exporter forward`, and the host whose workers it serves."""

    def __init__(self, home, server, *arguments):
        self.server = server
        self.key_file = home / "key"
        self.key_file.write_bytes(secrets.token_bytes(32))
        self.host = Station(home, server)
        super().__init__(home, self.text(server.url), journal=self.host.directory, arguments=arguments)

    def text(self, url, more=""):
        stream = f"stream: {{url: {url!r}, partitions: {PARTITIONS}}}\n"
        return f"privacy: {{key_file: {self.key_file}}}\n{stream}{more}"

    def command_line(self):
        return ["forward", *super().command_line()[1:]]

    def __exit__(self, *error):
        super().__exit__(*error)
        self.host.__exit__()

    def sent(self, count):
        """Wait until so many events have been sent."""
        return self.scrape_until(lambda scrape: scrape.value(FORWARDED) >= count, f"{count} events are sent")

    def arrived(self):
        """The times of all events of the worker that are in the streams."""
        with Consumer(self.server) as consumer:
            return consumer.read().of(self.host)


@pytest.fixture
def post(tmp_path, redis):
    with Post(tmp_path, redis) as made:
        yield made


def refused(post):
    done = run("session_exporter", *post.command_line())
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.mark.slow
def test_it_shows_its_pod_and_its_sending_and_nothing_of_sessions(post):
    post.host.tell(100)
    post.start()
    scrape = post.sent(100)
    assert (scrape.value(UP), scrape.value(FORWARDED)) == (1.0, 100.0)
    assert scrape.value("session_exporter_workers") == 1.0
    assert scrape.lost() == {}
    assert not scrape.of("session_creates_total")
    assert {path: post.get(path)[0] for path in ("/", "/-/healthy", "/-/ready", "/api/v1/summary")} == {
        "/": 200,
        "/-/healthy": 200,
        "/-/ready": 200,
        "/api/v1/summary": 404,
    }
    assert "Forwarding to Redis" in post.get("/")[1]
    assert "ask session-exporter serve --source=stream" in post.get("/api/v1/summary")[1]


def test_told_to_stop_it_sends_what_is_there_and_takes_leave(post, redis):
    post.start()
    post.sent(0)
    post.host.tell(3000)
    assert post.stop() == 0
    assert post.arrived() == post.host.told["w"]
    with Consumer(redis) as consumer:
        assert consumer.presences() == {}
    assert "all_sent=True" in post.log


@pytest.mark.slow
def test_killed_at_any_moment_it_is_followed_by_one_that_sends_the_rest(post):
    for _ in range(5):
        post.host.tell(2000)
        post.start()
        post.url  # noqa: B018 - it listens, and is about to send
        post.host.tell(500)
        post.kill()
    post.start()
    post.sent(1)
    assert post.stop() == 0
    assert post.arrived() == post.host.told["w"]


@pytest.mark.slow
def test_without_redis_it_starts_and_waits(tmp_path, own_redis):
    server = own_redis()
    server.kill()
    with Post(tmp_path, server) as post:
        post.host.tell(100)
        post.start()
        scrape = post.scrape_until(lambda found: found.value(ERRORS, reason="connection") > 0, "it is missed")
        assert (scrape.value(UP), post.get("/-/ready")[0]) == (0.0, 200)
        assert "events wait on disk" in post.get("/")[1]
        server.restart()
        post.sent(100)
        assert post.arrived() == post.host.told["w"]
        assert post.stop() == 0


@pytest.mark.slow
def test_told_twice_to_stop_it_waits_for_redis_no_longer(tmp_path, own_redis):
    server = own_redis()
    with Post(tmp_path, server) as post:
        post.start()
        post.sent(0)
        server.kill()
        post.host.tell(100)
        post.signal(signal.SIGTERM)
        post.until_logged("msg=stopping")
        assert post.process.poll() is None
        assert post.stop() == 0
        assert "all_sent=False" in post.log
        assert post.host.segments() == 1


@pytest.mark.slow
def test_told_to_stop_with_an_empty_journal_it_does_not_wait_for_redis(tmp_path, own_redis):
    server = own_redis()
    server.kill()
    with Post(tmp_path, server) as post:
        post.start()
        post.until_logged("msg=forwarding")  # from then on it can be told to stop
        assert post.stop() == 0
        assert "all_sent=True unsent_bytes=0 journal_bytes=0" in post.log


@pytest.mark.slow
def test_it_outlives_its_workers_when_it_is_told_to(tmp_path, redis):
    with Post(tmp_path, redis, "--stop.outlive-workers") as post:
        post.host.tell(10)
        post.start()
        post.sent(10)
        post.signal(signal.SIGTERM)
        post.until_logged("msg=stopping")
        post.host.tell(10)
        told, worker = list(post.host.told["w"]), post.host.worker().writer_id
        post.host.end_worker()
        assert post.wait() == 0
        with Consumer(redis) as consumer:
            taken = consumer.read().taken
        assert sorted(at_us for (_, writer), times in taken.items() for at_us in times if writer == worker) == told


@pytest.mark.slow
def test_a_wrong_password_is_exit_code_2_and_is_not_told(tmp_path, own_redis):
    server = own_redis(password="right-and-secret")
    with Post(tmp_path, server) as post:
        post.config_file.write_text(post.text(server.url.replace("right", "wrong")), encoding="utf-8")
        said = refused(post)
    assert "refuses" in said
    assert "secret" not in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replaced", "by", "told"),
    [
        ("stream:", "#", "stream.url: not set"),
        ("privacy: {key_file", "privacy: {show_ids: true, key_file", "privacy.show_ids: true; expected false"),
        ("privacy:", "#", "privacy.key_file: not set"),
        ("redis://", "http://", "expected a URL that begins with redis://"),
    ],
)
def test_what_it_needs_of_the_configuration_is_exit_code_2(post, replaced, by, told):
    text = post.config_file.read_text(encoding="utf-8").replace(replaced, by)
    post.config_file.write_text(text, encoding="utf-8")
    assert told in refused(post)


@pytest.mark.slow
def test_a_fleet_with_another_number_of_partitions_is_exit_code_2(post):
    post.start()
    post.sent(0)
    assert post.stop() == 0
    post.config_file.write_text(post.text(post.server.url).replace("partitions: 3", "partitions: 4"), encoding="utf-8")
    assert "the fleet has 3 partitions; stream.partitions says 4" in refused(post)


@pytest.mark.slow
def test_a_second_one_names_the_first(post):
    post.start()
    post.sent(0)
    assert f"in use by process {post.process.pid}" in refused(post)


@pytest.mark.slow
def test_sighup_reads_the_configuration_again(post, redis):
    post.host.tell(10)
    post.start()
    post.sent(10)
    post.config_file.write_text("nonsense: true\n", encoding="utf-8")
    post.signal(signal.SIGHUP)
    post.until_logged("reload failed")
    gauge = "session_exporter_config_last_reload_successful"
    post.scrape_until(lambda scrape: scrape.value(gauge) == 0.0, "a failure is shown")
    post.config_file.write_text(post.text(redis.url, "scopes: {chat: {}}\n"), encoding="utf-8")
    post.signal(signal.SIGHUP)
    post.until_logged("msg=reloaded")
    post.host.tell(10)
    post.sent(20)
    assert post.arrived() == post.host.told["w"]
    assert post.stop() == 0


@pytest.mark.slow
def test_what_was_deleted_in_redis_is_sent_again(post, redis):
    post.host.tell(100)
    post.start()
    post.sent(100)
    redis.flush()
    post.scrape_until(lambda scrape: scrape.value(RESENT) == 100.0, "it is sent again")
    post.until_logged('msg="sending goes on"')
    assert post.arrived() == post.host.told["w"]
    with Consumer(redis) as consumer:
        assert consumer.client.exists(keys.LAYOUT)
