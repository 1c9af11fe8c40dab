"""Drives Django's sessions: logins, work, logins of one user at the same time, and a logout."""

import os
import threading
from urllib.parse import urlsplit

import django
import truth
from django.conf import settings

place = urlsplit(os.environ["DATABASE"])
if place.scheme == "sqlite":
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": place.path[1:], "OPTIONS": {"timeout": 20}}
else:
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": place.path[1:],
        "USER": place.username,
        "HOST": place.hostname,
        "PORT": place.port,
    }
settings.configure(
    SECRET_KEY="only for this run",
    DATABASES={"default": database},
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
)
django.setup()

from django.contrib.auth import login, logout  # noqa: E402 - Django has to be set up first
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402


def enter(request: HttpRequest, name: str) -> JsonResponse:
    login(request, User.objects.get(username=name))
    return JsonResponse({"session": request.session.session_key})


def work(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"session": request.session.session_key, "user": request.user.get_username()})


def leave(request: HttpRequest) -> JsonResponse:
    logout(request)
    return JsonResponse({})


urlpatterns = [path("enter/<name>", enter), path("work", work), path("leave", leave)]


def entered(client: Client, name: str) -> str:
    session = str(client.get(f"/enter/{name}").json()["session"])
    truth.created.append((keys[name], session))
    return session


def race(name: str, together: threading.Barrier) -> None:
    together.wait()
    entered(Client(), name)
    connection.close()


call_command("migrate", verbosity=0)
names = ["mona", *(f"racer-{number}" for number in range(4))]
keys = {name: str(User.objects.create_user(name).pk) for name in names}
client = Client()
session = entered(client, "mona")
for _ in range(3):
    assert client.get("/work").json() == {"session": session, "user": "mona"}
# A second login of the same user keeps the session.
assert client.get("/enter/mona").json()["session"] == session
for name in names[1:]:
    together = threading.Barrier(2)
    threads = [threading.Thread(target=race, args=(name, together)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
stranger = Client()
stranger.cookies["sessionid"] = "y" * 32
assert stranger.get("/work").json()["user"] == ""
client.get("/leave")
truth.ended.append(session)
connection.close()
truth.tell()
