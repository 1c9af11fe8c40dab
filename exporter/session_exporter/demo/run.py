"""`session-exporter demo`: the application, its traffic and a sidecar, and at the end what was found."""

import asyncio
import contextlib
import dataclasses
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TextIO

import aiohttp

from session_exporter.demo.children import Home, Workers, sidecar, workers
from session_exporter.demo.findings import read_truth, settled, view_metrics
from session_exporter.demo.report import Outcome, broken_promises, clearest, findings
from session_exporter.demo.traffic import Plan, drive
from session_exporter.errors import PeerError, SessionExporterError

# What a shell reports of a process that SIGINT ended: 128 + 2.
INTERRUPTED: Final = 130
_NEXT_WHEN_RACY: Final = "Next: make demo ARGS=--fixed repairs the race; ARGS=--serve keeps it running, to look around."
_NEXT_WHEN_FIXED: Final = "Next: make demo ARGS=--serve keeps the racy one running, to look around."
_ANY_PORT: Final = "127.0.0.1:0"
_BESIDE: Final = """Type in another terminal:

  view-metrics --url {url}
  view-metrics incidents --follow --url {url}
  view-metrics explain --user round1-01 --url {url}
  view-metrics lookups --url {url}
  session-exporter tail --follow --journal.directory {journal}
"""
# With --serve: a handful of new people at a time, each with a message a second.
_LIGHT: Final = Plan(users=10, messages=30, seconds=30.0)


def run_demo(*, fixed: bool, serve: bool, seconds: float, listen: str | None, out: TextIO) -> int:
    """Run the demonstration.

    Args:
        fixed: Repair the race in the application.
        serve: Keep application and sidecar running, with light traffic, until Ctrl-C.
        seconds: How long the users chat; ignored with `serve`.
        listen: HOST:PORT for the sidecar; None for any free port of the loopback interface.
        out: Where the findings are printed.

    Returns:
        0 when everything was as promised, or serving was interrupted; 1 when something was not, and `out` says what;
        130 when it was interrupted before it could tell.
    """
    demo = Demo(fixed=fixed, seconds=seconds, listen=listen or _ANY_PORT, out=out)
    try:
        return asyncio.run(_until_interrupted(demo, serve=serve))
    except asyncio.CancelledError:
        demo.say("\nStopped.")
        return 0 if serve else INTERRUPTED
    except (SessionExporterError, aiohttp.ClientError, OSError) as error:
        demo.say(f"The demonstration failed: {error}")
        return 1


async def _until_interrupted(demo: "Demo", *, serve: bool) -> int:
    task = asyncio.ensure_future(_in_a_temporary_home(demo, serve=serve))
    with contextlib.suppress(ValueError, RuntimeError):  # only the main thread can have signal handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


async def _in_a_temporary_home(demo: "Demo", *, serve: bool) -> int:
    with TemporaryDirectory(prefix="session-exporter-demo-") as directory:
        home = Home(Path(directory))
        return await (demo.serve(home) if serve else demo.show(home))


@dataclass(frozen=True, slots=True)
class Demo:
    """One run; the attributes are those of `run_demo`."""

    fixed: bool
    seconds: float
    listen: str
    out: TextIO

    def say(self, text: str) -> None:
        """Print a paragraph, at once."""
        print(text, file=self.out, flush=True)

    async def show(self, home: Home) -> int:
        """Run everything once; returns 0 when it was as promised."""
        plan = Plan(seconds=self.seconds)
        async with sidecar(home, self.listen) as sidecar_url, self._application(home, sidecar_url) as application:
            self.say(f"{plan.users} users chat for {plan.seconds:g} seconds ...\n")
            tally = await drive(application.url, plan)
            truth = read_truth(home.database)
            claims = await settled(sidecar_url, truth)
            code, judgement = await self._view_metrics(sidecar_url)
            incident = await self._incident(sidecar_url)
            lookups = await self._told(sidecar_url, "lookups", "--scope", "conversation")
        pids = frozenset(application.pids)
        outcome = Outcome(plan, tally, pids, truth, claims, judgement, code, incident, lookups)
        return self._conclude(outcome)

    def _conclude(self, outcome: Outcome) -> int:
        self.say(findings(outcome))
        broken = broken_promises(outcome, fixed=self.fixed)
        for promise in broken:
            self.say(f"\nNOT AS PROMISED: {promise}")
        if not broken:
            self.say(f"\nAs promised. {_NEXT_WHEN_FIXED if self.fixed else _NEXT_WHEN_RACY}")
        return 1 if broken else 0

    async def serve(self, home: Home) -> int:
        """Keep everything running until this is cancelled."""
        async with sidecar(home, self.listen) as sidecar_url, self._application(home, sidecar_url) as application:
            self.say(f"Light traffic, until Ctrl-C. {_BESIDE.format(url=sidecar_url, journal=home.journal)}")
            number = 0
            while True:
                number += 1
                await drive(application.url, dataclasses.replace(_LIGHT, name=f"round{number}", seed=number))

    @contextlib.asynccontextmanager
    async def _application(self, home: Home, sidecar_url: str) -> AsyncIterator[Workers]:
        async with workers(home, fixed=self.fixed) as application:
            form = "its session race repaired" if self.fixed else "a race in get_or_create_session()"
            self.say(f"A chat application with {len(application.children)} workers and {form}: {application.url}/")
            self.say(f"Beside it, a sidecar: {sidecar_url}/")
            yield application

    async def _view_metrics(self, sidecar_url: str, *arguments: str) -> tuple[int, str]:
        return await view_metrics(sidecar_url, *arguments, encoding=self.out.encoding or "utf-8")

    async def _incident(self, sidecar_url: str) -> str:
        wanted = ("--kind", "rapid_duplicate_create", "--scope", "conversation", "--limit", "1000")
        document = json.loads(await self._told(sidecar_url, "incidents", "--json", *wanted))
        chosen = clearest(document["incidents"])
        return await self._told(sidecar_url, "explain", chosen) if chosen else ""

    async def _told(self, sidecar_url: str, command: str, *arguments: str) -> str:
        code, text = await self._view_metrics(sidecar_url, command, *arguments)
        if code != 0:
            raise PeerError(f"view-metrics {command} exited with {code}: {text}")
        return text
