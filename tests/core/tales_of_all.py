"""All tales, and that of an incident which this version does not know."""

import tales_of_duplicate_users
import tales_of_duplicates
import tales_of_losses
import tales_of_violations
from tales import TALES

__all__ = ["TALES", "tales_of_duplicate_users", "tales_of_duplicates", "tales_of_losses", "tales_of_violations"]

TALES["an_incident_of_a_newer_version"] = lambda: {
    "id": "n-0123456789",
    "kind": "session_out_of_time",
    "at": "2027-01-15T08:00:00.000000Z",
    "scope": "chat",
    "user": "u:5936a9a3bdbe",
    "timeline": [{"at": "2027-01-15T08:00:00.000000Z", "kind": "travelled", "session": "s:03c2fa944b48"}],
    "explanation": {"decided": False, "cause": "", "advice": []},
}
