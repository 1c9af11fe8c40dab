"""A small Django project with users and sessions in a database, for one process."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

NAME, PASSWORD = "anna", "secret"


class DjangoSite:
    """The project; what its views do is the test's to say.

    Attributes:
        look: Called with each request, before the view has asked for the user.
        look_again: Called after it, when the view is one that asks.
        user_id: Of the one user there is.
    """

    def __init__(self, directory: Path) -> None:
        self.reset()
        settings.configure(
            SECRET_KEY="k" * 50,
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=self._urls(),
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": directory / "django.db"}},
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
            MIDDLEWARE=[
                "django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
            ],
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
            USE_TZ=True,
        )
        django.setup()
        from django.contrib.auth.models import User
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        self.user_id = str(User.objects.create_user(NAME, password=PASSWORD).pk)

    def reset(self) -> None:
        self.look: Callable[[HttpRequest], object] = lambda _request: None
        self.look_again: Callable[[HttpRequest], object] = lambda _request: None

    def _urls(self) -> str:
        from django.urls import path

        module = ModuleType("django_site_urls")
        module.urlpatterns = [  # type: ignore[attr-defined]
            path("login/", self.login),
            path("anonymous/<id>/", self.anonymous),
            path("asking/<id>/", self.asking),
            path("async/<id>/", self.asynchronous),
            path("stream/<id>/", self.stream),
            path("failing/<id>/", self.failing),
        ]
        sys.modules[module.__name__] = module
        return module.__name__

    def login(self, request: HttpRequest) -> HttpResponse:
        from django.contrib.auth import authenticate, login

        login(request, authenticate(request, username=NAME, password=PASSWORD))
        return HttpResponse("welcome")

    def anonymous(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - the route's name for it
        self.look(request)
        return HttpResponse(f"anonymous {id}")

    def asking(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - as above
        self.look(request)
        name = request.user.get_username()
        self.look_again(request)
        return JsonResponse({"name": name, "id": id})

    async def asynchronous(self, request: Any, id: str) -> HttpResponse:  # noqa: A002 - as above
        self.look(request)
        user = await request.auser()
        self.look_again(request)
        return JsonResponse({"name": user.get_username(), "id": id})

    def stream(self, request: HttpRequest, **_parameters: str) -> StreamingHttpResponse:
        def parts() -> Iterator[bytes]:
            self.look(request)
            yield b"first"
            self.look_again(request)
            yield b"second"

        return StreamingHttpResponse(parts())

    def failing(self, request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - as above
        self.look(request)
        raise LookupError(id)
