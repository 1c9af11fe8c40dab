"""What a driver knows of what it did, without any hook: its ground truth, written to `$TRUTH` at the end.

A driver runs a published package the way its users do, against the database that `$DATABASE` names, and takes less than
the ten seconds of the duplicate window: a user with two creates is one with a rapid duplicate.
"""

import json
import os
from pathlib import Path

ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
SYNC_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg2"}
# Nobody listens there.
DEAD = "postgresql+{driver}://postgres@127.0.0.1:1/none"

created: list[tuple[str | None, str]] = []
ended: list[str] = []


def database(drivers: dict[str, str]) -> str:
    """The address of the database, with the driver that a package needs."""
    scheme, rest = os.environ["DATABASE"].split(":", 1)
    return f"{drivers[scheme]}:{rest}"


def tell() -> None:
    """Write the ground truth."""
    Path(os.environ["TRUTH"]).write_text(json.dumps({"created": created, "ended": ended}), encoding="utf-8")
