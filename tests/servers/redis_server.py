"""A real Redis as a child process."""

import signal
import socket

from server_process import DEADLINE_S, ServerProcess


class RedisServer(ServerProcess):
    """Debian's Redis, which keeps nothing.

    Args:
        program: The path of `redis-server`.
    """

    stop_signal = signal.SIGKILL

    def __init__(self, program: str) -> None:
        super().__init__("redis")
        self._program = program

    @property
    def url(self) -> str:
        """An address for redis-py."""
        return f"redis://{self.host}:{self.port}/0"

    def command(self) -> list[str]:
        """The server's command line."""
        own = ("--port", str(self.port), "--bind", self.host, "--dir", str(self.home))
        return [self._program, *own, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return self._ask("PING") == "+PONG"
        except OSError:
            return False

    def flush(self) -> None:
        """Forget everything."""
        answer = self._ask("FLUSHALL")
        assert answer == "+OK", answer

    def _ask(self, command: str) -> str:
        with socket.create_connection((self.host, self.port), timeout=DEADLINE_S) as connection:
            connection.sendall(f"{command}\r\n".encode())
            with connection.makefile("r", encoding="utf-8", newline="\r\n") as answers:
                return answers.readline().rstrip("\r\n")
