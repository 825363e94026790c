"""The desk where leave is asked for: verbs of the control sockets for permits, short codes and the override.

Who may ask is decided here, what is granted in the core. A signature or a code is authority enough, so that
the officer at the tablet needs no other; the override is the officer's own. No answer to a challenge is kept,
logged or traced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from agent.control import Caller, Refusal, Verb
from agent.core import explain
from agent.core.state import Answer, State
from agent.core.types import (
    BootNs,
    CodeAnswered,
    CodeRequested,
    DocumentRefused,
    Effects,
    GrantsRevoked,
    Observation,
    OverrideRefilled,
    OverrideTaken,
    PermitPresented,
    Scope,
)
from agent.dbus_wire import BusError
from agent.officers import Officers
from agent.runtime import Runtime

IN_FORCE_S = 1.5  # ours: a little longer than a release waits for a store that fails
TEXT_MAX = 8192  # characters of a document; sync/signed.py looks at no more

_WHAT = {PermitPresented: "permit", GrantsRevoked: "revoke", OverrideRefilled: "refill"}


class Papers(Protocol):
    def read(self, text: str, at: BootNs) -> Observation: ...


class ShortCodes(Protocol):
    def challenge(self) -> str: ...
    def shown(self, challenge: str) -> str: ...
    def can_be_one(self, given: str) -> bool: ...
    def right(self, given: str, challenge: str, scope: str, minutes: int) -> bool: ...


class GrantDesk:
    """Answers the verbs. ``papers`` and ``codes`` are None where the tablet has no key for them."""

    def __init__(
        self,
        device: str,
        papers: Papers | None,
        codes: ShortCodes | None,
        officers: Officers,
        own_uid: int,
        now: Callable[[], BootNs],
    ) -> None:
        self._device = device
        self._papers = papers
        self._codes = codes
        self._officers = officers
        self._trusted = {0, own_uid}
        self._now = now
        self._runtime: Runtime | None = None
        self._turn = asyncio.Lock()  # one request is recorded at a time, the override apart
        self._waiting: list[tuple[str, asyncio.Future[Answer]]] = []

    def attach(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def watch(self, _observation: Observation, state: State, _effects: Effects) -> None:
        """A watcher of the runtime: an answer that had to wait for its commit is there."""
        answer = state.grants.answer
        if answer is None or not self._waiting:
            return
        for what, future in self._waiting:
            if what == answer.what and not future.done():
                future.set_result(answer)

    def verbs(self) -> dict[str, Verb]:
        return {
            **self.officer_verbs(),
            "permit.revoke": Verb(self._revoke, changes=True),
        }

    def officer_verbs(self) -> dict[str, Verb]:
        """What the officer's socket serves: each looks who asks."""
        return {
            "permit.status": Verb(lambda _args: self.status()),
            "permit.load": Verb(self._load, with_caller=True),
            "permit.challenge": Verb(self._challenge, with_caller=True),
            "permit.answer": Verb(self._answer, with_caller=True),
            "override": Verb(self._override, with_caller=True),
        }

    def status(self) -> dict[str, Any]:
        """What is granted, and what is left; no record is shown."""
        runtime = self._running()
        whole = explain.status(runtime.state, runtime.policy, self._now())
        return {
            **whole["grants"],
            "usable": whole["tether"]["usable"],
            "permits": self._papers is not None,
            "codes": self._codes is not None,
        }

    # --- the verbs ------------------------------------------------------------------------------------

    async def _load(self, args: Mapping[str, Any], caller: Caller) -> object:
        await self._at_the_tablet(caller.peer.uid)
        text = args.get("text")
        if not isinstance(text, str) or len(text) > TEXT_MAX:
            raise Refusal("bad_request", f"text: expected text of at most {TEXT_MAX} characters", _SHAPES)
        return await self.present(text)

    async def present(self, text: str) -> dict[str, Any]:
        """Take a document in, whoever brings it: its signature is what counts.

        Raises:
            Refusal: it is not taken, and why.
        """
        if self._papers is None:
            raise Refusal(
                "no_key", "this tablet trusts no permit authority", "set permits.authority_key_files"
            )
        async with self._turn:
            read = self._papers.read(text, self._now())
            what = "document" if isinstance(read, DocumentRefused) else _WHAT[type(read)]
            return await self._ask(read, what)

    async def _challenge(self, args: Mapping[str, Any], caller: Caller) -> object:
        await self._at_the_tablet(caller.peer.uid)
        codes = self._with_codes()
        minutes, scope = args.get("minutes", 30), args.get("scope", Scope.UNDOCKED.value)
        if type(minutes) is not int or not 1 <= minutes <= 1 << 20:
            raise Refusal("bad_request", f"minutes: expected 1 or more, came {minutes!r}", _SHAPES)
        if scope not in {each.value for each in Scope}:
            raise Refusal("bad_request", f"scope: expected undocked or any, came {scope!r}", _SHAPES)
        async with self._turn:
            request = CodeRequested(self._now(), codes.challenge(), Scope(scope), minutes)
            await self._ask(request, "challenge")
        return {
            "device": self._device,
            "challenge": codes.shown(request.challenge),
            "scope": scope,
            "minutes": minutes,
            "s_left": self.status()["challenge"]["s_left"],
        }

    async def _answer(self, args: Mapping[str, Any], caller: Caller) -> object:
        await self._at_the_tablet(caller.peer.uid)
        codes = self._with_codes()
        given = args.get("code")
        if not isinstance(given, str) or len(given) > 64 or not codes.can_be_one(given):
            raise Refusal("bad_request", "code: expected 12 letters and digits; no try was used", _SHAPES)
        async with self._turn:
            asked = self._running().state.grants.challenge
            right = asked is not None and codes.right(given, asked.text, asked.scope.value, asked.minutes)
            return await self._ask(CodeAnswered(self._now(), right), "code")

    async def _override(self, args: Mapping[str, Any], caller: Caller) -> object:
        uid = caller.peer.uid
        if uid in self._trusted:
            # The officer's page asks for whoever has the screen; root alone has no override.
            uid = args.get("uid", uid)
            if type(uid) is not int or uid < 0:
                raise Refusal("bad_request", f"uid: expected a user id, came {uid!r}", _SHAPES)
        await self._session_of(uid)
        return await self._ask(OverrideTaken(self._now(), uid), "override")

    async def _revoke(self, _args: Mapping[str, Any]) -> object:
        async with self._turn:
            return await self._ask(GrantsRevoked(self._now(), "root", None), "revoke")

    # --- asking the core ------------------------------------------------------------------------------

    async def _ask(self, request: Observation, what: str) -> dict[str, Any]:
        """Have the core decide, and wait until what it grants is recorded and in force."""
        runtime = self._running()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        entry = (what, future)
        runtime.observe(request)
        answer = runtime.state.grants.answer
        if answer is None:
            self._waiting.append(entry)
            try:
                answer = await future
            finally:
                self._waiting.remove(entry)
        if not answer.given:
            raise Refusal("not_granted", answer.because, f"rule {answer.rule}; see `ivmactl why tether`")
        with contextlib.suppress(TimeoutError):  # a store that fails settles nothing
            async with asyncio.timeout(IN_FORCE_S):
                await runtime.settle()  # the release waits for its own record
        return {"rule": answer.rule, "because": answer.because, **self.status()}

    async def _at_the_tablet(self, uid: int) -> None:
        if uid not in self._trusted:
            await self._session_of(uid)

    async def _session_of(self, uid: int) -> None:
        try:
            there = await self._officers.at_the_tablet(uid)
        except BusError as error:
            raise Refusal("no_logind", f"logind does not say who is here: {error}", _LATER) from None
        if not there:
            raise Refusal(
                "forbidden",
                f"user {uid} has no active session at the tablet",
                "log in at its screen, and ask there",
            )

    def _with_codes(self) -> ShortCodes:
        if self._codes is None:
            raise Refusal("no_key", "this tablet has no code key", "set permits.code_key_file")
        return self._codes

    def _running(self) -> Runtime:
        if self._runtime is None:
            raise Refusal("starting", "the agent is still starting", "try again in a moment")
        return self._runtime


_LATER = "try again; see `journalctl -u ivma-agent`"
_SHAPES = "see docs/operating.md, The control socket"
