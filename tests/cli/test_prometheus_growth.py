"""What counters grew by, judged from a real Prometheus, against what happened in hundreds of fleets."""

import time

import pytest
from counted_histories import LOOK_BACK_S, History, history
from recorded_prometheus import RecordedPrometheus

from session_exporter.cli import prometheus_growth, prometheus_lives, prometheus_presence
from session_exporter.cli.prometheus import Prometheus
from session_exporter.cli.prometheus_growth import Growth, growth
from session_exporter.cli.prometheus_presence import presence
from session_exporter.cli.prometheus_queries import Selection
from session_exporter.cli.prometheus_sightings import Span

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FLEETS = range(150)


@pytest.fixture(autouse=True)
def look_back(monkeypatch):
    monkeypatch.setattr(prometheus_growth, "LOOK_BACK_S", LOOK_BACK_S)


@pytest.fixture(scope="module")
def histories():
    to_s = float(int(time.time())) - 60
    return [history(number, to_s, shows_births=number % 3 > 0) for number in FLEETS]


@pytest.fixture(scope="module")
def prometheus(require_server, histories):
    lines = [line for each in histories for line in each.lines()]
    with RecordedPrometheus(require_server("prometheus"), require_server("promtool"), lines) as server:
        yield Prometheus.at(server.url)


def grown(prometheus: Prometheus, each: History) -> Growth:
    selection, span = Selection(f'case="{each.name}"'), Span(each.from_s, each.to_s)
    return growth(prometheus, selection, span, presence(prometheus, selection, span))


def counts(found: Growth) -> dict[str, int]:
    return {counted.name.removesuffix("_total"): round(value) for counted, value in found.counts.items()}


def above_zero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize(("pieces", "step_s"), [(prometheus_lives.PIECES, prometheus_presence.STEP_S), (7, 7200.0)])
def test_counts_are_whole_and_true_whatever_happens(prometheus, histories, monkeypatch, pieces, step_s) -> None:
    monkeypatch.setattr(prometheus_lives, "PIECES", pieces)
    monkeypatch.setattr(prometheus_presence, "STEP_S", step_s)
    told = [each for each in histories if each.shows_births]
    assert len(told) > len(FLEETS) / 2
    assert {each.name: counts(grown(prometheus, each)) for each in told} == {
        each.name: above_zero(each.truth()) for each in told
    }


def test_without_births_counts_are_what_the_values_say(prometheus, histories) -> None:
    untold = [each for each in histories if not each.shows_births]
    assert len(untold) > len(FLEETS) / 4
    assert {each.name: counts(grown(prometheus, each)) for each in untold} == {
        each.name: above_zero(each.by_values_alone()) for each in untold
    }
