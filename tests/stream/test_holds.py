"""Verdicts wait for forwarders that may still send something older, not for ever, and not for those who cannot."""

from collections import deque

import pytest
from consuming import START_US
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.stream.entries import VERSION, Presence
from session_exporter.stream.holds import CAUGHT_UP_US, FORGOTTEN_US, Holds

SECOND_US = 1_000_000
PATIENCE_US = 15 * SECOND_US
FORWARDERS = ("f", "g", "h")


def presence(complete_us: int, at_us: int = START_US) -> Presence:
    return Presence(VERSION, "pod", at_us, complete_us)


class World:
    """Forwarders with what they have not sent, the stream, and one consumer that reads it entry by entry.

    All that happens takes less than the consumer's patience, so that it waits for everybody.
    """

    def __init__(self) -> None:
        self.now_us = START_US
        self.unsent: dict[str, list[int]] = {name: [] for name in FORWARDERS}
        self.stream: deque[tuple[str, list[int], int, int]] = deque()
        self.announced: dict[str, Presence] = {}
        self.seen: set[str] = set()
        self.holds = Holds(PATIENCE_US)

    def happen(self, name: str) -> None:
        self.unsent[name].append(self.now_us)

    def send(self, name: str, count: int, pieces: int, stalled_us: int = 0) -> None:
        self.announce(name)
        times, self.unsent[name] = self.unsent[name][:count], self.unsent[name][count:]
        behind_us = self.unsent[name][0] if self.unsent[name] else 0
        if stalled_us:
            self.happen(name)
            self.now_us += stalled_us
        for at in range(0, len(times), pieces):
            self.stream.append((name, times[at : at + pieces], self.now_us, behind_us))

    def announce(self, name: str) -> None:
        unsent = self.unsent[name]
        self.announced.setdefault(name, presence(unsent[0] if unsent else self.now_us))

    def say(self, name: str) -> None:
        self.announced.pop(name, None)
        self.announce(name)

    def take(self) -> None:
        if self.stream:
            name, times, sent_us, behind_us = self.stream.popleft()
            self.holds.pass_time(sent_us)
            self.holds.hear(name, (times[0], times[-1]), sent_us, behind_us)

    def settle(self) -> None:
        while self.stream:
            self.take()
        self.holds.pass_time(self.now_us)
        self.holds.conclude()
        self.holds.see(self.announced, self.now_us)
        self.seen.update(self.announced)

    def check(self) -> None:
        from_us = self.holds.from_us()
        assert (from_us is None) <= (not self.seen)
        for name in self.seen:
            sent = [time_us for each, times, _, _ in self.stream if each == name for time_us in times]
            assert from_us is not None
            assert from_us <= min([*self.unsent[name], *sent], default=from_us), name


steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(0, 400_000)),
        st.tuples(st.just("happen"), st.sampled_from(FORWARDERS)),
        st.tuples(
            st.just("send"),
            st.sampled_from(FORWARDERS),
            st.integers(1, 5),
            st.integers(1, 2),
            st.sampled_from([0, 300_000]),
        ),
        st.tuples(st.just("say"), st.sampled_from(FORWARDERS)),
        st.tuples(st.just("take")),
        st.tuples(st.just("settle")),
    ),
    max_size=35,
)


@given(steps)
def test_verdicts_wait_for_all_that_somebody_known_has_still_to_send(steps) -> None:
    world = World()
    for name, *how in steps:
        if name == "pass":
            world.now_us += how[0]
        else:
            getattr(world, name)(*how)
        world.check()


@given(steps)
def test_verdicts_do_not_wait_when_all_have_sent_everything_and_said_so(steps) -> None:
    world = World()
    for name, *how in steps:
        if name == "pass":
            world.now_us += how[0]
        else:
            getattr(world, name)(*how)
    for name in FORWARDERS:
        world.send(name, 100, 1)
        world.say(name)
    world.settle()
    assert world.holds.from_us() == world.now_us
    assert world.holds.held_us() == 0


@pytest.fixture
def holds() -> Holds:
    holds = Holds(PATIENCE_US)
    holds.pass_time(START_US)
    return holds


def wait(holds: Holds, seconds: int, begin_us: int = START_US) -> int:
    """Let time pass while Redis is there; returns what its clock shows then."""
    for second in range(seconds + 1):
        holds.pass_time(begin_us + second * SECOND_US)
    return begin_us + seconds * SECOND_US


def test_nobody_is_waited_for_before_anybody_has_said_something(holds) -> None:
    assert holds.from_us() is None
    assert holds.held_us() == 0


def test_a_silent_forwarder_is_waited_for_until_patience_ends(holds) -> None:
    holds.see({"f": presence(START_US - 500)})
    now_us = wait(holds, 15)
    assert (holds.from_us(), holds.held_us()) == (START_US - 500, PATIENCE_US)
    holds.pass_time(now_us + 1)
    assert (holds.from_us(), holds.held_us()) == (None, 0)


def test_one_that_was_given_up_is_waited_for_again_when_it_is_back(holds) -> None:
    holds.see({"f": presence(START_US)})
    now_us = wait(holds, 20)
    assert holds.from_us() is None
    holds.see({"f": presence(START_US + 1, now_us)})
    assert holds.from_us() == START_US + 1


