"""Session stores as web frameworks have them, wrapped calls, and races: ids compared with what really happened."""

import asyncio
import json
import threading
from collections import Counter
from uuid import uuid4

import pytest
from ledgers import WORKER, Book
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from session_exporter.core.scopes import ScopeRules
from session_exporter.mappings import StoreMapping
from session_exporter.wrapped_calls import Call

pytestmark = pytest.mark.integration

FLASK = StoreMapping("flask:*", scope="web", user_path="user", reads_first=True)
STARLETTE = StoreMapping("starlette:*", scope="web", user_path="user", empty_is_end=True, reads_first=True)


class Judged:
    """What the ledger makes of recorded events, by session id."""

    def __init__(self, recorder) -> None:
        verdicts = []
        book = Book(scopes={"web": ScopeRules("web")}, listener=verdicts.append)
        assert not recorder.errors
        book.ledger.apply(recorder.events, WORKER)
        book.ledger.finish()
        ids = {book.names[event.session]: event.session for event in recorder.events}
        found = [(each.verdict, ids.get(each.session, "")) for each in verdicts]
        self.creates = sorted(session for verdict, session in found if verdict == "create")
        self.ends = sorted(session for verdict, session in found if verdict == "end")
        self.counts = Counter(verdict for verdict, _ in found)


