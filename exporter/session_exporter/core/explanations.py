"""The cause of an incident in one sentence, and what to change; from evidence alone.

Where the evidence does not decide, the cause says what is not known, and the advice how to know it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from session_exporter.core.stories.advice import Explanation, advise
from session_exporter.core.stories.dossier import Dossier, read_dossier
from session_exporter.core.stories.duplicate_causes import explain_duplicate
from session_exporter.core.stories.duplicate_users import explain_duplicate_user
from session_exporter.core.stories.id_causes import explain_id
from session_exporter.core.stories.loss_causes import explain_loss
from session_exporter.core.stories.violation_causes import explain_violation

__all__ = ["Explanation", "explain", "explain_dossier"]

_BY_KIND: Final[dict[str, Callable[[Dossier], Explanation]]] = {
    "rapid_duplicate_create": explain_duplicate,
    "context_loss": explain_loss,
    "isolation_violation": explain_violation,
    "invalid_id": explain_id,
    "duplicate_active_user": explain_duplicate_user,
}


def explain(kind: str, detail: Mapping[str, Any]) -> Explanation:
    """Explain an incident; this never raises.

    Args:
        kind: One of `incidents.INCIDENT_KINDS`.
        detail: Its detail, or the whole document that `/api/v1/incidents` makes of it.
    """
    return explain_dossier(read_dossier(detail, kind))


def explain_dossier(dossier: Dossier) -> Explanation:
    """Explain an incident that has been read."""
    tell = _BY_KIND.get(dossier.kind)
    if tell is None:
        return Explanation("This version does not know incidents of this kind.", [advise("newer")], decided=False)
    return tell(dossier)
