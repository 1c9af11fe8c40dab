"""What is true, from the application's database, and what the sidecar says: the two sides that have to agree."""

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from session_exporter.demo.store import TABLES

DUPLICATE_WINDOW: Final = timedelta(seconds=10)
SETTLE_DEADLINE_S: Final = 15.0
_POLL_S: Final = 0.1
_ROWS: Final = {
    "conversation": "SELECT user_id, created_at, status FROM conversation_sessions ORDER BY user_id, created_at",
    "progress_update": "SELECT user_id, created_at, status FROM progress_update_sessions ORDER BY user_id, created_at",
}
_ORPHANS: Final = (
    "SELECT count(*) FROM conversation_sessions AS c WHERE NOT EXISTS"
    " (SELECT 1 FROM progress_update_sessions AS p WHERE p.conversation_id = c.id)"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many sessions of one scope were created, were created rapidly after another of their user, and ended."""

    creates: int
    duplicates: int
    ended: int


@dataclass(frozen=True, slots=True)
class Truth:
    """What the application's database holds.

    Attributes:
        scopes: By scope name.
        orphans: Conversations that have no progress update, because something failed between the two creates.
    """

    scopes: dict[str, Counts]
    orphans: int


@dataclass(frozen=True, slots=True)
class Claims:
    """What `/metrics` of the sidecar says, by scope name.

    Attributes:
        creates: `session_creates_total`.
        reuses: `session_reuses_total`.
        duplicates: `session_rapid_duplicate_creates_total`, by cause.
        losses: `session_context_loss_total`, all reasons together.
        redundant_lookups: `session_redundant_lookups_total`.
    """

    creates: dict[str, int] = field(default_factory=dict)
    reuses: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, dict[str, int]] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    redundant_lookups: dict[str, int] = field(default_factory=dict)

    def causes(self) -> dict[str, int]:
        """Rapid duplicate creates by cause, all scopes together, without the causes that did not occur."""
        together: dict[str, int] = {}
        for by_cause in self.duplicates.values():
            for cause, count in by_cause.items():
                together[cause] = together.get(cause, 0) + count
        return {cause: count for cause, count in together.items() if count}

    def agree_with(self, truth: Truth) -> bool:
        """Whether creates and duplicates are those in the database, in every scope."""
        return all(
            self.creates.get(scope) == counts.creates
            and sum(self.duplicates.get(scope, {}).values()) == counts.duplicates
            for scope, counts in truth.scopes.items()
        )


def read_truth(database: Path) -> Truth:
    """Read the application's database; nobody need have stopped."""
    with closing(sqlite3.connect(database, timeout=10.0)) as connection:
        scopes = {scope: _counts(connection.execute(_ROWS[scope]).fetchall()) for scope in TABLES}
        return Truth(scopes, connection.execute(_ORPHANS).fetchone()[0])


def _counts(rows: list[tuple[str, str, str]]) -> Counts:
    times = [(user, datetime.fromisoformat(created_at)) for user, created_at, _ in rows]
    duplicates = sum(
        user == previous_user and at - previous_at < DUPLICATE_WINDOW
        for (previous_user, previous_at), (user, at) in pairwise(times)
    )
    return Counts(len(rows), duplicates, sum(status == "ended" for *_, status in rows))


def read_claims(exposition: str) -> Claims:
    """Read the text of `/metrics`."""
    claims = Claims()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            _read_sample(claims, sample.name, sample.labels, int(sample.value) if sample.value == sample.value else 0)
    return claims


def _read_sample(claims: Claims, name: str, labels: dict[str, str], value: int) -> None:
    scope = labels.get("scope", "")
    match name:
        case "session_creates_total":
            claims.creates[scope] = value
        case "session_reuses_total":
            claims.reuses[scope] = value
        case "session_rapid_duplicate_creates_total":
            claims.duplicates.setdefault(scope, {})[labels["cause"]] = value
        case "session_redundant_lookups_total":
            claims.redundant_lookups[scope] = value
        case "session_context_loss_total":
            claims.losses[scope] = claims.losses.get(scope, 0) + value


async def settled(sidecar_url: str, truth: Truth) -> Claims:
    """Wait until the sidecar has judged everything, or a deadline; returns what `/metrics` then says.

    Goodbyes come last, so nothing is pending once every end in the database is counted.
    """
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + SETTLE_DEADLINE_S
    async with aiohttp.ClientSession() as client:
        while not _covers(await _summary(client, sidecar_url), truth):
            if clock() > deadline_s:
                break
            await asyncio.sleep(_POLL_S)
        async with client.get(f"{sidecar_url}/metrics", headers={"Accept": "text/plain"}) as response:
            response.raise_for_status()
            return read_claims(await response.text())


async def _summary(client: aiohttp.ClientSession, sidecar_url: str) -> Any:
    async with client.get(f"{sidecar_url}/api/v1/summary") as response:
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:  # nothing is committed yet, or it is busy
            return {"scopes": {}}
        response.raise_for_status()
        return await response.json()


def _covers(summary: Any, truth: Truth) -> bool:
    for scope, counts in truth.scopes.items():
        totals = summary["scopes"].get(scope, {}).get("totals", {})
        duplicates = sum(totals.get("rapid_duplicate_creates", {}).values())
        counted = (totals.get("creates"), duplicates, sum(totals.get("ends", {}).values()))
        if counted != (counts.creates, counts.duplicates, counts.ended):
            return False
    return True


async def view_metrics(sidecar_url: str, *arguments: str, encoding: str) -> tuple[int, str]:
    """Run `view-metrics` as the person on call would; returns its exit code, and what it prints in `encoding`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "session_exporter.cli.view_metrics", "--url", sidecar_url, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode(encoding, "replace").rstrip()
