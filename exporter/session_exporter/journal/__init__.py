"""The journal: how events get from the application's worker processes to the sidecar."""

from session_exporter.journal.control import POOL_WAIT_BUCKETS_S, Control
from session_exporter.journal.directory import find_directory
from session_exporter.journal.frame import LOST_KINDS, LOST_REASONS
from session_exporter.journal.limits import JournalLimits
from session_exporter.journal.reader import JournalReader, Mark, Retained
from session_exporter.journal.source import Batch
from session_exporter.journal.writer import JournalWriter

__all__ = [
    "LOST_KINDS",
    "LOST_REASONS",
    "POOL_WAIT_BUCKETS_S",
    "Batch",
    "Control",
    "JournalLimits",
    "JournalReader",
    "JournalWriter",
    "Mark",
    "Retained",
    "find_directory",
]
