"""What a middleware asks about a request: at once of its headers, later of what the application has found out."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from session_exporter.core.carriers import carrier_of, cookie_in, usable_id
from session_exporter.identity import canonical_id
from session_exporter.loaded import loaded_value
from session_exporter.mappings import Expectation
from session_exporter.patches import OnFailure

Finder: TypeAlias = Callable[[Any], object]
Expect: TypeAlias = Expectation | Finder | Iterable[Expectation | Finder]
User: TypeAlias = str | Finder | None

_COOKIE: Final = "cookie"


class Questions:
    """Where a middleware was told to look for the expected session, and for the user.

    Args:
        expect: One place or several, in the order in which to look: what comes behind a parameter of the route waits
            until the request is routed. A callable gets the ASGI scope, the WSGI environment or aiohttp's request, and
            returns an id or None.
        user: A callable like that, or a path: words joined by dots, which are keys, attributes and indices.
        on_failure: Told what goes wrong when a callable is asked.

    Attributes:
        headers: The headers to be known when a request begins, in lower case.
        asks_late_session: Whether it may be worth asking for the session again.
        asks_user: Whether there is anything to ask for the user.

    Raises:
        TypeError: One of them is nothing of the kind.
    """

    def __init__(self, expect: Expect, user: User, on_failure: OnFailure) -> None:
        self._expect = _listed(expect)
        self._user = _user_finder(user)
        self._on_failure = on_failure
        places = [each for each in self._expect if isinstance(each, Expectation)]
        self.headers: Final = {place.name.lower() for place in places if place.source == "header"}
        self.headers.update({_COOKIE} if any(place.source == _COOKIE for place in places) else ())
        early = next((at for at, each in enumerate(self._expect) if _is_parameter(each)), len(self._expect))
        self._early = [self._reader(each) for each in self._expect[:early]]
        self._late = [
            (each, self._reader(each)) for at, each in enumerate(self._expect) if at >= early or callable(each)
        ]
        self.asks_late_session = any(_is_parameter(each) or callable(each) for each in self._expect)
        self.asks_user = user is not None

    def session_said(self, said: Mapping[str, str], subject: Any) -> str | None:
        """The session that the request expects, as its headers and the callables say when it begins."""
        for read in self._early:
            found = read(said, subject)
            if found and (session := usable_id(found)):
                return session
        return None

    def late_session(self, inquiry: "Inquiry", said: Mapping[str, str]) -> object:
        """The session that the route's parameters, what comes behind them, or the callables say now."""
        for each, read in self._late:
            if not isinstance(each, Expectation):
                found = each(inquiry.origin)
            elif _is_parameter(each):
                found = _parameter(inquiry.subject, each.name)
                if not found and not inquiry.is_over and not _is_routed(inquiry.subject):
                    return None  # what comes behind it has to wait
            else:
                found = usable_id(read(said, inquiry.origin) or "")
            if found:
                return found
        return None

    def user(self, inquiry: "Inquiry") -> object:
        """The user, as far as the application knows by now; None while it does not."""
        return self._user(inquiry) or None

    def _reader(self, place: Expectation | Finder) -> Callable[[Mapping[str, str], Any], str | None]:
        if not isinstance(place, Expectation):
            return lambda _said, subject: self._answer(place, subject)
        if place.source == _COOKIE:
            cookie = place.name
            return lambda said, _subject: cookie_in(said[_COOKIE], cookie) if _COOKIE in said else None
        header = place.name.lower()
        return lambda said, _subject: said.get(header)

    def _answer(self, ask: Finder, subject: Any) -> str | None:
        try:
            return canonical_id(ask(subject), "session")
        except Exception as error:  # noqa: BLE001 - counted; the request begins without it
            self._on_failure(error)
            return None


