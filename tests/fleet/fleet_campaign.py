"""Six replicas, three consumers and a Redis, all killed at random; afterwards every total must be the oracle's.

python tests/fleet/fleet_campaign.py --rounds 10 --seed 7
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any, Final

if __name__ == "__main__":  # as the tests have it
    sys.path[:0] = [str(path) for path in Path(__file__).resolve().parents[1].iterdir() if path.is_dir()]

from fleet_processes import Fleet, Found, Onlooker, fleet_of
from fleet_truth import METRICS, by_one_ledger, by_oracle, differences
from fleet_writing import Recorders, write_beforehand
from histories import LIVE, PAST, Circle, Pace, circles
from sidecar_process import until

EVENTS: Final = 200_000
# All recorders have begun by then.
BEGIN_IN_US: Final = 500_000
# A worker appends an event a moment after it has read the clock.
SLACK_US: Final = 10_000
DOWN_MAX_S: Final = 1.5
VICTIMS: Final = ("forwarder", "forwarder", "forwarder", "consumer", "consumer", "redis")
# A power failure costs what Redis acknowledged in its last second.
FORGOTTEN_S: Final = 1.0
TICK_S: Final = 0.05
# What is written beforehand is over by then, and has expired.
SINCE_US: Final = 6 * 3_600_000_000
FORWARDED: Final = "session_exporter_forwarded_events_total"
RACES: Final = "/api/v1/incidents?kind=rapid_duplicate_create&limit=1000"

Disturb = Callable[[Fleet, Recorders, random.Random], Counter[str]]


@dataclass
class Outcome:
    """What a round found; `problems` is empty when nothing was lost, counted twice, or judged otherwise.

    Attributes:
        events: How many were recorded.
        deeds: What was done to the fleet.
        writers: What the workers of each replica say of their recording.
        scrapes_s: How long each scrape of a consumer took meanwhile.
        drained_s: From the last event until all was counted and had expired.
    """

    events: int
    deeds: Counter[str]
    writers: list[dict[str, Any]]
    scrapes_s: list[float]
    drained_s: float
    problems: list[str] = field(default_factory=list)


def play(home: Path, redis_program: str, *, seed: int, disturb: Disturb, events: int = EVENTS) -> Outcome:
    """Record a history through a fleet, and compare."""
    history = circles(seed, events, LIVE)
    with (
        fleet_of(home, redis_program, LIVE.config()) as fleet,
        Recorders.working(home, fleet.journals, history, slack_us=SLACK_US) as recorders,
    ):
        onlooker = Onlooker(fleet.consumers)
        with onlooker.looking():
            fleet.start()
            begin_us = time.time_ns() // 1000 + BEGIN_IN_US
            recorders.begin(begin_us)
            deeds = disturb(fleet, recorders, random.Random(seed))
            told, writers = recorders.results(begin_us)
            ended_s = time.monotonic()
            fleet.start()
            truth = Truth(told, LIVE)
            found = fleet.drained(sum(len(circle.told) for circle in told))
            drained_s = time.monotonic() - ended_s
        outcome = Outcome(found.events(), deeds, writers, onlooker.took_s, drained_s)
        outcome.problems += onlooker.problems
        outcome.problems += truth.problems(found)
        outcome.problems += [f"{replica} lost {lost}" for replica, lost in fleet.lost().items()]
        outcome.problems += races_over_replicas(fleet)
        outcome.problems += [f"a worker dropped {each['lost']}" for each in writers if each["lost"]]
        recorders.leave()
        outcome.problems += restarted_in_order(fleet, found)
    return outcome


class Truth:
    """What must have been counted of what was recorded.

    Args:
        told: What was recorded.
        pace: Of the history.
    """

    def __init__(self, told: Sequence[Circle], pace: Pace) -> None:
        self._by_oracle, self._by_one_ledger = by_oracle(told, pace), by_one_ledger(told, pace)
        # A ledger remembers only so many ids that it has compared; a fleet remembers more.
        self._alike = METRICS - {"session_ids_checked_total"}

    def problems(self, found: Found, *, ids_checked: bool = True) -> list[str]:
        """Hold what consumers have counted against it; in sentences.

        Args:
            found: What they expose.
            ids_checked: Whether it took so little time that no id was forgotten.
        """
        known = {key[0] for key in self._by_oracle} & (METRICS if ids_checked else self._alike)
        wrong = [f"by the oracle: {each}" for each in differences(found.counts, self._by_oracle, known)]
        wrong += [f"by one ledger: {each}" for each in differences(found.counts, self._by_one_ledger, self._alike)]
        return [*wrong, *([f"{found.late} events were late"] if found.late else [])]


def count_later(home: Path, redis_program: str, *, seed: int, events: int = EVENTS) -> Outcome:
    """Write a history of hours down first, and only then have it forwarded, and counted last of all.

    By one forwarder: of several, who is late with what is hours old cannot be waited for by whoever has never heard of
    it.
    """
    history = circles(seed, events, PAST)
    with fleet_of(home, redis_program, PAST.config(), replicas=1) as fleet:
        told = write_beforehand(history, fleet.journals, time.time_ns() // 1000 - SINCE_US)
        truth = Truth(told, PAST)
        total = sum(len(circle.told) for circle in told)
        fleet.forwarders[0].start().scrape_until(lambda scrape: scrape.total(FORWARDED) == total, "all is sent")
        begun_s = time.monotonic()
        fleet.start()
        found = fleet.drained(total)
        outcome = Outcome(found.events(), Counter(), [], [], time.monotonic() - begun_s)
        outcome.problems += truth.problems(found, ids_checked=False)
        outcome.problems += [f"{replica} lost {lost}" for replica, lost in fleet.lost().items()]
        outcome.problems += restarted_in_order(fleet, found)
    return outcome


def restarted_in_order(fleet: Fleet, found: Found) -> list[str]:
    """Stop all as they should be, and look at what the next start of the consumers makes of it."""
    codes = fleet.stop()
    problems = [f"exit codes {codes}: {fleet.last_words()}"] if any(codes) else []
    for consumer in fleet.consumers:
        consumer.start()
    again = Found(fleet.scrapes())
    return problems + [f"after a restart: {each}" for each in differences(again.counts, found.counts, METRICS)]


def races_over_replicas(fleet: Fleet) -> list[str]:
    """Look at what is told of races over replicas: it has to name both."""
    races = [race for consumer in fleet.consumers for race in consumer.json(RACES)["incidents"]]
    over_replicas = [race for race in races if race["cause"] == "cross_replica"]
    replicas = [{create["replica"] for create in race["creates"][-2:]} for race in over_replicas]
    problems = [f"a race over replicas names {sorted(names)}" for names in replicas if len(names) != 2]
    return problems if over_replicas else ["no race over replicas is told of"]


# What happens to a fleet meanwhile.


def leave_alone(_fleet: Fleet, recorders: Recorders, _chance: random.Random) -> Counter[str]:
    """Nothing."""
    until(recorders.ended, "all is recorded", 600.0)
    return Counter()


def kill_at_random(fleet: Fleet, recorders: Recorders, chance: random.Random) -> Counter[str]:
    """Kill one after the other, wherever it is in its work, and start it again soon."""
    deeds: Counter[str] = Counter()
    while not recorders.ended():
        victim = chance.choice(VICTIMS)
        if victim == "redis":
            deeds[_crash(fleet, chance)] += 1
        else:
            process = chance.choice(fleet.forwarders if victim == "forwarder" else fleet.consumers)
            process.kill()
            _wait(recorders, chance.choice((0.0, chance.uniform(0, DOWN_MAX_S))))
            process.start()
            deeds[victim] += 1
        _wait(recorders, chance.uniform(0, DOWN_MAX_S))
    return deeds


def _crash(fleet: Fleet, chance: random.Random) -> str:
    """Kill Redis, or have its host crash: what was not on its disk is gone."""
    if chance.random() < 0.5:
        fleet.redis.kill()
        time.sleep(chance.uniform(0, DOWN_MAX_S))
        fleet.redis.restart()
        return "redis"
    synced_bytes = fleet.redis.kept_bytes()
    time.sleep(chance.uniform(0, FORGOTTEN_S))
    fleet.redis.kill()
    fleet.redis.forget_after(synced_bytes)
    fleet.redis.restart()
    return "redis, which forgot"


def take_redis_away(seconds: float) -> Disturb:
    """Have Redis gone for so long under load; scrapes go on answering."""

    def disturb(fleet: Fleet, recorders: Recorders, _chance: random.Random) -> Counter[str]:
        _wait(recorders, 5.0)
        fleet.redis.kill()
        gone_s = time.monotonic()
        while time.monotonic() - gone_s < seconds:
            for process in fleet.processes():
                assert process.answer() is not None, "no answer while Redis was away"
            _wait(recorders, 1.0)
        fleet.redis.restart()
        leave_alone(fleet, recorders, _chance)
        return Counter({f"redis away for {seconds:g} s": 1})

    return disturb


def _wait(recorders: Recorders, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not recorders.ended():
        time.sleep(TICK_S)


def say(text: str) -> None:
    """Print at once: a long campaign is watched, or piped."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def tell(outcome: Outcome) -> None:
    deeds = ", ".join(f"{count} of {deed}" for deed, count in sorted(outcome.deeds.items())) or "nothing happened"
    say(f"{outcome.events} events; {deeds}; counted {outcome.drained_s:.1f} s later")
    if outcome.writers:
        p99_us, slowest_us = (max(each[name] for each in outcome.writers) for name in ("p99", "max"))
        belated = sum(len(each["belated"]) for each in outcome.writers)
        say(f"a worker's call took {p99_us:.1f} µs at the 99th percentile, {slowest_us:.0f} µs at most")
        say(f"{belated} events could not be recorded at their time, and happened later")
        scrapes_ms = [1000 * each for each in sorted(outcome.scrapes_s)]
        p50_ms, p99_ms = (scrapes_ms[len(scrapes_ms) * part // 100] for part in (50, 99))
        say(f"{len(scrapes_ms)} scrapes: p50 {p50_ms:.0f} ms, p99 {p99_ms:.0f} ms, the slowest {scrapes_ms[-1]:.0f} ms")
    say("\n".join(outcome.problems) or "nothing lost, nothing twice, nothing judged otherwise")


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill a fleet at random points; lose, repeat and misjudge nothing.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--outage", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--only", choices=("kills", "outage", "quiet", "later"))
    options = parser.parse_args()
    program = which("redis-server")
    if program is None:
        parser.error("redis-server is missing; install it with: make servers")
    plays = {"quiet": leave_alone, "outage": take_redis_away(options.outage), "kills": kill_at_random}
    wanted = [options.only] * options.rounds if options.only else ["later", *plays, *["kills"] * options.rounds]
    failed = 0
    for number, name in enumerate(wanted):
        seed = options.seed + number
        say(f"{name}, seed {seed}")
        with tempfile.TemporaryDirectory(prefix="fleet-campaign-") as home:
            if name == "later":
                outcome = count_later(Path(home), program, seed=seed, events=options.events)
            else:
                outcome = play(Path(home), program, seed=seed, disturb=plays[name], events=options.events)
        tell(outcome)
        failed += bool(outcome.problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
