"""The catalogue: every kind of record that can leave the tablet, declared once.

What is not declared here cannot be recorded: ``RecordKind.make`` refuses an unknown, missing or mistyped
field, and the store refuses a kind that it does not find here. The data inventory in docs/ is generated
from this module. Streams and their durability are described in docs/queue-and-sync.md.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from agent.core.quick import quick

Value: TypeAlias = int | str | bool | None


class Stream(enum.Enum):
    """Streams in the order in which they are sent."""

    ALARM = "alarm"
    AUDIT = "audit"
    STATE = "state"
    TELEMETRY = "telemetry"


class PersonalData(enum.Enum):
    """How close a field comes to a person (UK GDPR art. 4, DPA 2018 part 3)."""

    NONE = "none"
    DEVICE = "device"  # identifies a tablet, dock or vehicle, and so a person only with other records
    CONDUCT = "conduct"  # says what the user of the tablet did


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: type[int] | type[str] | type[bool]
    unit: str
    precision: str
    personal: PersonalData
    meaning: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class RecordKind:
    """One kind of record: where it goes, what is in it, why it is kept and for how long."""

    name: str
    stream: Stream
    version: int
    purpose: str
    retention_days: int  # at the depot; on the tablet too, but acknowledged rows go after 14 days at most
    fields: tuple[Field, ...]

    def make(self, at: int, **values: Value) -> Record:
        """Build a record stamped ``at`` (boot ns).

        Raises:
            ValueError: a field is unknown, missing or not of the declared type.
        """
        unknown = values.keys() - {field.name for field in self.fields}
        if unknown:
            raise ValueError(
                f"record {self.name}: unknown fields {sorted(unknown)}; declare them in the catalogue"
            )
        body: list[Value] = []
        for field in self.fields:
            value = values.get(field.name)
            if value is None:
                if not field.optional:
                    raise ValueError(f"record {self.name}: field {field.name} is missing")
            elif type(value) is not field.type:
                raise ValueError(
                    f"record {self.name}: field {field.name} wants {field.type.__name__}, "
                    f"not {type(value).__name__}"
                )
            body.append(value)
        return Record(self, at, tuple(body))


@quick
@dataclass(frozen=True, slots=True)
class Record:
    """A record that waits for its commit: kind, boot time in ns, values in the kind's field order."""

    kind: RecordKind
    at: int
    body: tuple[Value, ...]

    def as_dict(self) -> dict[str, Value]:
        return dict(zip((f.name for f in self.kind.fields), self.body, strict=True))
