"""Entry points to what they offer: only what the configuration names is imported."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

DOCKS, VEHICLES, ENFORCEMENT = "ivma.docks", "ivma.vehicles", "ivma.enforcement"


class NotRegisteredError(LookupError):
    """A configured name that no installed package offers, or that cannot be imported."""


def names(group: str) -> list[str]:
    """Every name that installed packages offer in a group."""
    return sorted(_offered(group))


def load(group: str, name: str) -> object:
    """Import and return what an entry point offers.

    Raises:
        NotRegisteredError: nobody offers the name, or its module cannot be imported.
    """
    offered = _offered(group)
    if name not in offered:
        known = ", ".join(sorted(offered)) or "nothing: is the package installed?"
        raise NotRegisteredError(f"`{name}` is not registered in {group}; registered are {known}")
    try:
        return offered[name].load()
    except (ImportError, AttributeError) as error:
        point = offered[name].value
        raise NotRegisteredError(f"`{name}` of {group} points to {point}, which fails: {error}") from error


def _offered(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
