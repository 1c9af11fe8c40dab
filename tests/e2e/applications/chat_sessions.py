"""Creates a session for each user that its standard input names, in four threads, each in a transaction of its own."""

import os
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

engine = sa.create_engine(os.environ["DATABASE_URL"])
sessions = sa.Table(
    "conversation_sessions",
    sa.MetaData(),
    sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.func.gen_random_uuid()),
    sa.Column("subcontractor_id", sa.Uuid),
)


def create(number: int, user: str) -> None:
    """Create one; every second one has an id of the application's making."""
    own = {"id": uuid.uuid4()} if number % 2 else {}
    with engine.begin() as connection:
        connection.execute(sa.insert(sessions).values(subcontractor_id=uuid.UUID(user), **own))


if __name__ == "__main__":
    with ThreadPoolExecutor(4) as pool:
        users = sys.stdin.read().split()
        list(pool.map(create, range(len(users)), users))
    engine.dispose()
