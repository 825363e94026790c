"""``evolve``: a copy of a wide frozen dataclass with other values in some fields.

The parts of the state are copied at every observation. They have no slots, so that their dict can be copied
at once: ``dataclasses.replace`` goes field by field and takes ten times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["evolve"]

if TYPE_CHECKING:
    from dataclasses import replace as evolve  # the same to the type checker, which so knows the fields
else:

    def evolve(old, **changes):
        """A copy of ``old``, a frozen dataclass without slots; ``changes`` are not checked at run time."""
        new = object.__new__(type(old))
        object.__setattr__(new, "__dict__", old.__dict__ | changes)
        return new
