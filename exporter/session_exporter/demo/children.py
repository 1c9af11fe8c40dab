"""The processes of the demonstration: a sidecar and four workers, none of which outlives the one that started them."""

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from session_exporter.demo.worker import HOST
from session_exporter.errors import PeerError

WORKERS: Final = 4
START_DEADLINE_S: Final = 20.0
STOP_DEADLINE_S: Final = 5.0
_POLL_S: Final = 0.02
_LOG_CHARS_SHOWN: Final = 2000

CONFIG: Final = """\
lateness: 1s
scopes:
  conversation: {sessions_per_user: one}
  progress_update: {sessions_per_user: one}
"""


@dataclass(frozen=True, slots=True)
class Home:
    """The one directory that everything of a demonstration lives in.

    Attributes:
        path: An existing, empty directory.
    """

    path: Path

    @property
    def database(self) -> Path:
        """The application's database."""
        return self.path / "chat.sqlite"

    @property
    def journal(self) -> Path:
        """Where workers write, and the sidecar reads."""
        return self.path / "journal"

    @property
    def state(self) -> Path:
        """The sidecar's own."""
        return self.path / "state"

    def prepare(self) -> Path:
        """Make the directories; returns the path of the configuration."""
        self.journal.mkdir(mode=0o700)
        self.state.mkdir(mode=0o700)
        config = self.path / "config.yml"
        config.write_text(CONFIG, encoding="utf-8")
        return config


@dataclass(frozen=True, slots=True)
class Child:
    """A started process, and the file that everything it prints goes to."""

    process: asyncio.subprocess.Process
    log: Path

    async def says(self, pattern: str) -> str:
        """Wait until it prints what `pattern` describes; returns the pattern's group.

        Raises:
            PeerError: It ended, or the deadline passed; the message holds the end of its log.
        """
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + START_DEADLINE_S
        while clock() < deadline_s:
            running = self.process.returncode is None
            said = re.search(pattern, self._printed(), re.MULTILINE)
            if said:
                return said[1]
            if not running:
                break
            await asyncio.sleep(_POLL_S)
        raise PeerError(f"{self._fate()} before it said that it listens; the end of what it printed:\n{self._end()}")

    def _printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _end(self) -> str:
        return self._printed()[-_LOG_CHARS_SHOWN:].strip() or "(nothing)"

    def _fate(self) -> str:
        code = self.process.returncode
        return f"{self.log.stem} " + (f"exited with {code}" if code is not None else f"took {START_DEADLINE_S:g} s")

    async def stop(self) -> None:
        """Send SIGTERM, wait, and kill what does not listen."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_DEADLINE_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@asynccontextmanager
async def running(module: str, *arguments: str, log: Path, journal: Path) -> AsyncIterator[Child]:
    """Run `python -m module` on a leash: it ends with this context, and with this process however that ends."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "session_exporter.demo.leash", module, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            # Whoever has turned recording off for their own application still wants to see it here.
            env={**os.environ, "SESSION_EXPORTER_DIR": str(journal), "SESSION_EXPORTER_DISABLED": ""},
            start_new_session=True,  # Ctrl-C is for this process, which then stops the others in order
        )
    child = Child(process, log)
    try:
        yield child
    finally:
        await child.stop()


@asynccontextmanager
async def sidecar(home: Home, listen: str) -> AsyncIterator[str]:
    """Run a sidecar; yields its URL once it listens.

    Raises:
        PeerError: It does not come up; the message holds the end of its log.
    """
    arguments = ("serve", "--config.file", str(home.prepare()), "--web.listen-address", listen)
    directories = ("--journal.directory", str(home.journal), "--state.directory", str(home.state))
    log = home.path / "sidecar.log"
    async with running("session_exporter", *arguments, *directories, log=log, journal=home.journal) as child:
        yield await child.says(r'\blistening\b.*\burl="?(http[^\s"]+)["\s]')


@dataclass(slots=True)
class Workers:
    """The application's processes; `url` is where all of them listen."""

    url: str
    children: list[Child] = field(default_factory=list)

    @property
    def pids(self) -> set[int]:
        """Their process ids."""
        return {child.process.pid for child in self.children}


@asynccontextmanager
async def workers(home: Home, *, fixed: bool, count: int = WORKERS) -> AsyncIterator[Workers]:
    """Run the application; yields once every worker listens.

    Raises:
        PeerError: A worker does not come up; the message holds the end of its log.
    """
    async with AsyncExitStack() as stack:
        port = stack.enter_context(_reserved_port())
        arguments = ("--database", str(home.database), "--port", str(port), *(["--fixed"] if fixed else []))
        together = Workers(f"http://{HOST}:{port}")
        for number in range(1, count + 1):
            log = home.path / f"worker-{number}.log"
            child = running("session_exporter.demo.worker", *arguments, log=log, journal=home.journal)
            together.children.append(await stack.enter_async_context(child))
        await asyncio.gather(*(child.says(r"^(ready)$") for child in together.children))
        yield together


@contextmanager
def _reserved_port() -> Iterator[int]:
    """Hold a free port without listening on it: sockets that share a port must agree to it before they bind."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((HOST, 0))
        yield reservation.getsockname()[1]
