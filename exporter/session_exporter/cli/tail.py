"""session-exporter tail: what the hooks record, or what the ledger makes of it, as it stands in the journal.

It only reads: no lock is taken, nothing is written or deleted, and the sidecar does not notice. Exit code 0, also when
whoever reads the output leaves; 2 when there is nothing to read from.
"""

import os
import pwd
import secrets
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from session_exporter.cli.plain import counted, encodable
from session_exporter.cli.tailing import Record, json_line, text_line
from session_exporter.cli.unfolding import RecordedEvents, Unfolding, Verdicts
from session_exporter.config import Config
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.errors import JournalUnavailable, SessionExporterError, StateError
from session_exporter.journal import Batch, JournalReader
from session_exporter.journal.reader import NOT_YET_MAX
from session_exporter.sidecar.secrets import KEY_BYTES, KEY_NAME, read_or_make_key

POLL_S: Final = 0.2
# So little at a time that the lines of many workers interleave, and that a pipe's reader soon sees the first.
READ_BYTES: Final = 32 * 1024
_HINT: Final = "name the application's directory with --journal.directory or $SESSION_EXPORTER_DIR"


@dataclass(frozen=True, slots=True)
class TailOptions:
    """What the command line says.

    Attributes:
        journal_directory: Where the workers write.
        state_directory: Where the sidecar keeps the key of the ids' digests.
        config: Scopes, limits, lateness, and perhaps another place of the key.
        as_json: One JSON object a line.
        follow: Go on until told to stop.
        judged: Verdicts instead of events.
        show_ids: Plain ids instead of pseudonyms.
    """

    journal_directory: Path
    state_directory: Path
    config: Config
    as_json: bool = False
    follow: bool = False
    judged: bool = False
    show_ids: bool = False


def run_tail(options: TailOptions, out: TextIO, say: Callable[[str], None]) -> None:
    """Print what is in the journal; with `follow`, go on until SIGINT, SIGTERM, or nobody reads `out` any more.

    Args:
        options: What the command line says.
        out: Where the lines go.
        say: Told what a person should know beside the lines.

    Raises:
        JournalUnavailable: There is no worker's file to read from, or it may not be read.
        SessionExporterError: `out` cannot be written.
    """
    _require_readable(options.journal_directory)
    names = _names(options, say)
    with closing(JournalReader(options.journal_directory, {})) as reader:
        tail = Tail(reader, _unfolding(options, names), say)
        printer = _Printer(out, _line(options))
        try:
            _follow(tail, printer) if options.follow else _once(tail, printer)
        except BrokenPipeError:
            printer.discard()
        except OSError as error:
            printer.discard()
            raise SessionExporterError(f"standard output: {error.strerror}") from error


def _unfolding(options: TailOptions, names: Pseudonyms) -> Unfolding:
    if not options.judged:
        return RecordedEvents(names)
    # Without somebody waiting for them, the verdicts may take their time to get into order.
    return Verdicts(options.config, names, extra_us=0 if options.follow else options.config.lateness_us)


def _line(options: TailOptions) -> Callable[[Record], str]:
    if options.as_json:
        return json_line
    return lambda record: text_line(record, show_ids=options.show_ids)


def _names(options: TailOptions, say: Callable[[str], None]) -> Pseudonyms:
    """The pseudonyms of the sidecar; when its key cannot be read, such as are this run's own."""
    if options.show_ids:
        return Pseudonyms(bytes(KEY_BYTES), show_ids=True)
    path = options.config.privacy.key_file or options.state_directory / KEY_NAME
    try:
        # A file that is named is never made, only read.
        key = read_or_make_key(options.state_directory, path)
    except StateError as error:
        is_new = options.config.privacy.key_file is None and not path.exists()
        problem = f"no sidecar has kept its state in {options.state_directory} yet" if is_new else str(error)
        say(f"{problem}; the pseudonyms are this run's own and cannot be compared with the sidecar's")
        key = secrets.token_bytes(KEY_BYTES)
    return Pseudonyms(key)


