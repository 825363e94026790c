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
    _new, _set = object.__new__, object.__setattr__

    def evolve(old, **changes):
        """A copy of ``old``, a frozen dataclass without slots; ``changes`` are not checked at run time."""
        new = _new(type(old))
        _set(new, "__dict__", old.__dict__ | changes)
        return new
