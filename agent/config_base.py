"""What every table of the configuration is made of."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]
FilePath = Annotated[str, Meta(min_length=1, max_length=4096)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; unknown keys are refused."""


def doc(text: str, **meta: Any) -> Meta:
    """What a key means, and its bounds; docs/configuration.md shows it."""
    return Meta(description=text, **meta)
