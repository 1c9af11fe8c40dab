"""What the web interface needs of the sidecar, and nothing more."""

from typing import Any, Protocol

from session_exporter.sidecar.incidents import Wanted
from session_exporter.sidecar.snapshot import Snapshot


class Scraped(Protocol):
    """Whatever is scraped; every method is called on the event loop's thread."""

    async def scrape(self, timeout_s: float) -> Snapshot | None:
        """Drain the journal up to what is committed there now, commit, and return the newest committed snapshot.

        Args:
            timeout_s: How long the drain may take; with more to read, what was committed by then is returned.

        Returns:
            None before the first commit. Never two of these run at the same time.
        """

    def committed(self) -> Snapshot | None:
        """Return the newest committed snapshot at once, None before the first commit."""


class Service(Scraped, Protocol):
    """The running sidecar.

    The documents are JSON values: dictionaries with text keys, lists, texts, numbers, booleans, None.
    """

    async def summary(self, since_s: float, scope: str | None) -> dict[str, Any]:
        """Judge the last `since_s` seconds of one scope, or of all; KeyError when no scope is called `scope`."""

    async def incidents(self, wanted: Wanted) -> dict[str, Any]:
        """Return the incidents that are wanted, of which `user` is a plain id here; KeyError as above."""

    async def lookups(self, *, since_s: float, scope: str | None, limit: int) -> dict[str, Any]:
        """Rank where sessions are looked up, `limit` places of each scope; KeyError as above."""

    async def hooks(self) -> dict[str, Any]:
        """Return which hooks are installed in which workers."""

    async def db_sessions(self) -> dict[str, Any]:
        """Return the uses of database sessions."""

    def ready(self) -> bool:
        """Tell whether there was a first commit since the start."""

    async def reload(self) -> None:
        """Load the configuration again; ConfigError when it is wrong, and then the previous one stays in force."""

    async def quit(self) -> None:
        """Ask the sidecar to stop, and return at once: the answer is still to be sent."""
