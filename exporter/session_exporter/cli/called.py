"""Whether the functions that a configuration wraps exist, and have the parameters that its paths name.

Looking means to import the application's modules, and so to run what they do when they are imported.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Final, NamedTuple

from session_exporter.core.plaintext import inert
from session_exporter.mappings import CallMapping

# Words that start a path wherever it stands; other paths start at a parameter, these two at the result.
_ROOTS: Final = ("self", "result")
_OF_THE_RESULT: Final = ("session", "created_at")
# Kinds of call whose session is an argument before it is a result.
_OF_ARGUMENTS: Final = ("end", "bind")
_PATHS: Final = ("session", "user", "key", "created_at")
_DISABLED: Final = "SESSION_EXPORTER_DISABLED"
_ERROR_CHARS_MAX: Final = 300


class Finding(NamedTuple):
    """What was found of a call.

    Attributes:
        text: In words.
        wrong: Whether the hook could not work so.
    """

    text: str
    wrong: bool = False


@contextmanager
def importing_as_the_application() -> Iterator[None]:
    """Import as the application does that is started in this directory, and record nothing meanwhile."""
    path, disabled = sys.path[:], os.environ.get(_DISABLED)
    sys.path.insert(0, str(Path.cwd()))
    os.environ[_DISABLED] = "1"
    try:
        yield
    finally:
        sys.path[:] = path
        del os.environ[_DISABLED]
        if disabled is not None:
            os.environ[_DISABLED] = disabled


def find_call(call: CallMapping) -> Finding:
    """Import a call's module, find the function, and compare its parameters with the paths.

    Whatever the module raises when it is imported becomes a finding, an attempt to exit among it.
    """
    module_name, _, name = call.call.partition(":")
    try:
        found: Any = import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the application's own code runs here
        return Finding(f"{module_name} cannot be imported: {type(error).__name__}: {_line_of(error)}", wrong=True)
    place = module_name
    for word in name.split("."):
        try:
            found = getattr(found, word)
        except Exception:  # noqa: BLE001 - an attribute may be computed by the application's own code
            return Finding(f"{place} has no {word}{_near(word, dir(found))}", wrong=True)
        place = f"{place}.{word}"
    if not callable(found):
        return Finding(f"{place} is a {type(found).__name__}: expected a function", wrong=True)
    return _compare_as_hooked(call, found)


def _line_of(error: BaseException) -> str:
    try:
        return inert(" ".join(str(error).split()), _ERROR_CHARS_MAX)
    except Exception:  # noqa: BLE001 - a foreign error may fail to describe itself
        return "it does not say why"


def _compare_as_hooked(call: CallMapping, function: Callable[..., Any]) -> Finding:
    # The hook's own; it imports `wrapt`, and that much else.
    from session_exporter.hooks.call_places import PlaceError, find_place, signature_at  # noqa: PLC0415

    module, _, name = call.call.partition(":")
    try:
        place = find_place(sys.modules[module], name)
    except PlaceError as error:
        return Finding(f"{module}.{name} cannot be watched: {error}", wrong=True)
    return _compare(call, function, signature_at(place))


def _compare(call: CallMapping, function: Callable[..., Any], signature: Signature | None) -> Finding:
    if signature is None:
        return Finding("exists; which parameters it has is not known")
    kind = "async " if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function) else ""
    findings = [_path_finding(call, name, signature) for name in _PATHS if getattr(call, name)]
    texts = [
        f"exists: {kind}({', '.join(inspect.signature(function).parameters)})",
        *(finding.text for finding in findings),
    ]
    return Finding("; ".join(texts), any(finding.wrong for finding in findings))


def _path_finding(call: CallMapping, name: str, signature: Signature) -> Finding:
    path = getattr(call, name)
    first = path.partition(".")[0]
    arguments = [_argument(path)] if first in signature.parameters else []
    if not arguments and any(each.kind is Parameter.VAR_KEYWORD for each in signature.parameters.values()):
        arguments = [f"{_from(path, first)}, when a caller gives that"]
    if first in _ROOTS and first not in signature.parameters:
        return Finding(f"{name} is {_from(path, first)}")
    if name in _OF_THE_RESULT and first not in _ROOTS:
        places = [f"{path} of the result"]
        if name == "session":
            places[0 if call.kind in _OF_ARGUMENTS else 1 : 0] = arguments
        return Finding(f"{name} is {', else '.join(places)}")
    if arguments:
        return Finding(f"{name} is {arguments[0]}")
    return Finding(f"{name} names no parameter: {first}{_near(first, list(signature.parameters))}", wrong=True)


def _argument(path: str) -> str:
    return _from(path, f"the parameter {path.partition('.')[0]}")


def _from(path: str, root: str) -> str:
    rest = path.partition(".")[2]
    return f"{rest} of {root}" if rest else root


def _near(name: str, names: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only a mistake needs it

    near = difflib.get_close_matches(name, names, n=1)
    return f", did you mean {near[0]}?" if near else ""
