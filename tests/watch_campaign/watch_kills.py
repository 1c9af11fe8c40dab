"""A sidecar and the database that it watches, killed at random while sessions are created; every total must be exact.

python tests/watch_campaign/watch_kills.py --creates 100000 --rounds 3 --seed 7
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

if __name__ == "__main__":  # as the tests have it
    sys.path[:0] = [str(path) for path in Path(__file__).resolve().parents[1].iterdir() if path.is_dir()]

from function_callers import FunctionCallers
from kill_campaign import Scraper, say
from postgres_server import Postgres
from session_table import CONFIG, SCOPE, Truth, WatchedTable, causes, counted, reconciled, watching
from sidecar_process import Scrape, Sidecar, environment, until

PROGRAMS: Final = Path("/usr/lib/postgresql")
# Of the creates, so many are made by an application with hooks.
HOOKED_SHARE: Final = 0.2
DOWN_MAX_S: Final = 1.5
WITHIN_S: Final = 900.0
SETTLED_WITHIN_S: Final = 120.0


@dataclass
class Watched:
    """What a round found; `problems` is empty when nothing was missed or counted twice.

    Attributes:
        truth: What is true of the table.
        deeds: What was done to sidecar and database.
        answers: Scrapes that were answered meanwhile.
        took_s: How long all the creates took, and until all was counted after the last.
    """

    truth: Truth
    deeds: Counter[str]
    answers: int
    took_s: tuple[float, float]
    problems: list[str] = field(default_factory=list)


def play(
    home: Path, server: Postgres, *, seed: int, creates: int, kills: int, restarts: int, hold_s: float = 0.0
) -> Watched:
    """Create sessions, kill meanwhile, and compare; to be called by the thread that started the server."""
    table, hooked = WatchedTable(server), round(creates * HOOKED_SHARE)
    calls = FunctionCallers(table.dsn, calls=creates - hooked, seed=seed, hold_s=hold_s)
    with watching(home, table.url()) as sidecar:
        scraper, begun_s = Scraper(sidecar), time.monotonic()
        with scraper.scraping():
            with application(sidecar, table, hooked), calls.calling():
                deeds = disturb(sidecar, server, calls, chance=random.Random(seed), kills=kills, restarts=restarts)
            created_s = time.monotonic()
            truth = table.truth()
            # Else what is wrong is told below.
            with contextlib.suppress(AssertionError):
                until(lambda: not problems(sidecar, truth, hooked), "all is counted", SETTLED_WITHIN_S)
        took_s = (created_s - begun_s, time.monotonic() - created_s)
        outcome = Watched(truth, deeds, scraper.answers, took_s)
        outcome.problems += scraper.problems + problems(sidecar, truth, hooked)
        last = sidecar.scrape()
        assert sidecar.stop() == 0, sidecar.log
        again = sidecar.start().scrape()
        outcome.problems += [f"after a restart: {each}" for each in again.regressions(last)]
        outcome.problems += [f"after a restart: {each}" for each in problems(sidecar, truth, hooked)]
    return outcome


@contextmanager
def application(sidecar: Sidecar, table: WatchedTable, creates: int) -> Iterator[None]:
    """An application that creates sessions with our hooks in it; waited for at the end."""
    config = sidecar.state.parent / "application.yml"
    config.write_text(f"journal: {{directory: {sidecar.journal}}}\n{CONFIG}".replace("{longest}", "1m"), "utf-8")
    script = Path(__file__).with_name("watch_application.py")
    own = ["-m", "session_exporter", "run", "--config.file", str(config), "--", sys.executable, str(script)]
    command, place = [sys.executable, *own, str(creates)], environment(DATABASE_URL=table.url())
    with subprocess.Popen(command, env=place) as process:
        try:
            yield
            code = process.wait(WITHIN_S)
            assert code == 0, f"the application ended with {code}"
        finally:
            process.kill()


def disturb(
    sidecar: Sidecar, server: Postgres, calls: FunctionCallers, *, chance: random.Random, kills: int, restarts: int
) -> Counter[str]:
    """Kill the sidecar, and restart the database, at random points of the work."""
    victims = ["sidecar"] * kills + ["database"] * restarts
    chance.shuffle(victims)
    points = sorted(chance.random() for _ in victims)
    for point, victim in zip(points, victims, strict=True):
        until(lambda share=point: calls.share() >= share, "so much of the work is done", WITHIN_S)
        killed = sidecar if victim == "sidecar" else server
        killed.kill()
        time.sleep(chance.choice((0.0, chance.uniform(0, DOWN_MAX_S))))
        if killed is server:
            server.restart()
        else:
            sidecar.start()
    until(calls.is_over, "all is created", WITHIN_S)
    return Counter(victims)


def problems(sidecar: Sidecar, truth: Truth, hooked: int) -> list[str]:
    """Hold what was counted against the table, and what the hooks must have reported."""
    scrape, totals = sidecar.scrape(), reconciled(sidecar)
    found = counted(scrape)
    # Which create has replaced what is decided once, with what is known by then, and a killed database hides much.
    names = [name for name in Truth._fields if name != "replaced"]
    pairs = {name: (getattr(found, name), getattr(truth, name)) for name in names}
    pairs["duplicates of which nobody saw one"] = (causes(scrape).get("unobserved", 0), truth.duplicates)
    pairs["found"] = (totals.found, truth.rows)
    pairs["reported"] = (totals.reported, hooked)
    pairs["unseen"] = (totals.unseen, truth.rows - hooked)
    wrong = [f"{name}: {one} counted, expected {other}" for name, (one, other) in pairs.items() if one != other]
    return wrong + ([f"events are lost: {scrape.lost()}"] if scrape.lost() else []) + unreported(scrape, totals.unseen)


def unreported(scrape: Scrape, unseen: int) -> list[str]:
    """Until the first hook has reported, nobody could have been expected to."""
    count = scrape.value("session_unreported_creates_total", scope=SCOPE)
    return [] if 0 < count <= unseen else [f"{count:g} are unreported, expected at most the {unseen} unseen ones"]


def tell(outcome: Watched) -> None:
    deeds = ", ".join(f"{count} of {victim}" for victim, count in sorted(outcome.deeds.items())) or "none"
    truth = ", ".join(f"{count} {name}" for name, count in outcome.truth._asdict().items())
    say(f"{truth}; kills: {deeds}; {outcome.answers} scrapes")
    say(f"created in {outcome.took_s[0]:.1f} s, all counted {outcome.took_s[1]:.1f} s later")
    say("\n".join(outcome.problems) or "nothing missed, nothing twice, nothing backwards")


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill a sidecar and the database that it watches; miss nothing.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--creates", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--hold", type=float, default=30.0, metavar="SECONDS", help="of transactions that stay open")
    options = parser.parse_args()
    programs = sorted(PROGRAMS.glob("*/bin"), key=lambda path: float(path.parent.name))
    if not programs:
        parser.error("PostgreSQL is missing; install it with: make servers")
    failed = 0
    for seed in range(options.seed, options.seed + options.rounds):
        say(f"seed {seed}")
        with (
            Postgres(programs[-1], keeps=True) as server,
            tempfile.TemporaryDirectory(prefix="watch-campaign-") as home,
        ):
            kills, restarts = options.kills, options.restarts
            outcome = play(
                Path(home),
                server,
                seed=seed,
                creates=options.creates,
                kills=kills,
                restarts=restarts,
                hold_s=options.hold,
            )
        tell(outcome)
        failed += bool(outcome.problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
