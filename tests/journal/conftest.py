"""Fixtures of the journal's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from session_exporter.journal import JournalReader, JournalWriter


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def make_writer(directory: Path) -> Iterator[Callable[..., JournalWriter]]:
    writers = []

    def make(**options: object) -> JournalWriter:
        writer = JournalWriter(directory, **options)
        writers.append(writer)
        return writer

    yield make
    for writer in writers:
        writer.close()


@pytest.fixture
def writer(make_writer: Callable[..., JournalWriter]) -> JournalWriter:
    return make_writer(replica="pod-1")


@pytest.fixture
def make_reader(directory: Path) -> Iterator[Callable[..., JournalReader]]:
    readers = []

    def make(positions: object = None, **options: object) -> JournalReader:
        reader = JournalReader(directory, positions or {}, **options)
        readers.append(reader)
        return reader

    yield make
    for reader in readers:
        reader.close()


@pytest.fixture
def reader(make_reader: Callable[..., JournalReader]) -> JournalReader:
    return make_reader()


@pytest.fixture
def place(directory: Path) -> Path:
    directory.mkdir()
    return directory
