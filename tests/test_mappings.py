"""The values of a column that `active` names, however a driver or a statement gives them."""

from enum import Enum, StrEnum

import pytest

from session_exporter.mappings import is_value_among, value_texts


class Status(Enum):
    OPEN = "active"


class TextStatus(StrEnum):
    OPEN = "active"


@pytest.mark.parametrize(
    ("named", "seen"),
    [
        ("active", "active"),
        ("active", b"active"),
        ("active", Status.OPEN),
        ("OPEN", Status.OPEN),
        ("active", TextStatus.OPEN),
        (Status.OPEN, "OPEN"),
        (Status.OPEN, "active"),
        (None, None),
        (1, 1),
        (1, True),
        (1, "1"),
        (True, True),
        (True, 1),
        (False, 0),
        (True, "true"),
    ],
)
def test_a_value_is_recognised_in_every_form_that_a_column_gives_it(named: object, seen: object) -> None:
    assert is_value_among(seen, value_texts([named]))


@pytest.mark.parametrize(
    ("named", "seen"),
    [("active", "Active"), ("active", None), (True, False), (True, 0), (False, None), (1, 10), (None, ""), ("", None)],
)
def test_another_value_is_not_taken_for_it(named: object, seen: object) -> None:
    assert not is_value_among(seen, value_texts([named]))