def test_one_that_comes_forward_slowly_is_waited_for_as_long_as_it_does(holds) -> None:
    now_us = START_US
    for second in range(60):
        holds.see({"f": presence(START_US + second, now_us)})
        now_us = wait(holds, 5, now_us)
        assert holds.from_us() == START_US + second
    assert holds.held_us() == 5 * SECOND_US


def test_time_without_redis_is_no_silence(holds) -> None:
    holds.see({"f": presence(START_US)})
    holds.pass_time(START_US + 3600 * SECOND_US)
    assert holds.from_us() == START_US


def test_one_that_takes_leave_is_not_waited_for(holds) -> None:
    holds.see({"f": presence(START_US), "g": presence(START_US + 7)})
    holds.see({"g": presence(START_US + 7)}, START_US)
    assert holds.from_us() == START_US + 7


def test_one_that_is_not_read_of_yet_has_not_taken_leave(holds) -> None:
    holds.see({"f": presence(START_US), "g": presence(START_US + 7)})
    holds.see({"g": presence(START_US + 8)})
    assert holds.from_us() == START_US


def test_what_redis_has_forgotten_is_no_leave_taking(holds) -> None:
    holds.see({"f": presence(START_US)})
    holds.reconnect()
    holds.see({}, START_US)
    assert holds.from_us() == START_US - FORGOTTEN_US
    wait(holds, 16)
    assert holds.from_us() is None
    assert not holds._senders


def test_what_was_complete_may_be_no_longer_when_redis_has_forgotten_some_of_it(holds) -> None:
    holds.see({"f": presence(START_US)})
    holds.reconnect()
    holds.see({"f": presence(START_US - 50 * SECOND_US)})
    assert holds.from_us() == START_US - 50 * SECOND_US
    holds.see({"f": presence(START_US - 51 * SECOND_US)})
    assert holds.from_us() == START_US - 50 * SECOND_US


def test_a_round_of_somebody_unknown_is_waited_for_until_it_is_taken_in_entirely(holds) -> None:
    holds.hear("f", (START_US - 100, START_US - 100), START_US, 0)
    assert holds.from_us() == 0
    holds.hear("f", (START_US - 150, START_US - 50), START_US, 0)
    assert holds.from_us() == 0
    holds.conclude()
    assert holds.from_us() is None


def test_the_next_round_says_that_the_one_before_is_taken_in(holds) -> None:
    holds.hear("f", (START_US - 100, START_US - 100), START_US, START_US - 70)
    holds.hear("f", (START_US - 70, START_US - 70), START_US + 1, START_US - 40)
    assert holds.from_us() == START_US - 70
    holds.hear("f", (START_US - 40, START_US - 40), START_US + 2, 0)
    assert holds.from_us() == START_US - 40
    holds.conclude()
    assert holds.from_us() is None


def test_one_that_is_caught_up_sends_nothing_older_than_it_has_sent(holds) -> None:
    holds.see({"f": presence(START_US - 60 * SECOND_US)})
    holds.hear("f", (START_US - 60 * SECOND_US, START_US - 5), START_US, 0)
    holds.hear("f", (START_US - 50 * SECOND_US, START_US - 6), START_US, 0)
    holds.conclude()
    assert holds.from_us() == START_US - 5


def test_one_that_was_caught_up_a_moment_ago_sends_nothing_much_older(holds) -> None:
    holds.see({"f": presence(START_US - 60 * SECOND_US)})
    holds.hear("f", (START_US - 60 * SECOND_US, START_US - 60 * SECOND_US), START_US, 0)
    holds.conclude()
    assert holds.from_us() == START_US - CAUGHT_UP_US


def test_one_that_was_behind_and_is_on_no_roster_any_more_is_not_waited_for(holds) -> None:
    holds.hear("killed", (START_US - 100, START_US - 90), START_US, START_US - 80)
    holds.conclude()
    holds.see({}, START_US + SECOND_US)
    assert holds.from_us() == START_US - 80, "its announcement may be younger than the roster"
    holds.see({}, START_US + SECOND_US + 1)
    assert holds.from_us() is None


def test_an_event_of_the_future_says_nothing_of_those_to_come(holds) -> None:
    holds.see({"f": presence(START_US - 60 * SECOND_US)})
    holds.hear("f", (START_US, START_US + 3600 * SECOND_US), START_US, 0)
    holds.conclude()
    assert holds.from_us() == START_US


def test_of_many_who_come_and_go_nothing_stays(holds) -> None:
    for number in range(1000):
        holds.hear(f"f-{number}", (START_US, START_US), START_US + number, 0)
        holds.conclude()
        holds.see({f"g-{number}": presence(START_US)}, START_US + number)
    assert len(holds._senders) == 1
    assert holds.from_us() == START_US
    assert len(holds._order) < 100


def test_of_one_that_comes_forward_while_another_is_stuck_nothing_stays(holds) -> None:
    holds.see({"stuck": presence(START_US), "f": presence(START_US)})
    for number in range(1000):
        holds.see({"stuck": presence(START_US), "f": presence(START_US + number)})
        assert holds.from_us() == START_US
    assert len(holds._order) < 100
