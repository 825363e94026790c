"""From the names in the configuration to enforcement actions, by the entry points ivma.enforcement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from agent.enforcement.base import EnforcementAction, SettingsError, Surroundings

GROUP = "ivma.enforcement"


def build(
    names: Sequence[str], settings: Mapping[str, Mapping[str, object]], around: Surroundings
) -> list[EnforcementAction]:
    """Make the named actions in their order; only those are imported.

    Raises:
        SettingsError: a name is not installed, settings name no action, or an action refuses its own.
    """
    if idle := sorted(settings.keys() - set(names)):
        raise SettingsError(f"enforcement.settings.{idle[0]}: not among the actions {list(names)}")
    known = entry_points(group=GROUP)
    actions = []
    for name in names:
        if name not in known.names:
            raise SettingsError(
                f"enforcement.actions: no action {name!r}; installed are {sorted(known.names)}"
            )
        action: type[EnforcementAction] = known[name].load()
        actions.append(action(settings.get(name, {}), around))
    return actions
