"""The tables of docks without a key, and what a dock of each model must have."""

from __future__ import annotations

import re
import typing
from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agent.config_base import Section
from agent.config_base import doc as _doc
from agent.core.policy import HintUse, Policy

_INPUT_LINE = r"^!?(cts|dsr|dcd|ri)$"
_OUTPUT_LINE = r"^!?(dtr|rts)$"
InputLine = Annotated[str, Meta(pattern=_INPUT_LINE)]
OutputLine = Annotated[str, Meta(pattern=_OUTPUT_LINE)]
UsbSerial = Annotated[str, Meta(min_length=1, max_length=126)]  # of a USB string descriptor
UsbPath = Annotated[str, Meta(pattern=r"^[0-9]+-[0-9.]+$")]


class Lines(Section, frozen=True, kw_only=True):
    """Which control line means what: cts, dsr, dcd or ri in, dtr or rts out; "!" before it inverts."""

    seated: Annotated[InputLine | None, _doc("Input that is asserted while the tablet is seated.")] = None
    mated: Annotated[InputLine | None, _doc("Input that is asserted while the contacts are mated.")] = None
    locked: Annotated[InputLine | None, _doc("Input that is asserted while the latch holds.")] = None
    kl15: Annotated[InputLine | None, _doc("Input that is asserted while the ignition is on.")] = None
    supply_ok: Annotated[
        InputLine | None, _doc("Input that is asserted while the dock's supply is good.")
    ] = None
    latch: Annotated[OutputLine | None, _doc("Output that holds the latch closed.")] = None
    led: Annotated[OutputLine | None, _doc("Output that lights the LED.")] = None
    buzzer: Annotated[OutputLine | None, _doc("Output that sounds the buzzer.")] = None
    power_hold: Annotated[OutputLine | None, _doc("Output that keeps the tablet's supply on.")] = None
    supply_enable: Annotated[OutputLine | None, _doc("Output that lets the tablet take vehicle power.")] = (
        None
    )
    power_cut: Annotated[
        OutputLine | None, _doc("Output that makes the dock cut the supply, after a delay of the dock's own.")
    ] = None
    debounce_ms: Annotated[int, _doc("An input counts once it has stood this long, ms.", ge=0, le=2000)] = 50
    poll_ms: Annotated[
        int, _doc("Time between two looks where the driver cannot wait for edges, ms.", ge=20, le=1000)
    ] = 200


class Usb(Section, frozen=True, kw_only=True):
    """The USB device whose presence is a hint."""

    vendor: Annotated[str, _doc("Vendor id, four hex digits.", pattern="^[0-9a-f]{4}$")]
    product: Annotated[str, _doc("Product id, four hex digits.", pattern="^[0-9a-f]{4}$")]
    serial: Annotated[UsbSerial | None, _doc("Serial that it must have.")] = None
    port_path: Annotated[
        UsbPath | None, _doc("Where it must be plugged in, as the kernel names it: 1-1.2.")
    ] = None
    means: Annotated[
        Literal["mated", "seated"], _doc("What its presence says; a hub in the dock says no more than mated.")
    ] = "mated"


class Supply(Section, frozen=True, kw_only=True):
    """A vehicle supply that reports voltages."""

    ignition: Annotated[bool, _doc("Its ignition input is connected.")] = True
    ignition_on_mv: Annotated[
        int, _doc("From here its ignition input is on; off 1 V lower, mV.", ge=2000, le=20_000)
    ] = 6000
    poll_ms: Annotated[int, _doc("Time between two questions, ms.", ge=100, le=1000)] = 200


# Models without a key, and the table that says what the model has to know.
KEYLESS: dict[str, str | None] = {
    "control-lines": "lines",
    "usb-presence": "usb",
    "dock-switch": None,
    "dcdc-usb": "supply",
}
SELF_FOUND = {"usb-presence", "dock-switch", "dcdc-usb"}  # without `port` or `match`


