import pytest

from session_exporter.cli.prometheus_queries import (
    AMONG_MAX,
    CENSUS,
    COUNTERS,
    EXPORTER_CENSUS,
    EXPORTER_COUNTERS,
    OWN_LABELS,
    Selection,
    over,
    quoted,
    read_matchers,
    target_of,
)
from session_exporter.core.totals import LedgerTotals, ScopeTotals
from session_exporter.sidecar.exposition import METRICS, SHOWN
from session_exporter.sidecar.snapshot import ExporterTotals, Snapshot

BY_NAME = {metric.name: metric for metric in METRICS}


def test_the_counters_are_those_that_sidecars_expose_with_their_labels_and_words() -> None:
    snapshot = Snapshot(LedgerTotals(scopes={"web": ScopeTotals()}), 0, ExporterTotals())
    for name, counter in COUNTERS.items():
        source = BY_NAME[name].source
        assert source.labels == ("scope", *counter.labels)
        assert {"/".join(row.labels[1:]) for row in source.rows(snapshot)} == set(counter.words or ("",))


def test_labels_of_our_own_tell_no_instances_apart() -> None:
    names = (*COUNTERS, *EXPORTER_COUNTERS, *CENSUS, EXPORTER_CENSUS)
    assert {label for name in names for label in BY_NAME[name].source.labels} == set(OWN_LABELS)


def test_everybody_says_that_they_are_there() -> None:
    assert all(EXPORTER_CENSUS in {metric.name for metric in metrics} for metrics in SHOWN.values())


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ('namespace="shop"', 'namespace="shop"'),
        ('{namespace="shop"}', 'namespace="shop"'),
        (" { a = \"b\" , c!~'d|e', } ", "a = \"b\",c!~'d|e'"),
        (r'a=~"x\"}y"', r'a=~"x\"}y"'),
    ],
)
def test_matchers_are_read_with_and_without_braces(typed: str, read: str) -> None:
    assert read_matchers(typed) == read


@pytest.mark.parametrize(
    "typed", ["", "{}", "up", 'a="b', 'a="b" c="d"', "a=b", 'a="b"} or {c="d"', 'a="b"\n\x00', '1a="b"']
)
def test_what_is_no_matcher_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="expected label matchers"):
        read_matchers(typed)


def test_a_text_is_quoted_whatever_it_holds() -> None:
    assert quoted('a"b\\c\nd\x1b') == '"a\\"b\\\\c\\nd\x1b"'


def test_a_range_is_never_empty() -> None:
    assert (over(0), over(1.5), over(604_800)) == ("[1ms]", "[1500ms]", "[604800000ms]")


def test_a_selection_narrows_by_scope_matchers_and_instance() -> None:
    selection = Selection('ns="shop"', 'we"b')
    assert selection.of_scopes(["a", "b"]) == r'{__name__=~"a|b",scope="we\"b",ns="shop"}'
    assert selection.of_exporters(["up"]) == '{__name__="up",ns="shop"}'
    assert Selection().of_scopes(["a"]) == '{__name__="a",scope!=""}'
    target = target_of({"instance": "h:1", "job": "j", "scope": "x", "__name__": "a", "k8s.pod": "p"})
    assert target == (("instance", "h:1"), ("job", "j"), ("k8s.pod", "p"))
    assert selection.at(target).of_exporters(["up"]) == '{__name__="up",ns="shop",instance="h:1",job="j"}'
    assert selection.among([target]).of_exporters(["up"]) == '{__name__="up",ns="shop",instance=~"h:1"}'
    many = [(("instance", str(number)),) for number in range(AMONG_MAX + 1)]
    assert selection.among(many) == selection
