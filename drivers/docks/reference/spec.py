"""The reference dock as the registry offers it."""

from __future__ import annotations

from drivers.docks.reference.codec import VERSION
from drivers.docks.reference.pairing import ReferencePairing
from drivers.docks.reference.scrub import Scrubber
from drivers.docks.reference.session import ReferenceSession
from drivers.spec import Capability, DockSpec

SPEC = DockSpec(
    model="reference",
    build=ReferenceSession,
    baud=115200,  # docs/dock-link.md
    capabilities=frozenset(Capability),
    scrub=Scrubber,
    pairing=ReferencePairing,
    version=VERSION,
)
