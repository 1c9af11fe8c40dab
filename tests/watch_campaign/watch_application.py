"""An application whose database goes away now and then: creates sessions until so many commits have returned."""

import os
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

WORKERS = 2
RETRY_AFTER_S = 0.05

engine = sa.create_engine(os.environ["DATABASE_URL"])
sessions = sa.Table(
    "conversation_sessions",
    sa.MetaData(),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("subcontractor_id", sa.Uuid),
)


def create() -> None:
    """Create one, of a user of its own; another one for each that nobody knows whether it was committed."""
    while True:
        try:
            with engine.begin() as connection:
                connection.execute(sa.insert(sessions).values(id=uuid.uuid4(), subcontractor_id=uuid.uuid4()))
        except sa.exc.DBAPIError:
            time.sleep(RETRY_AFTER_S)
        else:
            return


if __name__ == "__main__":
    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(create) for _ in range(int(sys.argv[1]))]:
            done.result()
    engine.dispose()
