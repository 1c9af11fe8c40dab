"""Where in the application a call came from: the nearest frames that are the application's own code."""

import os
import sys
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any, Final

from session_exporter.core.events import SITE_CHARS_MAX

SITES_KEPT: Final = 3
FRAMES_WALKED_MAX: Final = 64
CODES_REMEMBERED_MAX: Final = 4096

_PACKAGE: Final = f"{PurePath(__file__).parent}{os.sep}"
# The demonstration ships inside of the package, and is an application all the same.
_DEMO: Final = f"{_PACKAGE}demo{os.sep}"
_STDLIB: Final = f"{PurePath(os.__file__).parent}{os.sep}"
_LIBRARIES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_OURS, _FOREIGN, _APPLICATION = range(3)


class _Origin:
    """What is remembered of one code object.

    Attributes:
        code: Kept alive, so that its `id`, by which it is found, cannot pass to another.
        verdict: Whose code it is.
        labels: By offset of the instruction: line numbers are slow to come by.
    """

    __slots__ = ("code", "labels", "verdict")

    def __init__(self, code: CodeType, verdict: int) -> None:
        self.code = code
        self.verdict = verdict
        self.labels: dict[int, str] = {}

    @property
    def labels_shown(self) -> dict[int, str] | None:
        """The labels of the application's code; None for all other."""
        return self.labels if self.verdict == _APPLICATION else None


# By `id`, because the hash of a code object is computed anew from all of its bytecode each time.
_origins: dict[int, _Origin] = {}
# Of the same, what a walk needs of every frame it passes: the labels of the application's code, None for all other.
_labels: dict[int, dict[int, str] | None] = {}


def call_sites(skipped: int = 0) -> tuple[str, ...]:
    """Name the nearest application frames of the calling thread.

    Args:
        skipped: How many frames above the caller's are certainly this package's. To look at a frame takes time.

    Application frames are those outside of this package, the standard library and installed libraries.

    Returns:
        Up to three of `path:line:qualname`, innermost first, each at most 200 characters. The path is relative to the
        entry of `sys.path`, or the working directory, that it lies under. Where the application has no frame (it is
        installed as a library, say), the one nearest frame that is not this package's.
    """
    start = frame = sys._getframe(1 + skipped)  # noqa: SLF001 - `inspect` would read the source of every frame
    sites: list[str] = []
    stack: Any = None
    for _ in range(FRAMES_WALKED_MAX):
        try:
            labels = _labels[id(frame.f_code)]
        except KeyError:
            labels = _remember(frame).labels_shown
        if labels is not None:
            sites.append(labels.get(frame.f_lasti) or _label(labels, frame))
            if len(sites) == SITES_KEPT:
                break
        outer = frame.f_back
        if outer is None:
            stack, outer = _outer_stack(stack)
            if outer is None:
                break
        frame = outer
    return tuple(sites) if sites else _nearest(start)


def _nearest(frame: FrameType | None) -> tuple[str, ...]:
    """The nearest frame that is not this package's, of those that were walked."""
    for _ in range(FRAMES_WALKED_MAX):
        if frame is None:
            break
        origin = _remember(frame)
        if origin.verdict == _FOREIGN:
            return (_label(origin.labels, frame),)
        frame = frame.f_back
    return ()


def _outer_stack(stack: Any) -> tuple[Any, FrameType | None]:
    """The greenlet that waits for this one (None: the running one), and its innermost frame; None when there is none.

    SQLAlchemy's asynchronous engines execute each statement on a stack of its own: a greenlet, whose parent is where
    the application's coroutine waits.
    """
    if stack is None:
        # Absent from a module that another thread is just importing.
        current = getattr(sys.modules.get("greenlet"), "getcurrent", None)
        stack = None if current is None else current()
    outer = getattr(stack, "parent", None)
    return outer, getattr(outer, "gr_frame", None)


def _remember(frame: FrameType) -> _Origin:
    code = frame.f_code
    origin = _origins.get(id(code))
    if origin is None:
        if len(_origins) >= CODES_REMEMBERED_MAX:
            _origins.clear()
            _labels.clear()
        origin = _origins[id(code)] = _Origin(code, _verdict(code.co_filename, frame))
    _labels[id(code)] = origin.labels_shown
    return origin


def _verdict(path: str, frame: FrameType) -> int:
    if path.startswith("<"):
        # Generated code belongs to the library that generated it, except for what somebody types or passes to `-c`.
        return _APPLICATION if frame.f_globals.get("__name__") == "__main__" else _FOREIGN
    if path.startswith(_PACKAGE):
        return _APPLICATION if path.startswith(_DEMO) else _OURS
    if path.startswith(_STDLIB) or any(part in path for part in _LIBRARIES):
        return _FOREIGN
    return _APPLICATION


def _label(labels: dict[int, str], frame: FrameType) -> str:
    code = frame.f_code
    place = f":{frame.f_lineno}:{code.co_qualname}"
    path = _relative(code.co_filename)
    # The end of a path says more than its beginning, and a file name may hold bytes that are not UTF-8.
    room = max(SITE_CHARS_MAX - len(place), 0)
    text = (path[-room:] if room else "") + place
    label = text.encode("utf-8", "backslashreplace").decode("utf-8")[:SITE_CHARS_MAX]
    labels[frame.f_lasti] = label
    return label


def _relative(path: str) -> str:
    """The path below the deepest root it lies under, else the file's name: never where the machine keeps it."""
    if path.startswith("<"):
        return path
    if not path.startswith(os.sep):
        inside = os.path.normpath(path)
        return PurePath(path).name if inside.startswith(os.pardir) else inside
    root = max((root for root in _roots() if path.startswith(root)), key=len, default="")
    return path[len(root) :] if root else PurePath(path).name


def _roots() -> list[str]:
    try:
        here = os.getcwd()  # noqa: PTH109 - a text is what is compared
    except OSError:  # the working directory was removed: one root less
        here = ""
    entries = [entry for entry in (*sys.path, here) if isinstance(entry, str) and len(entry) > 1]
    return [entry.rstrip(os.sep) + os.sep for entry in entries if entry.startswith(os.sep)]
