"""A vehicle profile: from its TOML file to frozen, validated declarations.

docs/adding-a-vehicle.md describes the file. An error names the file, the frame, the signal and the key,
what was expected and what came. A profile may take places and scales from a DBC file beside it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from agent.core.types import KeyPosition, SignalKind
from drivers.vehicles.codec import (
    ALGORITHMS,
    FD_LENGTHS,
    MAX_LENGTH,
    Bits,
    Checksum,
    Counter,
    Frame,
    Profile,
    Signal,
    Value,
)
from drivers.vehicles.tables import ProfileError, Table

SWITCHES: Mapping[SignalKind, Mapping[str, Value]] = {
    SignalKind.IGNITION: {position.value: position for position in KeyPosition},
    SignalKind.READY: {"true": True, "false": False},
}
LARGEST_ID = {False: 0x7FF, True: 0x1FFF_FFFF}  # 11 and 29 bits
LARGEST_PGN = 0x3FFFF  # 18 bits: extended data page, data page, PF, PS
PDU1_END = 0xF000  # J1939-21: PGNs below have a destination in their last byte, which must be zero here
USUAL_PRIORITY = 6  # J1939-21, for what is not a command
DEFAULT_BUS = "powertrain"  # the configuration's default name of a bus


def load(path: Path) -> Profile:
    """Read and validate a profile file.

    Raises:
        ProfileError: it cannot be read, is not TOML, or does not fit together.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not TOML: {error}") from None
    if "dbc" in values:
        from drivers.vehicles import dbc  # cantools takes 250 ms to import; few profiles need it

        values = dbc.resolve(values, path)
    return parse(values, str(path))


def parse(values: Mapping[str, Any], where: str) -> Profile:
    """Validate the tables of a profile; ``where`` begins every error."""
    top = Table(where, values)
    name, title = top.text("name"), top.text("title")
    sources = top.items("sources", "a list of texts")
    if not sources or not all(isinstance(source, str) and source for source in sources):
        top.fail("sources", "at least one text that says where the frames are known from", sources)
    recordings = top.items("recordings", "a list of texts", [])
    if not all(isinstance(recording, str) and recording for recording in recordings):
        top.fail(
            "recordings", "texts that say which recordings of real vehicles it was tried with", recordings
        )
    # An empty list, written down, is a vehicle without CAN; to have forgotten the frames is an error.
    tables = top.items("frame", "at least one [[frame]], or frame = [] for a vehicle without CAN")
    top.end()
    frames = tuple(_frame(table, f"{where}: frame {n + 1}") for n, table in enumerate(tables))
    _distinct(frames, where)
    return Profile(name, title, tuple(sources), frames, tuple(recordings))


def _distinct(frames: tuple[Frame, ...], where: str) -> None:
    """No two frames of a bus have a name, a signal or an id in common, unless their bytes tell them apart."""
    seen: set[tuple[str, object]] = set()
    for number, frame in enumerate(frames):
        names: list[object] = [frame.name, *(signal.kind.value for signal in frame.signals)]
        if frame.pgn is not None:
            names.append(f"PGN {frame.pgn}")
        elif not all(_told_apart(frame, other) for other in frames[:number]):
            raise ProfileError(
                f"{where}: frame {frame.name}: id 0x{frame.can_id:X} is there twice on bus {frame.bus}; "
                "expected `match` with another value at one place at least"
            )
        for name in names:
            if (frame.bus, name) in seen:
                raise ProfileError(f"{where}: frame {frame.name}: {name} is there twice on bus {frame.bus}")
            seen.add((frame.bus, name))


def _told_apart(one: Frame, other: Frame) -> bool:
    if (one.bus, one.can_id, one.extended) != (other.bus, other.can_id, other.extended):
        return True
    theirs = dict(other.match)
    return any(theirs.get(place, value) != value for place, value in one.match)


def _frame(values: object, where: str) -> Frame:
    if not isinstance(values, dict):
        raise ProfileError(f"{where}: expected a table, came {values!r}")
    table = Table(where, values)
    name = table.text("name")
    table.where = f"{where} ({name})"
    bus = table.text("bus", DEFAULT_BUS)
    pgn: int | None = None
    senders: tuple[int, ...] = ()
    if table.has("pgn"):
        pgn, senders, can_id = _j1939_id(table)
        extended = True
    else:
        extended = table.flag("extended", default=False)
        can_id = table.whole("id", 0, LARGEST_ID[extended])
    fd = table.flag("fd", default=False)
    length = table.whole("length", 1, FD_LENGTHS[-1] if fd else MAX_LENGTH)
    if length not in FD_LENGTHS:
        table.fail("length", f"one of {', '.join(map(str, FD_LENGTHS))} bytes, as CAN FD has them", length)
    period_ms = table.whole("period_ms", 1, 60_000)
    freshness_ms = table.whole("freshness_ms", 2 * period_ms, 600_000)
    fill = table.whole("fill", 0, 0xFF, 0)
    match = _match(table, length)
    taken: set[int] = {8 * place + bit for place, _ in match for bit in range(8)}
    counter = (
        Counter(_bits(table.table("counter"), length, taken, end=True)) if table.has("counter") else None
    )
    checksum = _checksum(table.table("checksum"), length, taken) if table.has("checksum") else None
    tables = table.items("signal", "at least one [[frame.signal]]")
    table.end()
    if not tables:
        table.fail("signal", "at least one [[frame.signal]]", tables)
    signals = tuple(_signal(item, table.where, length, taken) for item in tables)
    return Frame(
        name,
        bus,
        can_id,
        extended,
        length,
        period_ms,
        freshness_ms,
        signals,
        pgn,
        senders,
        counter,
        checksum,
        fill,
        match,
        fd,
    )


