"""A real Redis as a child process."""

import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from server_process import DEADLINE_S, ServerFailed, ServerProcess


class RedisServer(ServerProcess):
    """Debian's Redis, which keeps nothing unless it is told to.

    Args:
        program: The path of `redis-server`.
        keeps: Whether what it was told survives its process: appended to a file, synced every second.
        password: What clients must say; `""` for nothing.
        tls: Whether clients must speak TLS, under a certificate of its own making.
        settings: More of its configuration, such as `("--maxmemory", "4mb")`.

    Attributes:
        ca_file: The certificate, with `tls`.
    """

    stop_signal = signal.SIGKILL

    def __init__(
        self,
        program: str,
        *,
        keeps: bool = False,
        password: str = "",
        tls: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        super().__init__("redis")
        self._program = program
        self._keeps, self._password, self._tls, self._settings = keeps, password, tls, settings
        self.ca_file = self.home / "redis.crt"

    @property
    def url(self) -> str:
        """An address for redis-py, which has the password."""
        who = f":{self._password}@" if self._password else ""
        return f"{'rediss' if self._tls else 'redis'}://{who}{self.host}:{self.port}/0"

    def prepare(self) -> None:
        """Make the certificate."""
        if self._tls:
            subject = ("-subj", f"/CN={self.host}", "-addext", f"subjectAltName=IP:{self.host}")
            files = ("-keyout", self.home / "redis.key", "-out", self.ca_file)
            self.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *files, *subject)

    def command(self) -> list[str]:
        """The server's command line."""
        own = ["--bind", self.host, "--dir", str(self.home), "--save", "", "--daemonize", "no"]
        own += ["--appendonly", "yes" if self._keeps else "no", "--appendfsync", "everysec"]
        if self._password:
            own += ["--requirepass", self._password]
        if self._tls:
            own += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            own += ["--tls-cert-file", str(self.ca_file), "--tls-key-file", str(self.home / "redis.key")]
        else:
            own += ["--port", str(self.port)]
        return [self._program, *own, *self._settings]

    def is_ready(self) -> bool:
        """Whether it answers, or listens when it speaks TLS; while it loads what it has kept, it does not."""
        try:
            if self._tls:
                socket.create_connection((self.host, self.port), timeout=DEADLINE_S).close()
            return self._tls or self._ask("PING") == "+PONG"
        except OSError:
            return False

    def flush(self) -> None:
        """Forget everything."""
        answer = self._ask("FLUSHALL")
        assert answer == "+OK", answer

    def kill(self) -> None:
        """End it at once; what it keeps is there for the next start."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again where it was; to be called by the thread that started it."""
        if not self._starts_there():
            raise ServerFailed(f"redis does not start again: {self._logged()}")

    def kept_bytes(self) -> int:
        """How much it has written down since it last wrote all of it anew."""
        return self._newest_file().stat().st_size

    def forget_after(self, size_bytes: int) -> None:
        """Cut what was written down later than this off: the host has crashed before it was on its disk."""
        path = self._newest_file()
        if path.stat().st_size > size_bytes:
            with path.open("r+b") as file:
                file.truncate(size_bytes)

    def _newest_file(self) -> Path:
        return max((self.home / "appendonlydir").glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))

    def _ask(self, command: str) -> str:
        with socket.create_connection((self.host, self.port), timeout=DEADLINE_S) as connection:
            words = [f"AUTH {self._password}", command] if self._password else [command]
            connection.sendall("".join(f"{word}\r\n" for word in words).encode())
            with connection.makefile("r", encoding="utf-8", newline="\r\n") as answers:
                return [answers.readline().rstrip("\r\n") for _ in words][-1]
