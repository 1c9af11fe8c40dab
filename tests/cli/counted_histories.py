"""Fleets as they may be: sidecars that come, go, move, restart, lose their state, and are scraped, or are not.

A history is made of what happened: events, by the state that counted them, and which instance showed which state when.
What a report must say follows from that alone. What Prometheus has is derived from it as well, on another way.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from recorded_prometheus import Line

SCOPE = "conversation"
HOUR_S = 3600.0
# How far before a window is looked, so that some histories begin before that.
LOOK_BACK_S = 3 * HOUR_S
SLACK_S = 300.0
# A few of the counters; all are asked for in one way.
COUNTED = {
    "session_creates": {},
    "session_reuses": {},
    "session_rapid_duplicate_creates": {"cause": "same_worker"},
}


@dataclass
class State:
    """What counts: since when, and what happened, by counter and in order."""

    born_s: float
    events: dict[str, list[float]]

    def count(self, name: str, until_s: float) -> int:
        return bisect_right(self.events[name], until_s)


@dataclass
class Stay:
    """An instance shows a state; `scrapes_s` are the times at which Prometheus looked."""

    instance: str
    state: State
    scrapes_s: list[float]


@dataclass
class History:
    """A fleet over time, and the window that is asked about."""

    name: str
    from_s: float
    to_s: float
    shows_births: bool
    stays: list[Stay] = field(default_factory=list)

    def lines(self) -> Iterator[Line]:
        for instance in {stay.instance for stay in self.stays}:
            own = sorted(
                (stay for stay in self.stays if stay.instance == instance), key=lambda stay: stay.scrapes_s[:1]
            )
            target = {"instance": instance, "job": "session-exporter", "case": self.name}
            for name, words in COUNTED.items():
                counts = [(at_s, float(stay.state.count(name, at_s))) for stay in own for at_s in stay.scrapes_s]
                yield {"__name__": f"{name}_total", "scope": SCOPE, **words, **target}, counts
            ones = [(at_s, 1.0) for stay in own for at_s in stay.scrapes_s]
            yield {"__name__": "session_exporter_config_last_reload_successful", **target}, ones
            if self.shows_births:
                births = [(at_s, stay.state.born_s) for stay in own for at_s in stay.scrapes_s]
                yield {"__name__": "session_creates_created", "scope": SCOPE, **target}, births
                loss = {"reason": "malformed", "kind": "unknown"}
                earlier = [(at_s, born_s - 0.05) for at_s, born_s in births]
                yield {"__name__": "session_exporter_events_lost_created", **loss, **target}, earlier

    def truth(self) -> dict[str, int]:
        """What was counted in the window, as far as Prometheus can have seen it."""
        states = {id(stay.state): stay.state for stay in self.stays}
        return {name: sum(self._grown(state, name) for state in states.values()) for name in COUNTED}

    def _grown(self, state: State, name: str) -> int:
        stays = [stay for stay in self.stays if stay.state is state]
        looks = sorted(at_s for stay in stays for at_s in stay.scrapes_s)
        within = [at_s for at_s in looks if self.from_s <= at_s <= self.to_s]
        if not within:
            return 0
        return state.count(name, within[-1]) - self._before(state, name, stays, looks, within[0])

    def _before(self, state: State, name: str, stays: list[Stay], looks: list[float], first_s: float) -> int:
        before = [at_s for at_s in looks if self.from_s - LOOK_BACK_S <= at_s <= self.from_s]
        if before:
            return state.count(name, before[-1])
        if state.born_s >= self.from_s - SLACK_S or self._took_over(state, stays, first_s):
            return 0
        return state.count(name, first_s)

    def _took_over(self, state: State, stays: list[Stay], first_s: float) -> bool:
        """Whether it began anew, while nobody looked, at an instance that had been seen before."""
        there = {stay.instance for stay in stays if first_s in stay.scrapes_s}
        seen = any(
            self.from_s - LOOK_BACK_S <= at_s <= self.from_s
            for stay in self.stays
            if stay.instance in there
            for at_s in stay.scrapes_s
        )
        return seen and state.born_s >= self.from_s - LOOK_BACK_S

    def by_values_alone(self) -> dict[str, int]:
        """What is to be had where nobody says when counting began: sums over what each series did."""
        return {name: round(sum(self._climbed(instance, name) for instance in self._instances())) for name in COUNTED}

    def _instances(self) -> set[str]:
        return {stay.instance for stay in self.stays}

    def _climbed(self, instance: str, name: str) -> float:
        samples = sorted(
            (at_s, stay.state.count(name, at_s))
            for stay in self.stays
            if stay.instance == instance
            for at_s in stay.scrapes_s
            if self.from_s - LOOK_BACK_S <= at_s <= self.to_s
        )
        values = [value for at_s, value in samples if at_s > self.from_s]
        before = [value for at_s, value in samples if at_s <= self.from_s][-1:] or values[:1]
        pairs = zip([*before, *values], values, strict=False)
        return sum(after - earlier if after >= earlier else after for earlier, after in pairs)


def history(number: int, to_s: float, *, shows_births: bool) -> History:
    """One of any number of fleets, the same for the same number."""
    chance = random.Random(number)
    window_s = chance.choice((HOUR_S, 4 * HOUR_S, 11 * HOUR_S))
    interval_s = max(15.0, window_s / 240)
    made = History(f"{number}", to_s - window_s, to_s, shows_births)
    begins_s = made.from_s - window_s * chance.choice((0.1, 0.6, 1.0))
    for place in range(chance.randint(1, 4)):
        instance, at_s = f"web-{place}:9897", begins_s
        if chance.random() < 0.4:  # found, or started, later
            at_s += chance.random() * (to_s - begins_s)
        state = _state(chance, at_s - chance.choice((0.0, 1.0, 30.0, window_s)), to_s)
        while at_s < to_s:
            until_s = at_s + chance.expovariate(1 / (window_s * 0.5))
            made.stays.append(Stay(instance, state, _scrapes(chance, at_s, min(until_s, to_s), interval_s)))
            at_s = until_s + chance.choice((1.0, interval_s, 5 * interval_s, window_s * 0.2))
            what = chance.choice(("kept", "kept", "lost", "moved", "gone"))
            if what == "gone":
                break
            if what == "lost":
                state = _state(chance, chance.uniform(until_s, at_s), to_s)
            if what == "moved":
                instance += "'"
        if shows_births and chance.random() < 0.4:  # two jobs scrape it
            last = made.stays[-1]
            made.stays.append(
                Stay(f"again-{place}", last.state, [each + 1.3 for each in last.scrapes_s if each + 1.3 <= to_s])
            )
    made.stays = [stay for stay in made.stays if stay.scrapes_s]
    return made


def _state(chance: random.Random, born_s: float, to_s: float) -> State:
    born_s = round(born_s, 3) + chance.randint(0, 999) / 1e6
    rates = {"session_creates": 30, "session_reuses": 200, "session_rapid_duplicate_creates": 1.5}
    spread_s = to_s - born_s
    return State(
        born_s,
        {
            name: sorted(born_s + chance.random() * spread_s for _ in range(int(chance.expovariate(1 / rate))))
            for name, rate in rates.items()
        },
    )


def _scrapes(chance: random.Random, from_s: float, to_s: float, interval_s: float) -> list[float]:
    at_s, found = from_s + chance.random() * interval_s, []
    gap_s = chance.uniform(from_s, to_s) if chance.random() < 0.3 else to_s
    while at_s < to_s:
        if not gap_s < at_s < gap_s + 12 * interval_s:  # Prometheus was away
            found.append(round(at_s, 3))
        at_s += interval_s
    return found
