"""The blocks of the documents, and what does not differ from run to run in the output that they show."""

import re
import socket
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "alerts").rglob("*.md")])
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
FILE_NAME = re.compile(r"# ([\w.-]+\.\w+)\n")


class Block(NamedTuple):
    """A fenced block of a document; `why` is the reason not to run it."""

    kind: str
    text: str
    why: str

    @property
    def file_name(self) -> str:
        named = FILE_NAME.match(self.text)
        return named.group(1) if named else ""


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [Block(found["kind"], found["text"], found["why"] or "") for found in BLOCK.finditer(text)]


BLOCKS = {path.relative_to(PROJECT).as_posix(): blocks_of(path) for path in DOCUMENTS}


def shape(line: str) -> str:
    """A line of output without what differs from run to run."""
    line = re.sub(r"(duplicates by cause: same_request).*", r"\1", line.replace(f"@{socket.gethostname()}", "@vm"))
    return re.sub(r" +", " ", re.sub(r"[0-9a-f]*\d[0-9a-f]*", "N", line))
