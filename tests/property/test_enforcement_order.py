"""Whatever order decisions arrive in, the newest rules, and every lock carried out has one outcome."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.types import Basis, BootNs, Decision, Lock, LockOutcome, Observation, Release
from agent.enforcement.base import EnforcementAction, Outcome, Surroundings
from agent.enforcement.chain import Chain

CAUSE = Decision("tether", "restricted", "tether.unseated", "taken out", BootNs(5))


class Ledger(EnforcementAction):
    """Notes what it is told; its locks are verified only when the test ends."""

    name = "ledger"

    def __init__(self, settings: Mapping[str, object], around: Surroundings | None = None) -> None:
        self.told: list[tuple[str, int]] = []
        self.pending: list[asyncio.Future[Outcome]] = []

    def lock(self, order: Lock) -> Awaitable[Outcome]:
        self.told.append(("lock", order.decision))
        self.pending.append(asyncio.get_running_loop().create_future())
        return self.pending[-1]

    def release(self, order: Release) -> None:
        self.told.append(("release", order.decision))


ORDERS = st.lists(st.tuples(st.sampled_from(["lock", "release"]), st.integers(0, 6)), max_size=12)


@settings(max_examples=150, deadline=None)
@given(ORDERS)
def test_the_newest_decision_rules_and_each_lock_has_one_outcome(orders: list[tuple[str, int]]) -> None:
    async def run() -> None:
        seen: list[Observation] = []
        ledger = Ledger({})
        chain = Chain([ledger], seen.append, lambda: BootNs(9))
        for what, number in orders:
            if what == "lock":
                chain.lock(Lock(number, CAUSE))
            else:
                chain.release(Release(number, CAUSE, Basis.PROOF))
        for future in ledger.pending:
            if not future.done():
                future.set_result(Outcome(True, 1, ""))
        await chain.close()

        numbers = [number for _, number in ledger.told]
        assert numbers == sorted(numbers)  # nothing older than what was carried out before
        for before, after in zip(ledger.told, ledger.told[1:], strict=False):
            assert not (before == ("lock", after[1]) and after[0] == "release")
        if orders:
            newest = max(number for _, number in orders)
            of_newest = {what for what, number in orders if number == newest}
            if "lock" in of_newest:  # in doubt it stays locked
                assert ledger.told[-1] == ("lock", newest)
        outcomes = [seen_ for seen_ in seen if isinstance(seen_, LockOutcome)]
        locks = Counter(number for what, number in ledger.told if what == "lock")
        assert Counter(outcome.decision for outcome in outcomes) == locks

    asyncio.run(run())
