"""Locks and mappings are inherited by forked children; identities are not."""

import pytest
from journal_workers import Worker, sessions, until

pytestmark = pytest.mark.integration

PREFORK = """
writer = JournalWriter(directory)
writer.register_hook("sqlalchemy", True)
writer.append(fields("parent"))
child = os.fork()
"""


def test_a_parent_that_dies_is_judged_dead_while_its_child_lives(directory, reader):
    code = (
        PREFORK
        + """
if child == 0:
    ready("child")
    wait()
    os._exit(0)
wait()
os._exit(0)
"""
    )
    with Worker(code, directory) as parent:
        assert parent.hear() == "child"
        reader.scan()
        assert reader.workers() == 1
        parent.process.kill()
        parent.process.wait()
        # The child still waits for its line.
        until(lambda: reader.workers() == 0)
        assert sessions(reader) == ["sparent"]


def test_the_parents_lock_survives_the_end_of_its_child(directory, reader):
    code = (
        PREFORK
        + """
if child == 0:
    writer.close()
    sys.exit(0)
os.waitpid(child, 0)
ready()
wait()
writer.append(fields("parent again"))
"""
    )
    with Worker(code, directory) as parent:
        parent.hear()
        assert sessions(reader) == ["sparent"]
        assert reader.workers() == 1
        parent.finish()
        assert sessions(reader) == ["sparent again"]
        assert reader.workers() == 0


def test_parent_and_child_write_segments_of_their_own(directory, reader):
    code = (
        PREFORK
        + """
for number in range(500):
    writer.append(fields("child" if child == 0 else "parent"))
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""
    )
    with Worker(code, directory) as parent:
        parent.finish()
    found = sessions(reader)
    assert (found.count("sparent"), found.count("schild")) == (501, 500)
    controls = {control.writer.id: control for control in reader.controls()}
    assert len(controls) == 2
    assert all(control.hooks == {"sqlalchemy": (True, 0)} for control in controls.values())


def test_a_child_that_was_forked_behind_pythons_back_gets_an_identity_of_its_own(directory, reader):
    code = """
import ctypes
writer = JournalWriter(directory)
writer.append(fields("parent"))
libc = ctypes.PyDLL(None)
child = libc.fork()
if child == 0:
    for number in range(500):
        writer.append(fields("child"))
    os._exit(0)
for number in range(500):
    writer.append(fields("parent"))
os.waitpid(child, 0)
"""
    with Worker(code, directory) as parent:
        parent.finish()
    found = sessions(reader)
    assert (found.count("sparent"), found.count("schild")) == (501, 500)
    assert len(reader.controls()) == 2
    assert reader.malformed == 0


def test_a_kernel_that_cannot_wipe_memory_on_fork_is_asked_for_the_process_id(directory, reader):
    code = """
import ctypes
from session_exporter.journal import forkguard
forkguard._MADV_WIPEONFORK = 12345
writer = JournalWriter(directory)
writer.append(fields("parent"))
assert not writer._wiping
child = ctypes.PyDLL(None).fork()
writer.append(fields("child" if child == 0 else "parent"))
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""
    with Worker(code, directory) as parent:
        parent.finish()
    assert sorted(sessions(reader)) == ["schild", "sparent", "sparent"]
    assert len(reader.controls()) == 2


def test_a_child_inherits_neither_losses_nor_events_set_aside(directory, reader):
    code = """
writer = JournalWriter(directory)
writer.append((2, 1, "x" * 20000))
writer.append(fields("parent"))
child = os.fork()
if child == 0:
    writer.append(fields("child"))
    os._exit(0 if writer.lost() == {} else 1)
assert os.waitpid(child, 0)[1] == 0
assert writer.lost() == {("too_large", "reused"): 1}
"""
    with Worker(code, directory) as parent:
        parent.finish()
    assert sorted(sessions(reader)) == ["schild", "sparent"]


def test_a_fork_inside_of_an_append_leaves_the_parents_segment_to_the_parent(directory, reader):
    code = """
children = []
def clock_us():
    if not children:
        children.append(os.fork())
    return time.time_ns() // 1000
writer = JournalWriter(directory)
for number in range(10):
    writer.append(fields("parent"))
writer._clock_us = clock_us
writer._guard[0] = 1 << 60
writer.append((2, time.time_ns() // 1000, "c", "x" * 16000))
for number in range(20):
    writer.append((2, time.time_ns() // 1000, "c", "y" * 16000))
writer.append(fields("child" if children == [0] else "parent"))
if children == [0]:
    os._exit(0)
os.waitpid(children[0], 0)
"""
    with Worker(code, directory) as parent:
        parent.finish()
    found = sessions(reader)
    assert found.count("sparent") == 11
    assert found.count("schild") == 1
