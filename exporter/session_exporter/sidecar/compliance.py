"""What a window of time tells of ids: how many had the format that their scope declares, and what the others were."""

from collections.abc import Mapping
from typing import Any

from session_exporter.core.scopes import ID_FORMATS, ID_KINDS


def ids_of(sums: Mapping[str, int]) -> dict[str, Any]:
    """Derive what is told of ids from the counts of a window, named as in `Minute`.

    Returns:
        `ids_checked`, `ids_legacy`, `ids_invalid` and `id_mismatches`; `id_compliance`, the share of canonical ids,
        None when none was checked; of the kinds that were checked, `ids_by_kind`: how many per format, and `id_shapes`:
        of the legacy and invalid ones, how many per shape.
    """
    by_kind = {kind: {form: sums.get(f"ids:{kind}/{form}", 0) for form in ID_FORMATS} for kind in ID_KINDS}
    by_kind = {kind: forms for kind, forms in by_kind.items() if any(forms.values())}
    of_form = {form: sum(forms[form] for forms in by_kind.values()) for form in ID_FORMATS}
    checked = sum(of_form.values())
    return {
        "ids_checked": checked,
        "ids_legacy": of_form["legacy"],
        "ids_invalid": of_form["invalid"],
        "id_mismatches": sums.get("id_mismatches", 0),
        "id_compliance": of_form["canonical"] / checked if checked else None,
        "ids_by_kind": by_kind,
        "id_shapes": _shapes(sums),
    }


def _shapes(sums: Mapping[str, int]) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = {}
    for name, count in sums.items():
        if name.startswith("shapes:"):
            kind, form, shape = name.removeprefix("shapes:").split("/", 2)
            found.setdefault(kind, {}).setdefault(form, {})[shape] = count
    return found
