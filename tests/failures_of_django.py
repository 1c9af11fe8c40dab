"""Provokes errors of Django on PostgreSQL, and prints what they are taken for."""

import sys

import django
from django.conf import settings
from django.db import connection, transaction
from django.db.utils import Error

from session_exporter.failures import create_failure, error_label, failure_kind, is_conflict


def told(error: BaseException) -> None:
    print((failure_kind(error), create_failure(error), is_conflict(error), error_label(error)))  # noqa: T201 - its use


port, name = sys.argv[1:]
database = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": port, "NAME": name}
settings.configure(DATABASES={"default": {**database, "USER": "postgres"}}, USE_TZ=True)
django.setup()
try:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES ('a', 'c')")
except Error as error:
    told(error)
try:
    with transaction.atomic(), connection.cursor() as cursor:
        transaction.set_rollback(True)
        cursor.execute("SELECT 1")
except Error as error:
    told(error)
connection.close()
connection.settings_dict.update(USER="locked", PASSWORD="wrong")
try:
    connection.ensure_connection()
except Error as error:
    told(error)
