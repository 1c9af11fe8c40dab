"""A real PostgreSQL as a child process."""

import signal
from pathlib import Path
from uuid import uuid4

from server_process import DEADLINE_S, ServerFailed, ServerProcess

MAIN = "postgres"
# Whoever this is needs the password; everybody else is trusted.
LOCKED_USER, LOCKED_PASSWORD = "locked", "open sesame"

_ACCESS = """\
host  all  locked  127.0.0.1/32  scram-sha-256
host  all  all     127.0.0.1/32  trust
local all  all                   trust
"""
# Nothing has to survive this server; and a deadlock is to be found while a test waits for it.
_SETTINGS = {
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "deadlock_timeout": "100ms",
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "password_encryption": "scram-sha-256",
    "log_connections": "on",
}
# What a server needs that is killed, on a host that is not.
_KEEPING = {"synchronous_commit": "on"}


class Postgres(ServerProcess):
    """Debian's PostgreSQL, its superuser `postgres` trusted, a role `locked` with a password.

    Args:
        programs: The directory of `postgres`, `initdb` and `psql`.
        keeps: Whether what was committed survives `kill`.

    Attributes:
        user: `postgres`.
    """

    stop_signal = signal.SIGQUIT

    def __init__(self, programs: Path, *, keeps: bool = False) -> None:
        super().__init__("postgres")
        self.user = "postgres"
        self._programs = programs
        self._settings = {**_SETTINGS, **(_KEEPING if keeps else {})}
        self._data = self.home / "data"

    def prepare(self) -> None:
        """Make the cluster."""
        quickly = ("--no-sync", "--no-instructions", "--locale=C", "--encoding=UTF8")
        self.run(self._programs / "initdb", "-D", self._data, "-U", self.user, "-A", "trust", *quickly)
        (self._data / "pg_hba.conf").write_text(_ACCESS, encoding="utf-8")

    def command(self) -> list[str]:
        """The server's command line."""
        addresses = {"listen_addresses": self.host, "port": self.port, "unix_socket_directories": self.home}
        settings = [f"--{name}={value}" for name, value in {**addresses, **self._settings}.items()]
        return [str(self._programs / "postgres"), "-D", str(self._data), *settings]

    def is_ready(self) -> bool:
        """Whether it accepts connections, as its pid file says."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[3] == str(self.port) and lines[7].strip() == "ready"

    def kill(self) -> None:
        """End it at once, in the middle of what it does; every client loses its connection."""
        assert self._process is not None
        self._process.send_signal(self.stop_signal)
        self._process.wait(DEADLINE_S)

    def restart(self) -> None:
        """Start it again where it was; to be called by the thread that started it."""
        if not self._starts_there():
            raise ServerFailed(f"postgres does not start again: {self._logged()}")

    def furnish(self) -> None:
        """Make the locked role."""
        self.psql(f"CREATE ROLE {LOCKED_USER} LOGIN PASSWORD '{LOCKED_PASSWORD}'")

    def database(self, name: str | None = None) -> str:
        """Make an empty database; returns its name."""
        name = name or f"d{uuid4().hex}"
        self.psql(f'CREATE DATABASE "{name}"')
        return name

    def drop(self, database: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.psql(f'DROP DATABASE "{database}" WITH (FORCE)')

    def url(self, driver: str, database: str, user: str = "postgres") -> str:
        """An address for SQLAlchemy; the driver is such as `asyncpg`, or `postgresql+asyncpg`."""
        scheme = driver if driver.startswith("postgresql") else f"postgresql+{driver}"
        return f"{scheme}://{user}@{self.host}:{self.port}/{database}"

    def dsn(self, database: str, user: str = "postgres") -> str:
        """An address for psycopg, asyncpg and libpq."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def psql(self, sql: str, database: str = MAIN) -> str:
        """Run SQL; returns the rows as unaligned text, columns separated by `|`.

        Raises:
            ServerFailed: A statement failed.
        """
        quietly = ("-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1")
        return self.run(self._programs / "psql", *quietly, "-d", self.dsn(database), "-c", sql).rstrip("\n")

    def terminate_backends(self, database: str) -> int:
        """Kill the server's side of every connection to a database, and wait for their end; returns how many."""
        return int(
            self.psql(
                f"SELECT count(pg_terminate_backend(pid, {DEADLINE_S * 1000:.0f})) FROM pg_stat_activity "
                f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
            )
        )
