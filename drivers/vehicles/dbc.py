"""Places and scales of a profile's signals, taken from a DBC file beside it when the profile is loaded.

cantools reads the file; nothing of it is used while frames come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from drivers.vehicles.tables import ProfileError

MESSAGE_KEYS = ("id", "extended", "length")
SIGNAL_KEYS = ("start", "length", "order", "signed", "scale", "offset")


def resolve(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The profile's tables with each ``message`` and ``signal`` replaced by what the DBC says of it.

    A signal may give ``per_unit``: how many of its kind's unit (mV) are one of the DBC's (V).

    Raises:
        ProfileError: the DBC cannot be read, or lacks what the profile names.
    """
    from cantools.database import load_file  # slow and large: only for a profile that names a DBC
    from cantools.database.can import Database
    from cantools.database.errors import Error

    file = path.parent / str(values["dbc"])
    try:
        # Not strict: published DBC files overlap here and there; profile.py checks the signals that are used.
        database = load_file(file, database_format="dbc", strict=False)
    except OSError as error:
        raise ProfileError(f"{path}: dbc: {file} cannot be read: {error.strerror}") from None
    except (Error, ValueError) as error:
        raise ProfileError(f"{path}: dbc: {file} is no DBC file: {error}") from None
    if not isinstance(database, Database):
        raise ProfileError(f"{path}: dbc: expected CAN messages in {file}, came a diagnostics database")
    messages = {message.name: message for message in database.messages}
    resolved = {key: value for key, value in values.items() if key != "dbc"}
    resolved["frame"] = [_frame(frame, messages, str(path)) for frame in values.get("frame", [])]
    return resolved


def _frame(frame: Any, messages: Mapping[str, Any], where: str) -> Any:
    if not isinstance(frame, dict) or "message" not in frame:
        return frame
    name = frame["message"]
    message = messages.get(name)
    if message is None:
        raise ProfileError(f"{where}: message: expected one of {', '.join(sorted(messages))}, came {name!r}")
    found = {"id": message.frame_id, "extended": message.is_extended_frame, "length": message.length}
    if "pgn" in frame:
        del found["id"], found["extended"]
    given = {key: value for key, value in frame.items() if key not in ("message", "signal")}
    _no_second_word(given, found, f"{where}: message {name}")
    signals = {signal.name: signal for signal in message.signals}
    listed = [_signal(each, signals, f"{where}: message {name}") for each in frame.get("signal", [])]
    return {"name": name, **found, **given, "signal": listed}


def _signal(values: Any, signals: Mapping[str, Any], where: str) -> Any:
    if not isinstance(values, dict) or "signal" not in values:
        return values
    name = values["signal"]
    signal = signals.get(name)
    if signal is None:
        raise ProfileError(f"{where}: signal: expected one of {', '.join(sorted(signals))}, came {name!r}")
    found: dict[str, Any] = {
        "start": signal.start,
        "length": signal.length,
        "order": "little" if signal.byte_order == "little_endian" else "big",
        "signed": signal.is_signed,
    }
    if "meanings" not in values:
        per_unit = Decimal(str(values.get("per_unit", 1)))
        found["scale"] = Decimal(str(signal.scale)) * per_unit
        found["offset"] = Decimal(str(signal.offset)) * per_unit
    given = {key: value for key, value in values.items() if key not in ("signal", "per_unit")}
    _no_second_word(given, found, f"{where}: signal {name}")
    return {**found, **given}


def _no_second_word(given: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    both = sorted(given.keys() & found.keys())
    if both:
        raise ProfileError(
            f"{where}: {', '.join(both)}: expected from the DBC only, came from the profile too"
        )
