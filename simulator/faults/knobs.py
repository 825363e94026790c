"""What a fault can do to the simulated world: its knobs, as protocols that the world's parts conform to.

A knob is an attribute that holds until it is set again, or a method for what happens at one moment. At rest
every attribute is 0, False or None and the part behaves as in a healthy world, which is as its life has it:
undocked, out of coverage, key off. Faults lie over the life and undo none of it. A part never turns its own
knobs. Rates are per mille, drawn from the part's own random generator; times are nanoseconds of boot time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class Behind(enum.Enum):
    """What is at the other end of the tablet's serial path in place of the dock that its life has there."""

    NOTHING = "nothing"  # no device: the path is gone
    FOREIGN = "foreign"  # a dock that is not the paired one
    CHATTER = "chatter"  # another device on the same path, such as a GPS receiver that sends text
    REPLAYER = "replayer"  # plays in a loop, at the old pace, what it recorded of the paired dock
    FORGER = "forger"  # speaks the protocol under the paired dock's name, without a key
    TWIN = "twin"  # a working dock with the paired one's serial and vehicle id, and another key
    REFLECTOR = "reflector"  # sends back what it hears


class DockWireKnobs(Protocol):
    """The serial line between dock and tablet; attributes hold for both directions."""

    lose_permille: int  # of bytes
    flip_permille: int  # of bytes: one bit of each
    split_bytes: int  # pieces of at most so many bytes, each a wake-up of its own; 0: as they were written
    merge_ns: int  # what was written within this time arrives at once, at its end
    delay_ns: int  # every byte arrives this much later, in order
    duplicate_permille: int  # of writes: arrive twice
    replay_permille: int  # of writes towards the tablet: an old one, of the latest 256, comes after it
    bystander: bool  # a dock that is not the paired one hears and talks on the same line
    change_permille: int  # of writes: a bit of each frame is turned, and its crc made right
    version: int | None  # of the protocol, that every frame is given, with a right crc; None: its own

    def plug(self, behind: Behind | None, after_bytes: int = 0) -> None:
        """Put this behind the path, once so many more bytes came to the tablet; None: as its life has it.

        What was there goes first, in mid-frame if the count says so. Another call takes a waiting one back.
        """
        ...


class CanWireKnobs(Protocol):
    """The vehicle bus as the tablet's interface receives it."""

    bus_off: bool  # the interface reports bus-off; nothing is received
    silent: bool  # a cut cable: the interface is up and nothing comes
    frozen: bool  # each id goes on with the payload that it had, counter and all
    foreign_period_ns: int  # so often a frame of another make comes, with the profile's ids; 0: none


class WiringKnobs(Protocol):
    """What reaches the dock of the vehicle's battery and key."""

    sag_mv: int  # the dock is fed so much below the vehicle; under its own limit its microcontroller resets
    kl15: bool | None  # what the dock's KL15 input shows whatever the key says; None: as the key says


class Step(enum.Enum):
    """What is counted up to an instant: it lies between two effects, or between two writes to the disk."""

    EFFECTS = "effects"
    WRITES = "writes"


@dataclass(frozen=True, slots=True)
class Wish:
    """What an officer asks the tablet for: the safety override, or use by a permit of so many minutes.

    A permit's document is told by its ``number``: the same number again is the same document.
    """

    number: int = 0  # 0: the override
    minutes: int = 0


class TabletKnobs(Protocol):
    """The tablet as a machine. ``after`` counts steps from the call on; 0 is at once."""

    guard_down: bool  # SIGKILL of the guard, which is started again when it is set back

    def cut_power(self, after: int, of: Step) -> None:
        """All power goes, the tablet's own battery too."""
        ...

    def kill_agent(self, after: int, of: Step) -> None:
        """SIGKILL. The service manager starts the agent again, as its unit says."""
        ...

    def spare_agent(self) -> None:
        """Take a kill back that still waits for its instant."""
        ...

    def stop_agent(self) -> None:
        """SIGSTOP: the agent is there and does nothing."""
        ...

    def go_on_agent(self) -> None:
        """SIGCONT."""
        ...

    def suspend(self) -> None:
        """The lid closes: logind announces the sleep, waits for inhibitors, and sleeps. Nothing if not on."""
        ...

    def shut_down(self) -> None:
        """Its menu: logind announces it, waits for inhibitors, and powers off. Nothing if not on."""
        ...

    def officer(self, wish: Wish | None) -> None:
        """An officer asks for use without the dock, and logs in a moment later; None: nothing is asked."""
        ...

    def switch_on(self) -> None:
        """The power button: from suspended or off to on. Takes a waiting cut back."""
        ...


class ClockKnobs(Protocol):
    def step_wall(self, by_ns: int) -> None:
        """The wall clock jumps; the boot clock does not."""
        ...


class SessionKnobs(Protocol):
    ignores_lock: bool  # a lock request returns well and nothing is locked


class DiskKnobs(Protocol):
    """The disk under the store."""

    full: bool  # no space left: ENOSPC where a file would grow
    read_only: bool
    io_errors: bool  # EIO for every write and sync
    slow_ns: int  # every sync takes this much longer
    torn: bool  # at a power cut unsynced writes are torn at 512 bytes; without: whole writes are lost


class NetworkKnobs(Protocol):
    """The way between tablet and broker."""

    cut: bool  # connections end and none can be made
    stall_up: bool  # what the tablet sends does not arrive and nobody notices; with stall_down: half-open
    stall_down: bool  # the same for what the broker sends
    delay_ns: int

    def drop(self) -> None:
        """Every connection ends with a reset; new ones are welcome."""
        ...


class BrokerKnobs(Protocol):
    lose_puback_permille: int  # of acknowledgements to the tablet: lost
    duplicate_permille: int  # of messages to the depot: delivered twice

    def stop(self, *, keep: bool) -> None:
        """End, with sessions, retained and queued messages ``keep``-t on its disk or lost."""
        ...

    def start(self) -> None:
        """Start again; nothing if it runs."""
        ...


class DepotKnobs(Protocol):
    silent: bool  # takes nothing from the broker, which keeps it for the depot's session
    lose_ack_permille: int  # of acknowledgements to tablets: lost

    def back_up(self) -> None:
        """Keep a copy of everything that it holds, in place of the copy before."""
        ...

    def restore(self) -> None:
        """Go back to the copy: all that came since is forgotten. Nothing without a copy."""
        ...


class FaultyWorld(Protocol):
    """All that a fault sees of the world."""

    @property
    def dockwire(self) -> DockWireKnobs: ...
    @property
    def canwire(self) -> CanWireKnobs: ...
    @property
    def wiring(self) -> WiringKnobs: ...
    @property
    def tablet(self) -> TabletKnobs: ...
    @property
    def clock(self) -> ClockKnobs: ...
    @property
    def session(self) -> SessionKnobs: ...
    @property
    def disk(self) -> DiskKnobs: ...
    @property
    def network(self) -> NetworkKnobs: ...
    @property
    def broker(self) -> BrokerKnobs: ...
    @property
    def depot(self) -> DepotKnobs: ...