def _match(table: Table, length: int) -> tuple[tuple[int, int], ...]:
    expected = f"bytes by their place, such as {{ 2 = 0x0C }}: places 0 to {length - 1}, values 0 to 255"
    given = table.take("match", expected, {})
    if not isinstance(given, dict):
        table.fail("match", expected, given)
    for place, value in given.items():
        if not (place.isdecimal() and int(place) < length and type(value) is int and 0 <= value <= 0xFF):
            table.fail("match", expected, given)
    return tuple(sorted((int(place), value) for place, value in given.items()))


def _j1939_id(table: Table) -> tuple[int, tuple[int, ...], int]:
    pgn = table.whole("pgn", 0, LARGEST_PGN)
    if pgn & 0xFFFF < PDU1_END and pgn & 0xFF:
        table.fail("pgn", "a PDU1 PGN with a last byte of zero (it is the destination)", pgn)
    priority = table.whole("priority", 0, 7, USUAL_PRIORITY)
    senders = table.items("senders", "a list of source addresses")
    if not senders or not all(type(sender) is int and 0 <= sender <= 0xFD for sender in senders):
        table.fail("senders", "source addresses from 0 to 253", senders)
    return pgn, tuple(senders), priority << 26 | pgn << 8 | senders[0]


def _bits(table: Table, length: int, taken: set[int], *, end: bool = False) -> Bits:
    order = table.text("order", "little")
    if order not in ("little", "big"):
        table.fail("order", "little (Intel) or big (Motorola)", order)
    literal: Literal["little", "big"] = "little" if order == "little" else "big"
    bits = Bits(
        table.whole("start", 0, 8 * FD_LENGTHS[-1] - 1),
        table.whole("length", 1, 8 * MAX_LENGTH),
        literal,
        table.flag("signed", default=False),
    )
    places = bits.places(length)
    if not places <= set(range(8 * length)):
        table.fail("start, length", f"bits within the frame's {length} bytes", (bits.start, bits.length))
    if places & taken:
        table.fail("start, length", "bits that nothing else of the frame uses", (bits.start, bits.length))
    taken |= places
    if end:
        table.end()
    return bits


def _checksum(table: Table, length: int, taken: set[int]) -> Checksum:
    bits = _bits(table, length, taken)
    algorithm = table.text("algorithm")
    if algorithm not in ALGORITHMS:
        table.fail("algorithm", f"one of {', '.join(sorted(ALGORITHMS))}", algorithm)
    constant = table.whole("constant", 0, 0xFF)
    table.end()
    return Checksum(bits, algorithm, constant)


def _signal(values: object, where: str, length: int, taken: set[int]) -> Signal:
    if not isinstance(values, dict):
        raise ProfileError(f"{where}: signal: expected a table, came {values!r}")
    table = Table(f"{where}: signal", values)
    kinds = {kind.value: kind for kind in SignalKind}
    name = table.text("kind")
    if name not in kinds:
        table.fail("kind", f"one of {', '.join(kinds)}", name)
    kind = kinds[name]
    table.where = f"{where}: signal {name}"
    bits = _bits(table, length, taken)
    if table.has("meanings"):
        every_bit = (1 << bits.length) - 1
        mask = table.whole("mask", 1, every_bit, every_bit)
        signal = Signal(kind, bits, mask, _meanings(table, kind, mask))
    else:
        signal = _measured(table, kind, bits)
    table.end()
    return signal


def _meanings(table: Table, kind: SignalKind, mask: int) -> tuple[tuple[Value, tuple[int, ...]], ...]:
    words = SWITCHES.get(kind)
    if words is None:
        table.fail("meanings", f"none, as {kind.value} is measured", "meanings")
    given = table.take("meanings", "a table")
    expected = f"numbers for {', '.join(words)}, each number once and within the mask 0x{mask:X}"
    if not isinstance(given, dict) or not given or not given.keys() <= words.keys():
        table.fail("meanings", expected, given)
    numbers: list[object] = []
    for each in given.values():
        if not isinstance(each, list) or not each or not all(type(n) is int and n & mask == n for n in each):
            table.fail("meanings", expected, given)
        numbers += each
    if len(set(numbers)) != len(numbers):
        table.fail("meanings", expected, given)
    return tuple((words[word], tuple(each)) for word, each in given.items())


def _measured(table: Table, kind: SignalKind, bits: Bits) -> Signal:
    if kind is SignalKind.READY:
        table.fail("meanings", "numbers for true and false", "none")
    scale = table.number("scale", 1)
    if scale == 0:
        table.fail("scale", "a number other than 0", 0)
    lowest, highest = _pair(table, "range", table.items("range", "[lowest, highest] in the kind's unit"))
    on_from = off_to = None
    if kind is SignalKind.IGNITION:
        on_from = table.whole("on_from_mv", 1, 60_000)
        off_to = table.whole("off_to_mv", 0, on_from - 1)
    return Signal(
        kind, bits, scale=scale, offset=table.number("offset", 0), lowest=lowest, highest=highest,
        on_from=on_from, off_to=off_to,
        not_available=tuple(
            _pair(table, "not_available", [item, item] if type(item) is int else item)
            for item in table.items("not_available", "a list of numbers or [first, last]", [])
        ),
    )  # fmt: skip


def _pair(table: Table, key: str, value: object) -> tuple[int, int]:
    whole = isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value)
    if not whole or not isinstance(value, list) or value[0] > value[1]:
        table.fail(key, "two whole numbers, the lower first", value)
    return value[0], value[1]
