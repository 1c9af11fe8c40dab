"""The servers that tests stand on: what they promise to the tests."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from postgres_server import LOCKED_PASSWORD, LOCKED_USER
from redis_server import RedisServer
from server_process import DEADLINE_S, TICK_S, ServerFailed

pytestmark = pytest.mark.integration

WHO = "SELECT current_user"


def test_postgres_trusts_its_superuser(postgres) -> None:
    database = postgres.database()
    assert postgres.psql("SELECT current_user, current_database()", database) == f"postgres|{database}"


def test_the_addresses_name_the_driver_and_the_database(postgres) -> None:
    place = f"postgres@127.0.0.1:{postgres.port}/chat"
    assert postgres.url("asyncpg", "chat") == f"postgresql+asyncpg://{place}"
    assert postgres.dsn("chat") == f"postgresql://{place}"


def test_each_database_is_empty_and_of_its_own(postgres) -> None:
    one, other = postgres.database(), postgres.database("named")
    postgres.psql("CREATE TABLE sessions (id text)", one)
    assert postgres.psql("SELECT to_regclass('sessions') IS NULL", other) == "t"
    assert postgres.psql("SELECT to_regclass('sessions') IS NULL", one) == "f"
    postgres.drop(other)
    with pytest.raises(ServerFailed, match="does not exist"):
        postgres.psql("SELECT 1", other)


def test_the_locked_role_needs_its_password(postgres) -> None:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres.dsn("postgres", LOCKED_USER), password=LOCKED_PASSWORD) as connection:
        assert connection.execute(WHO).fetchone() == (LOCKED_USER,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.dsn("postgres", LOCKED_USER), password="wrong")


def test_what_was_committed_survives_a_killed_postgres(own_postgres) -> None:
    own_postgres.psql("CREATE TABLE sessions AS SELECT generate_series(1, 100) AS id")
    own_postgres.kill()
    with pytest.raises(ServerFailed, match="refused"):
        own_postgres.psql(WHO)
    own_postgres.restart()
    assert own_postgres.psql("SELECT count(*) FROM sessions") == "100"


def test_terminated_backends_are_gone(postgres) -> None:
    psycopg = pytest.importorskip("psycopg")
    database = postgres.database()
    with psycopg.connect(postgres.dsn(database)) as connection:
        assert postgres.terminate_backends(database) == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute(WHO)
    assert postgres.terminate_backends(database) == 0


def test_postgres_is_set_up_for_two_phases_and_quick_deadlocks(postgres) -> None:
    names = "max_prepared_transactions", "deadlock_timeout", "max_connections", "fsync"
    assert [postgres.psql(f"SHOW {name}") for name in names] == ["20", "100ms", "200", "off"]
    assert "ready to accept connections" in postgres.log.read_text()


def test_redis_answers_and_forgets_when_it_is_told_to(redis) -> None:
    client = pytest.importorskip("redis").Redis.from_url(redis.url)
    client.set("key", "value")
    redis.flush()
    assert client.get("key") is None
    client.close()


@pytest.fixture
def client_of():
    """Clients of redis-py."""
    clients = []

    def connect(url: str, **options: str):
        clients.append(pytest.importorskip("redis").Redis.from_url(url, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def test_redis_keeps_what_it_is_told_to_keep_and_forgets_what_was_not_synced(require_server, client_of) -> None:
    with RedisServer(require_server("redis-server"), keeps=True) as server:
        client_of(server.url).set("first", "value")
        first_bytes = server.kept_bytes()
        client_of(server.url).set("second", "value")
        server.kill()
        server.restart()
        assert client_of(server.url).mget("first", "second") == [b"value", b"value"]
        server.kill()
        server.forget_after(first_bytes)
        server.restart()
        assert client_of(server.url).mget("first", "second") == [b"value", None]


def test_redis_asks_for_its_password_and_for_tls(require_server, client_of) -> None:
    exceptions = pytest.importorskip("redis").exceptions
    require_server("openssl")  # Debian's PostgreSQL brings it
    with RedisServer(require_server("redis-server"), password="open sesame", tls=True) as server:
        assert client_of(server.url, ssl_ca_certs=str(server.ca_file)).ping()
        with pytest.raises(exceptions.AuthenticationError):
            client_of(server.url.replace(":open sesame@", ""), ssl_ca_certs=str(server.ca_file)).ping()
        with pytest.raises(exceptions.ConnectionError):
            client_of(server.url.replace("rediss", "redis")).ping()


LIVING = """
import json, os
from pathlib import Path

def test_the_servers_live(postgres, redis):
    told = {{server._process.pid: str(server.home) for server in (postgres, redis)}}
    assert postgres.psql("SELECT 1") == "1"
    Path({told!r}).write_text(json.dumps(told))
    if {killed}:
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def session(tmp_path):
    """Runs two modules that ask for the servers, and tells how that ended and which servers there were."""
    tests, told = Path(__file__).parent.parent, tmp_path / "told.json"
    shutil.copy(tests / "conftest.py", tmp_path)

    def run(*, killed: bool) -> tuple[int, dict[int, Path]]:
        for name, last in (("test_first.py", False), ("test_second.py", True)):
            (tmp_path / name).write_text(LIVING.format(told=str(told), killed=killed and last))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
        path = os.pathsep.join([str(tests / "servers"), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False)
        return done.returncode, {int(pid): Path(home) for pid, home in json.loads(told.read_text()).items()}

    return run


def _is_running(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty when nobody has asked how it ended
    except FileNotFoundError:
        return False


def test_the_servers_end_with_the_session_and_fail_no_module(session) -> None:
    code, servers = session(killed=False)
    assert code == 0
    assert not any(_is_running(pid) or home.exists() for pid, home in servers.items())


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="the kernel is told through setpriv")
def test_the_servers_end_with_a_session_that_is_killed(session) -> None:
    code, servers = session(killed=True)
    assert code == -signal.SIGKILL
    deadline = time.monotonic() + DEADLINE_S
    while any(_is_running(pid) for pid in servers):
        assert time.monotonic() < deadline, "a server outlives the session that started it"
        time.sleep(TICK_S)
    for home in servers.values():
        shutil.rmtree(home)