def dock_problems(dock: Any) -> typing.Iterator[str]:
    """What a dock of its model lacks, or has too much."""
    pairing = [name for name in ("serial", "vehicle_id", "key_file") if getattr(dock, name)]
    if dock.model in KEYLESS:
        table = KEYLESS[dock.model]
        for name in pairing:
            yield f"`{name}` is of no use: the model {dock.model} has no key; leave it out"
        if table in ("lines", "usb") and getattr(dock, table) is None:
            yield f"the model {dock.model} needs a table `[dock.{table}]`"
        if dock.model == "usb-presence" and (dock.port or dock.match):
            yield "the device is named by `[dock.usb]`; leave `port` and `match` out"
    else:
        table = None
        # A model of another package may have no key; half a pairing is none.
        for name in ("serial", "vehicle_id", "key_file"):
            if name not in pairing and (pairing or dock.model == "reference"):
                yield f"`{name}` is missing: the model {dock.model} is known by its pairing"
    if dock.settings and (dock.model in KEYLESS or dock.model == "reference"):
        yield f"`settings` is for models of other packages; {dock.model} has none"
    for name in ("lines", "usb", "supply"):
        if name != table and getattr(dock, name) is not None:
            model = next(model for model, its in KEYLESS.items() if its == name)
            yield f"`[dock.{name}]` is for the model {model}; this one is {dock.model}"
    lines = dock.lines
    if lines is not None:
        given = {name: line for name, line in msgspec.structs.asdict(lines).items() if isinstance(line, str)}
        outputs = [line.lstrip("!") for line in given.values() if re.match(_OUTPUT_LINE, line)]
        if len(outputs) == len(given):
            yield "`[dock.lines]` names no input, so that the dock says nothing; give at least one"
        for line in sorted({line for line in outputs if outputs.count(line) > 1}):
            yield f"`[dock.lines]` uses the output {line} twice; an output has one meaning"


def beside_keys(policy: Policy, paired: Collection[str]) -> tuple[Policy, list[str]]:
    """The policy that holds beside docks that were paired, and what of it does not.

    A configuration cannot name them, so ``hint_problems`` does not see them.
    """
    if policy.tether.hint_lines is not HintUse.ALLOW or not paired:
        return policy, []
    problem = (
        f"`policy.tether.hint_lines` is allow, and dock {min(paired)} is paired: a wire bridge would open "
        "what its key guards, so restrict is in force; use report or restrict, or unpair the dock"
    )
    tether = replace(policy.tether, hint_lines=HintUse.RESTRICT)
    return replace(policy, tether=tether), [problem]


def hint_problems(settings: Any) -> typing.Iterator[str]:
    """Control lines that stand for proof do so alone, and can say all that is required."""
    policy = settings.policy.tether
    if policy.hint_lines is not HintUse.ALLOW:
        return
    where = "`policy.tether.hint_lines` is allow"
    keyed = [dock.name for dock in settings.dock if dock.key_file]
    if keyed:
        yield (
            f"{where}, and dock {keyed[0]} has a key: a wire bridge would open what the key guards; "
            "use report or restrict"
        )
    cradles = [dock for dock in settings.dock if dock.model == "control-lines"]
    if not cradles:
        yield f"{where}, and no dock is of the model control-lines"
    for dock in cradles:
        for bit in policy.required:
            line = None if dock.lines is None else getattr(dock.lines, bit)
            if line is not None and line.startswith("!"):
                yield (
                    f"{where}, and dock {dock.name} has {bit} on {line}, inverted: a cable that is cut would "
                    "say yes; wire it so that the line is asserted while it is true"
                )
            if dock.lines is not None and getattr(dock.lines, bit) is None:
                yield (
                    f"{where}, and dock {dock.name} has no line for {bit}, which `policy.tether.required` "
                    "asks for: it could never hold the tablet"
                )
