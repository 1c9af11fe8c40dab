"""Accept headers, friendly and hostile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_exporter.sidecar.negotiation import accepts_gzip, metrics_format


@given(st.text(max_size=300))
def test_no_accept_header_is_refused_or_makes_up_a_format(accept: str) -> None:
    assert metrics_format(metrics_format(accept)) == metrics_format(accept)
    assert metrics_format(accept) in {
        "application/openmetrics-text; version=1.0.0",
        "text/plain; version=1.0.0",
        "text/plain; version=0.0.4",
    }
    assert accepts_gzip(accept) in {True, False}


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("GZIP, deflate", True),
        ("x-gzip", True),
        ("*", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=1, identity;q=0.5", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity", False),
    ],
)
def test_gzip_is_used_when_the_client_takes_it(accept_encoding: str, expected: object) -> None:
    assert accepts_gzip(accept_encoding) == expected
