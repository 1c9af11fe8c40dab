"""An application that keeps sessions and has never heard of session-exporter."""

import json
import os
from uuid import uuid4


def open_session(user: str) -> dict[str, str]:
    """Make a session, somewhere."""
    return {"id": f"{user}-{uuid4().hex}"}


def served(user: str) -> bytes:
    """Open a session, and tell which process did."""
    return json.dumps({"pid": os.getpid(), "session": open_session(user)["id"]}).encode()


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [served(environ["PATH_INFO"].strip("/"))]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": served(scope["path"].strip("/"))})
