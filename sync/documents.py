"""The documents that the control room signs, each under a label and with a key of its own purpose.

``number`` orders the documents of one authority: each gets a greater one than all before. It may be read off
the authority's clock, for it is compared with other numbers alone, never with a clock of the tablet.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta

from sync.signed import Document

Id: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\Z")]
Number: TypeAlias = Annotated[int, Meta(ge=1, le=2**53 - 1)]  # what every JSON reader holds exactly
Minutes: TypeAlias = Annotated[int, Meta(ge=1, le=7 * 24 * 60)]


class TabletPaper(Document, frozen=True, kw_only=True):
    """What all documents for one tablet have."""

    id: Id
    number: Number
    fleet: Name
    device: Name


class Permit(TabletPaper, frozen=True, kw_only=True):
    """Leave to use one tablet without proof of its dock, for so many minutes of powered time, once."""

    LABEL: ClassVar[str] = "ivma-permit/1"
    TITLE: ClassVar[str] = "PERMIT"
    purpose: Literal["ivma-permit/1"] = "ivma-permit/1"
    scope: Literal["undocked", "any"]
    minutes: Minutes


class Revocation(TabletPaper, frozen=True, kw_only=True):
    """Ends what runs on one tablet by permits up to ``upto``, and refuses those that were not used yet."""

    LABEL: ClassVar[str] = "ivma-revocation/1"
    TITLE: ClassVar[str] = "REVOCATION"
    purpose: Literal["ivma-revocation/1"] = "ivma-revocation/1"
    upto: Number


class Refill(TabletPaper, frozen=True, kw_only=True):
    """Gives one tablet its full number of safety overrides again."""

    LABEL: ClassVar[str] = "ivma-refill/1"
    TITLE: ClassVar[str] = "OVERRIDE REFILL"
    purpose: Literal["ivma-refill/1"] = "ivma-refill/1"


class ContractorToken(Document, frozen=True, kw_only=True):
    """Lets a contractor without root do ``actions`` on the tablets named, for powered time on each."""

    LABEL: ClassVar[str] = "ivma-contractor/1"
    TITLE: ClassVar[str] = "CONTRACTOR TOKEN"
    purpose: Literal["ivma-contractor/1"] = "ivma-contractor/1"
    id: Id
    number: Number
    fleet: Name
    devices: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=16)]
    actions: Annotated[tuple[Literal["pair", "unpair", "test"], ...], Meta(min_length=1, max_length=3)]
    contractor: Annotated[str, Meta(pattern=r"^[\x20-\x7e]{1,64}\Z")]
    minutes: Minutes


class Command(TabletPaper, frozen=True, kw_only=True):
    """One thing that a tablet is to do, once, in the boot and the run of the agent that it names.

    ``latest_ms`` is boot time of the tablet: no wall clock decides whether a command is too old.
    """

    LABEL: ClassVar[str] = "ivma-command/1"
    TITLE: ClassVar[str] = "COMMAND"
    purpose: Literal["ivma-command/1"] = "ivma-command/1"
    boot_id: Id
    nonce: Id
    latest_ms: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    verb: Literal["lock", "permit", "revoke", "flush", "log-level", "diagnostics", "reboot"]
    level: Literal["", "debug", "info", "warning", "error"] = ""  # of log-level; empty: as configured
    paper: str = ""  # of permit: a permit or refill, signed by its own authority


class Desired(TabletPaper, frozen=True, kw_only=True):
    """What the fleet wants a tablet's configuration to say; ``number`` is its generation."""

    LABEL: ClassVar[str] = "ivma-desired/1"
    TITLE: ClassVar[str] = "DESIRED CONFIGURATION"
    LONGEST: ClassVar[int] = 32 * 1024  # ours: twice a file that sets every key
    purpose: Literal["ivma-desired/1"] = "ivma-desired/1"
    trial_s: Annotated[int, Meta(ge=1, le=86_400)]
    toml: str


class FleetKey(TabletPaper, frozen=True, kw_only=True):
    """The public X25519 key to seal to from now on; the greater ``generation`` counts."""

    LABEL: ClassVar[str] = "ivma-fleet-key/1"
    TITLE: ClassVar[str] = "FLEET KEY"
    purpose: Literal["ivma-fleet-key/1"] = "ivma-fleet-key/1"
    generation: Annotated[int, Meta(ge=1, le=65_535)]
    key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