def _require_readable(directory: Path) -> None:
    """A directory that is missing may still come; one that may not be read is a mistake.

    Raises:
        JournalUnavailable: It is no directory, or belongs to somebody else.
    """
    try:
        next(directory.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalUnavailable(f"{directory}: {error.strerror}; {_whose(directory)}") from error


def _whose(directory: Path) -> str:
    try:
        uid = directory.stat().st_uid
    except OSError:
        return f"a journal is read by the user who owns it, or by root; {_HINT}"
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid {uid}"
    return f"it belongs to {name}, and a journal is read by the user who owns it, or by root; or {_HINT}"


class Tail:
    """What has come since the last look, in order.

    Args:
        reader: Without the lock.
        unfolding: Makes records of events.
        say: Told, once each, what could not be read and why.

    Attributes:
        has_begun: Whether some worker's file was seen.
    """

    def __init__(self, reader: JournalReader, unfolding: Unfolding, say: Callable[[str], None]) -> None:
        self.has_begun = False
        self._reader = reader
        self._unfolding = unfolding
        self._say = say
        self._said: dict[str, str] = {}
        self._newest: dict[str, int] = {}
        self._missed = 0

    @property
    def is_behind(self) -> bool:
        """Whether something was seen that could not be read yet."""
        return self._reader.behind_us() is not None

    def step(self) -> Iterator[list[Record]]:
        """Read all that is committed by now, in pieces."""
        # The sidecar may have read a file to its end and deleted it: what is open can still be read.
        self._reader.look()
        yield from self._read()
        self._reader.scan()
        self.has_begun = self.has_begun or bool(self._reader.size_bytes() or self._reader.controls())
        yield from self._read()
        yield list(self._unfolding.caught_up(self._reader.behind_us()))
        self._tell_problems()

    def rest(self) -> list[Record]:
        """All that waited for what might have come before it."""
        return list(self._unfolding.rest())

    def tell_absence(self, consequence: str) -> None:
        """Say where no worker was found, and what comes of it."""
        self._tell("absence", f"{self.absence()}; {consequence}")

    def absence(self) -> str:
        """Where no worker was found."""
        if self._reader.skipped_files:
            files = counted(self._reader.skipped_files, "file")
            return f"no worker's files can be read in {self._reader.directory}: {files} skipped; {_HINT}"
        return f"no worker has written in {self._reader.directory}; {_HINT}"

    def _read(self) -> Iterator[list[Record]]:
        while (batch := self._reader.read(READ_BYTES)) is not None:
            self._look_for_gap(batch)
            self._unfolding.add(batch)
            yield list(self._unfolding.due(self._reader.behind_us()))

    def _look_for_gap(self, batch: Batch) -> None:
        newest = self._newest.get(batch.writer.id, batch.seq)
        self._missed += max(0, batch.seq - newest - 1)
        self._newest[batch.writer.id] = max(newest, batch.seq)

    def _tell_problems(self) -> None:
        reader = self._reader
        if self.has_begun:
            self._tell("problem", reader.problem)
        if reader.malformed or reader.unknown:
            damaged, unknown = counted(reader.malformed, "damaged piece"), counted(reader.unknown, "event")
            self._tell("skipped", f"skipped: {damaged}, {unknown} of a kind that this version does not know")
        if self._missed:
            segments = counted(self._missed, "segment")
            self._tell("missed", f"not shown: {segments} that the sidecar had read and deleted before")

    def _tell(self, topic: str, text: str) -> None:
        if text and self._said.get(topic) != text:
            self._said[topic] = text
            self._say(text)


def _once(tail: Tail, printer: "_Printer") -> None:
    for _ in range(NOT_YET_MAX + 1):
        for records in tail.step():
            printer.show(records)
        if not tail.is_behind:
            break
    printer.show(tail.rest())
    if not tail.has_begun:
        raise JournalUnavailable(tail.absence())


def _follow(tail: Tail, printer: "_Printer") -> None:
    with _stopping() as is_stopped:
        while not is_stopped():
            for records in tail.step():
                printer.show(records)
                if is_stopped():
                    break
            if not tail.has_begun:
                tail.tell_absence("waiting for one")
            printer.wait(POLL_S)
        printer.show(tail.rest())


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come: the first one ends in order, a second one at once."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        came.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, note)
    try:
        yield lambda: bool(came)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _Printer:
    """Writes lines, a piece at a time; BrokenPipeError when nobody reads any more."""

    def __init__(self, out: TextIO, line: Callable[[Record], str]) -> None:
        self._out = out
        self._line = line
        self._poll = select.poll()
        try:
            # No event is asked for: that the other end was closed is always told.
            self._poll.register(out.fileno(), 0)
            self._has_descriptor = True
        except OSError:
            self._has_descriptor = False

    def show(self, records: Iterable[Record]) -> None:
        """Write one line for each record, and hand them on at once."""
        text = "".join(f"{self._line(record)}\n" for record in records)
        if text:
            self._out.write(encodable(text, self._out.encoding))
            self._out.flush()

    def wait(self, seconds: float) -> None:
        """Let time pass; a reader who leaves ends it."""
        if not self._has_descriptor:
            time.sleep(seconds)
        elif self._poll.poll(seconds * 1000):
            raise BrokenPipeError

    def discard(self) -> None:
        """Keep the interpreter from writing, and complaining, at its end."""
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._out.fileno())
            os.close(null)
