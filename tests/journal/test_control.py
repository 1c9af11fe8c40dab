import pytest

from session_exporter.core.events import Writer
from session_exporter.journal.control import (
    CONTROL_BYTES,
    BadControl,
    ControlBlock,
    pack_control,
    parse_control,
)
from session_exporter.journal.frame import LOST_KINDS, LOST_REASONS


def parsed(block):
    raw = bytearray(bytes(block.words))
    start = pack_control(Writer("w", "r", 7), 5)
    assert not any(raw[: len(start)])
    raw[: len(start)] = start
    return parse_control(bytes(raw), alive=True)


def test_every_count_has_a_place_of_its_own():
    block = ControlBlock()
    expected = {}
    for row, reason in enumerate(LOST_REASONS):
        for column, kind in enumerate(LOST_KINDS):
            expected[reason, kind] = times = 1 + (row * 8 + column) % 3
            for _ in range(times):
                block.count_lost(reason, column)
    for number in range(32):
        block.set_hook(f"hook-{number}", active=bool(number % 2))
        block.count_hook_error(f"hook-{number}")
    control = parsed(block)
    assert control.lost == expected == block.lost()
    assert control.hooks == {f"hook-{number}": (bool(number % 2), 1) for number in range(32)}
    assert (control.writer, control.started_at_us, control.alive) == (Writer("w", "r", 7), 5, True)


def test_counts_are_added_to_those_of_another_block():
    one, two = ControlBlock(), ControlBlock()
    for block in (one, two):
        block.count_lost("disk_full", 1)
        block.set_hook("h", active=True)
    one.count_hook_error("h")
    one.set_hook("only here", active=True)
    two.declare_hooks_of(one)
    two.add_counts_of(one)
    assert parsed(two).lost == {("disk_full", "created"): 2}
    assert parsed(two).hooks == {"h": (True, 1), "only here": (True, 0)}


def test_a_name_too_long_is_cut_at_a_characters_end():
    block = ControlBlock()
    block.set_hook("aü" * 20, active=True)
    assert list(parsed(block).hooks) == ["aü" * 10 + "a"]


@pytest.mark.parametrize("raw", [b"", bytes(CONTROL_BYTES), b"SXCTRL1\n\x02".ljust(CONTROL_BYTES, b"\0")])
def test_what_is_no_control_block_of_this_version_is_refused(raw):
    with pytest.raises(BadControl, match="expected"):
        parse_control(raw, alive=False)
