"""Any process may be killed at any instant: nothing is lost that was recorded, nothing is read twice."""

import random
from collections import Counter

import pytest
from journal_workers import Worker, batches, until

from session_exporter.journal import JournalReader

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Says a number only after its event is recorded: what was said must be read, at most one more may be.
WRITER = """
writer = JournalWriter(directory, limits=JournalLimits(segment_bytes=4096, worker_limit_bytes=1 << 30))
for number in range(1_000_000):
    writer.append(fields(number))
    sys.stdout.write(f"{number}\\n")
    if number % 50 == 0:
        sys.stdout.flush()
"""

# Commits positions and counts together by one rename, as a sidecar does by one transaction.
READER = """
import msgspec
state = Path(str(directory) + ".state")
def load():
    try:
        counts, positions = msgspec.msgpack.decode(state.read_bytes())
        return counts, {(writer, seq): offset for writer, seq, offset in positions}
    except FileNotFoundError:
        return {}, {}
counts, positions = load()
reader = JournalReader(directory, positions)
reader.lock()
ready()
while True:
    reader.scan()
    for _ in range(3):
        batch = reader.read(max_bytes=1)
        if batch is None:
            break
        seen = counts.setdefault(batch.writer.id, [])
        seen += [int(event.session[1:]) for event in batch.events]
        assert not batch.malformed and not batch.unknown
    positions = reader.positions()
    new = state.with_suffix(".new")
    new.write_bytes(msgspec.msgpack.encode((counts, [(*key, offset) for key, offset in positions.items()])))
    new.rename(state)
    reader.release(positions)
    reader.retire([control.writer.id for control in reader.controls()])
"""


def test_workers_and_reader_killed_at_random_points_lose_and_repeat_nothing(directory):
    import msgspec

    chance = random.Random(20)
    said = []
    reader = Worker(READER, directory)
    reader.hear()
    for kill in range(24):
        worker = Worker(WRITER, directory)
        heard = [worker.hear() for _ in range(chance.randrange(1, 3000))]
        if kill % 2:
            reader.kill()
            reader = Worker(READER, directory)
        worker.process.kill()
        rest, _ = worker.process.communicate()
        said.append(len(heard) + rest.count("\n"))
    reader.hear()
    reader.kill()
    state = directory.with_name("journal.state")
    counts, positions = msgspec.msgpack.decode(state.read_bytes())
    last = JournalReader(directory, {(writer, seq): offset for writer, seq, offset in positions})
    for batch in batches(last):
        counts.setdefault(batch.writer.id, []).extend(int(event.session[1:]) for event in batch.events)
    assert last.malformed == 0
    assert last.workers() == 0
    last.close()
    assert len(counts) == 24
    for seen in counts.values():
        assert seen == list(range(len(seen)))
    # What a killed process had written to its pipe's buffer is not heard, but it was recorded.
    recorded = sorted(len(seen) for seen in counts.values())
    assert all(have >= heard for have, heard in zip(recorded, sorted(said), strict=True))


def test_a_writer_killed_while_it_makes_its_files_leaves_nothing_behind(directory, tmp_path):
    code = """
ready()
for _ in range(1_000_000):
    writer = JournalWriter(directory, limits=JournalLimits(directory_limit_bytes=1 << 40, segment_bytes=4096))
    writer.append(fields(1))
    writer.close()
"""
    chance = random.Random(7)
    reader = JournalReader(directory, {})
    reader.lock()
    found = Counter()

    def tidy():
        for batch in batches(reader):
            found[batch.writer.id] += len(batch.events)
        reader.release(reader.positions())
        reader.retire([control.writer.id for control in reader.controls()])
        return [path.name for path in directory.iterdir()] == [".reader.lock"]

    for _ in range(10):
        with Worker(code, directory) as worker:
            worker.hear()
            for _ in range(chance.randrange(1, 40)):
                tidy()
    until(tidy)
    assert set(found.values()) == {1}
    assert reader.malformed == 0
    reader.close()