class Inquiry:
    """What is to be asked about one request, and of whom.

    Args:
        origin: The ASGI scope, the WSGI environment or aiohttp's request.
        questions: Of the middleware that began the request.
        said: What the request says in the headers that these want to know.

    Attributes:
        is_over: The request is: what is not known of it by now will not be.
        origin: As given.
        subject: The same, or the framework's own request once that is known.
    """

    __slots__ = ("_questions", "is_over", "origin", "subject")

    def __init__(self, origin: Any, questions: Questions, said: Mapping[str, str]) -> None:
        self.is_over = False
        self.origin = origin
        self.subject = origin
        self._questions: tuple[tuple[Questions, Mapping[str, str]], ...] = ((questions, said),)

    def add(self, questions: Questions, said: Mapping[str, str]) -> bool:
        """Ask also what another middleware was told to ask; False when that is asked already."""
        if any(questions is each for each, _ in self._questions):
            return False
        self._questions += ((questions, said),)
        return True

    def session(self) -> object:
        """The session that the request expects; None while nobody knows."""
        return next(filter(None, (each.late_session(self, said) for each, said in self._questions)), None)

    def user(self) -> object:
        """The request's user; None while nobody knows."""
        return next(filter(None, (each.user(self) for each, _ in self._questions)), None)


def _listed(expect: Expect) -> tuple[Expectation | Finder, ...]:
    if isinstance(expect, Expectation) or callable(expect):
        return (expect,)
    if isinstance(expect, Iterable):
        places = tuple(expect)
        if all(isinstance(place, Expectation) or callable(place) for place in places):
            return places
    raise TypeError('expect must be cookie("…"), header("…"), path("…"), a callable, or several of them')


def _is_parameter(each: Expectation | Finder) -> bool:
    return isinstance(each, Expectation) and each.source == "path"


def _parameter(subject: Any, name: str) -> str:
    """A parameter of the route; strangers write it, so that a placeholder is nothing, as it is in a header."""
    return usable_id(canonical_id(carrier_of(subject).parameter(name), "session"))


def _is_routed(subject: Any) -> bool:
    """Whether the parameters of the route are known, so that one that is not there will not come."""
    if getattr(subject, "resolver_match", None) is not None or getattr(subject, "match_info", None) is not None:
        return True
    if not isinstance(subject, Mapping):
        return False
    flask = subject.get("werkzeug.request")
    routed = (getattr(flask, "url_rule", None), getattr(flask, "routing_exception", None))
    return routed != (None, None) or "path_params" in subject or "wsgiorg.routing_args" in subject


def _user_finder(user: User) -> Callable[[Inquiry], object]:
    if user is None:
        return _nobody
    if callable(user):
        return lambda inquiry: user(inquiry.origin)
    if isinstance(user, str) and all(words := tuple(user.split("."))):
        return lambda inquiry: _value_at(inquiry.subject, user, words)
    raise TypeError("user must be a callable, or words joined by dots, such as user.id")


def _nobody(_inquiry: Inquiry) -> object:
    return None


def _value_at(subject: Any, path: str, words: tuple[str, ...]) -> object:
    if not (isinstance(subject, dict) and "REQUEST_METHOD" in subject):
        return loaded_value(subject, words)
    if path in subject:  # such as REMOTE_USER; the keys of a WSGI environment have dots in them
        return subject[path]
    return loaded_value({**subject, **_of_flask(subject)}, words)


def _of_flask(environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """Flask's request, and its `session` and `g`, taken without noting that somebody has had a look at them."""
    flask = sys.modules.get("flask.globals")
    context = _value_of(flask, "_cv_request") or _value_of(flask, "_cv_app")
    application = _value_of(flask, "_cv_app") or context
    own = getattr(context, "__dict__", {})
    session = own.get("_session", own.get("session"))
    return {"request": environ.get("werkzeug.request"), "session": session, "g": getattr(application, "g", None)}


def _value_of(module: object, variable: str) -> Any:
    found = getattr(module, variable, None)
    return None if found is None else found.get(None)
