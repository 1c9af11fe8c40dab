"""Whether a session stays with its user."""

from typing import Final

from session_exporter.core.records import Session

# Of one session, so many further users are told apart; it is certain long before that the id is not one session's.
OTHERS_MAX: Final = 16


def is_used_by_another(session: Session, user: bytes) -> bool:
    """Note who uses a session; True for the first use by each user that is not its own.

    Args:
        session: In use.
        user: Digest of who uses it; empty when not known.
    """
    if not user or session.owner is None or session.user == user:
        return False
    past = session.with_past()
    if user in past.others or len(past.others) >= OTHERS_MAX:
        return False
    past.others = (*past.others, user)
    return True
