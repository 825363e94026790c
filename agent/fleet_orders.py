"""What the control room sends, each to the desk that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from agent.command_desk import CommandDesk
from agent.core.orders import Command, NewFleetKey, Order, OrderRefused, Wanted
from agent.desired_desk import DesiredDesk


@dataclass
class FleetOrders:
    """Commands, desired configuration, and the fleet's key."""

    commands: CommandDesk
    desired: DesiredDesk
    change_fleet_key: Callable[[NewFleetKey], None]
    refused: dict[str, int] = field(default_factory=dict)  # by what they were

    def start(self) -> None:
        self.desired.start()

    async def close(self) -> None:
        self.desired.close()
        await self.commands.close()

    def take(self, order: Order) -> None:
        match order:
            case Command():
                self.commands.take(order)
            case Wanted():
                self.desired.take(order)
            case NewFleetKey():
                self.change_fleet_key(order)
            case OrderRefused(what=what):
                self.refused[what] = self.refused.get(what, 0) + 1
                self.commands.refuse(order)
            case _:
                assert_never(order)

    def status(self) -> dict[str, object]:
        """For people."""
        return {
            "commands": self.commands.taken,
            "refused": dict(self.refused),
            "desired": self.desired.status(),
        }
