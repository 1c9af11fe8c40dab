"""Users with several active rows, as incidents."""

from collections.abc import Iterable
from typing import Final

from session_exporter.core.incidents import DuplicateUser, Incident, duplicate_user_incident
from session_exporter.core.pseudonyms import Pseudonyms
from session_exporter.watch.findings import Census, Twin

# Of so many users it is known that their incident has been told.
KNOWN_MAX: Final = 1000


def duplicate_user_incidents(
    census: Census, scope: str, names: Pseudonyms, known: Iterable[bytes]
) -> tuple[list[Incident], list[bytes]]:
    """Tell of each user who has come to have several active sessions, once for as long as it stays so.

    Args:
        census: What was counted.
        scope: The kind of session that the table keeps.
        names: Digests of ids.
        known: Digests of the users (and keys) who have been told of, the oldest first.

    Returns:
        Incidents of those who are not known, and who is known from now on: at most `KNOWN_MAX`.
    """
    if census.duplicate_users is None:
        return [], list(known)
    found = {each.owner: each for each in (_digests(twin, names) for twin in census.twins)}
    # While not all of them are listed, nobody can say that somebody who is not listed is no longer among them.
    is_whole = census.duplicate_users <= len(census.twins)
    kept = [owner for owner in known if owner in found or not is_whole]
    new = [each for owner, each in found.items() if owner not in set(kept)]
    incidents = [duplicate_user_incident(each, scope, census.at_us, names) for each in new]
    return incidents, [*kept, *(each.owner for each in new)][-KNOWN_MAX:]


def _digests(twin: Twin, names: Pseudonyms) -> DuplicateUser:
    user = names.digest(twin.user)
    owner = names.keyed_user(user, twin.key) if twin.key else user
    sessions = tuple(map(names.digest, twin.sessions))
    return DuplicateUser(user, names.digest(twin.key), owner, sessions, twin.created_us, twin.rows)