class Truth:
    """What the stores themselves say that they did."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.ended: list[str] = []
        self.reused = 0


def flask_application(client, truth):
    """A shop that counts visits."""
    from flask import Flask, session

    app = Flask("shop")
    app.session_interface = flask_sessions(client, truth)

    @app.get("/visit/<user>")
    def visit(user):
        session["visits"] = session.get("visits", 0) + 1
        if user != "nobody":
            session["user"] = user
        return str(session["visits"])

    @app.get("/logout")
    def logout():
        session.clear()
        return "bye"

    return app


def flask_sessions(client, truth):
    """Keeps sessions as Flask-Session does, and writes each back with every request."""
    from flask.sessions import SessionInterface, SessionMixin

    class Session(dict, SessionMixin):
        def __init__(self, sid, held=()) -> None:
            super().__init__(held)
            self.sid = sid

    class RedisSessions(SessionInterface):
        def open_session(self, _, request):
            sid = request.cookies.get("sid")
            held = client.get(f"flask:{sid}") if sid else None
            if held is None:
                return Session(uuid4().hex)
            truth.reused += 1
            return Session(sid, json.loads(held))

        def save_session(self, _, session, response) -> None:
            if not session:
                if client.delete(f"flask:{session.sid}"):
                    truth.ended.append(session.sid)
                return
            if session.sid not in truth.created:
                truth.created.append(session.sid)
            client.set(f"flask:{session.sid}", json.dumps(session), ex=60)
            response.set_cookie("sid", session.sid)

    return RedisSessions()


class OwnRedis(Redis):
    """A subclass, as applications have them."""


def test_a_flask_application_that_writes_every_session_back(redis, install, recorder, tracker) -> None:
    install(FLASK)
    truth = Truth()
    with OwnRedis.from_url(redis.url) as client:
        app = flask_application(client, truth)
        for number in range(5):
            browser = app.test_client()
            for path in ("/visit/nobody", f"/visit/u{number}", f"/visit/u{number}", "/logout", f"/visit/u{number}"):
                with tracker.request():
                    assert browser.get(path).status_code == 200
    judged = Judged(recorder)
    assert (judged.creates, judged.ends) == (sorted(truth.created), sorted(truth.ended))
    assert (len(judged.creates), judged.counts["reuse"], judged.counts["adopted"]) == (10, truth.reused, 0)


class StarletteSessions:
    """A middleware that keeps sessions as starlette-session does, and ends them by writing `{}`."""

    def __init__(self, app, client, truth, tracker) -> None:
        self._app = app
        self._client = client
        self._truth = truth
        self._tracker = tracker

    async def __call__(self, scope, receive, send) -> None:
        from starlette.requests import Request

        with self._tracker.request():
            sid = Request(scope).cookies.get("sid", "")
            held = json.loads(await self._client.get(f"starlette:{sid}") or "{}") if sid else {}
            self._truth.reused += bool(held)
            scope["session"], was = dict(held), bool(held)
            sid = sid if was else uuid4().hex
            scope["sid"] = sid
            await self._app(scope, receive, send)
            if scope["session"] or was:
                await self._client.set(f"starlette:{sid}", json.dumps(scope["session"]), ex=60)
                if not was:
                    self._truth.created.append(sid)
                if not scope["session"]:
                    self._truth.ended.append(sid)


def test_a_starlette_application_with_many_users_at_once(redis, install, recorder, tracker) -> None:
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    install(STARLETTE)
    truth = Truth()

    async def visit(request):
        request.session["user"] = request.path_params["user"]
        return PlainTextResponse("hello", headers={"set-cookie": f"sid={request.scope['sid']}; Path=/"})

    async def logout(request):
        request.session.clear()
        return PlainTextResponse("bye")

    async def browse(app, user) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as browser:
            for path in (f"/visit/{user}", f"/visit/{user}", f"/visit/{user}", "/logout", "/logout", f"/visit/{user}"):
                assert (await browser.get(path)).status_code == 200

    async def all_at_once() -> None:
        async with AsyncRedis.from_url(redis.url) as client:
            routes = [Route("/visit/{user}", visit), Route("/logout", logout)]
            app = StarletteSessions(Starlette(routes=routes), client, truth, tracker)
            await asyncio.gather(*(browse(app, f"u{number}") for number in range(10)))

    asyncio.run(all_at_once())
    judged = Judged(recorder)
    assert (judged.creates, judged.ends) == (sorted(truth.created), sorted(truth.ended))
    assert (len(judged.creates), judged.counts["reuse"]) == (20, truth.reused)


@pytest.mark.parametrize("same_id", [True, False], ids=["one session", "two sessions"])
def test_two_clients_that_race_for_one_user(redis, install, recorder, same_id) -> None:
    install(FLASK)
    missed = threading.Barrier(2)

    def get_or_create(session) -> None:
        with Redis.from_url(redis.url) as client:
            found = client.get(f"flask:{session}")
            missed.wait(30)
            if found is None:
                client.set(f"flask:{session}", '{"user": "ann"}')

    sessions = ["a", "a"] if same_id else ["a", "b"]
    threads = [threading.Thread(target=get_or_create, args=[session]) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    judged = Judged(recorder)
    assert judged.creates == sorted(set(sessions))
    assert judged.counts["rapid_duplicate_create"] == (0 if same_id else 1)


def test_two_asynchronous_clients_that_race_are_told_apart_by_nx(redis, install, recorder) -> None:
    install(FLASK)

    async def create(session) -> bool:
        async with AsyncRedis.from_url(redis.url) as client:
            return bool(await client.set(f"flask:{session}", '{"user": "ann"}', nx=True))

    async def race():
        return await asyncio.gather(*(create("a") for _ in range(5)))

    assert sorted(asyncio.run(race())) == [False] * 4 + [True]
    assert Judged(recorder).creates == ["a"]


def test_what_a_wrapped_call_finds_and_makes_belongs_to_the_call(client, install, told) -> None:
    install()
    client.do("set", "session:b", '{"cart": 1}')
    told()
    with Call("web") as call:
        client.do("get", "session:a")
        client.do("set", "session:a", '{"user": {"id": "ann"}}')
        client.do("get", "session:b")
        client.do("set", "session:c", "unknown before")
    assert (call.made, call.found, call.failed) == ({"a", "c"}, {"b"}, False)
    assert told() == [("created", "a", "ann"), ("written", "c", "")]
    with Call("another"):
        client.do("get", "session:a")
    assert told() == [("found", "a", "ann")]


def test_a_user_who_appears_in_a_wrapped_call_is_attributed(client, install, told) -> None:
    install()
    client.do("set", "session:a", '{"cart": 1}')
    told()
    with Call("web") as call:
        client.do("set", "session:a", '{"user": {"id": "ann"}}')
        client.do("get", "session:a")
    assert (told(), call.found) == ([("attributed", "a", "ann")], {"a"})


def test_a_failed_create_in_a_wrapped_call_is_told_once(client, install, told) -> None:
    from redis.exceptions import ResponseError

    install()
    with Call("web") as call, pytest.raises(ResponseError):
        client.do("SET", "session:a", "1", "BAD")
    assert (call.failed, told()) == (True, [("failed", "other", "")])
