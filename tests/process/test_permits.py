"""Permits, short codes and the override with the real daemon, ivmactl and ivma-depot; a reboot is another
boot id. docs/security.md names these tests for the attacks on them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import signal
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.types import Remembered
from sync import codes
from tests.agent_rig import WAIT_S, stop
from tests.aio import looped
from tests.permit_rig import DEVICE, FLEET, Tablet, answered, shown

REFUSED = 4


@contextlib.asynccontextmanager
async def killed(tablet: Tablet) -> AsyncIterator[None]:
    """A run that ends by SIGKILL."""
    async with tablet.running() as process:
        yield
        process.send_signal(signal.SIGKILL)
        await process.wait()


@looped
async def test_a_permit_in_a_mail_opens_the_tablet_and_why_says_so(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with tablet.running() as process:
        assert not await tablet.usable()
        mail = "Dear colleague,\n\n" + "".join(f"> {line}\n" for line in tablet.permit().splitlines())
        code, said = await tablet.say("permit", "load", "-", given=mail)
        assert code == 0, said
        assert re.search(r"permit \d+, 45 min left, undocked", said)
        assert await tablet.usable()
        assert [r["rule"] for r in await tablet.records("grant.changed")] == ["grant.permit"]
        [changed] = await tablet.records("enforcement.changed")
        assert (changed["posture"], changed["basis"], changed["rule"]) == ("usable", "grant", "grant.permit")
        _, why = await tablet.ask("why", "tether")
        assert any(row["source"].startswith("permit ") and row["fresh"] for row in why["evidence"])
        assert await stop(process) == 0
        assert process.stdout is not None
        printed = (await process.stdout.read()).decode()
    assert '"release"' in printed


@looped
async def test_what_is_released_is_in_the_store_before(tmp_path: Path) -> None:
    """Killed right after the answer, the tablet still knows that the permit was used."""
    tablet = Tablet(tmp_path)
    text = tablet.permit()
    async with killed(tablet):
        assert (await tablet.load(text))[0] == 0
    async with tablet.running():
        assert await tablet.usable()
        code, said = await tablet.load(text)
        assert code == REFUSED
        assert "was used on this tablet before" in said


@looped
async def test_a_permit_altered_is_refused(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    text = tablet.permit(minutes=5)
    raw = base64.b64decode("".join(text.splitlines()[1:-1]) + "==")
    longer = raw[:-4].replace(b'"minutes":5', b'"minutes":9')
    forged = base64.b64encode(longer + zlib.crc32(longer).to_bytes(4, "little")).decode()
    async with tablet.running():
        for attempt, words in (
            (f"-----BEGIN IVMA PERMIT-----\n{forged}\n-----END IVMA PERMIT-----", "signature"),
            (text.replace(text.splitlines()[1][10:14], "AAAA"), "damaged"),
            ("no document", "BEGIN IVMA"),
        ):
            code, said = await tablet.load(attempt)
            assert (code, words in said) == (REFUSED, True), said
        assert not await tablet.usable()
        assert [r["rule"] for r in await tablet.records("grant.refused")][:1] == ["grant.document_signature"]


@looped
async def test_a_permit_of_another_authority_or_for_another_tablet_is_refused(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    (tmp_path / "thief").mkdir()
    thief = Tablet(tmp_path / "thief")
    async with tablet.running():
        code, said = await tablet.load(thief.permit())
        assert (code, "not trusted here" in said) == (REFUSED, True), said
        code, said = await tablet.load(tablet.permit(device="tablet-2"))
        assert (code, "tablet-2" in said) == (REFUSED, True), said
        assert not await tablet.usable()


@looped
async def test_a_permit_is_used_once_with_the_clock_set_back(tmp_path: Path) -> None:
    """Wall time is nowhere in it: another boot with an agent that sees 1999 refuses the same permit."""
    tablet = Tablet(tmp_path)
    text = tablet.permit()
    async with killed(tablet):
        assert (await tablet.load(text))[0] == 0
        assert (await tablet.load(text))[0] == REFUSED
        assert (await tablet.say("permit", "revoke"))[0] == 0
        assert not await tablet.usable()
    tablet.boot()
    async with tablet.running():
        code, said = await tablet.load(text)
        assert (code, "used" in said) == (REFUSED, True), said
        assert not await tablet.usable()


@looped
async def test_a_reboot_loop_ends_a_permit(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with killed(tablet):
        assert (await tablet.load(tablet.permit(minutes=120)))[0] == 0
    left = 120 * 60
    for boot in (1, 2):
        tablet.boot()
        async with killed(tablet):
            await _until_usable(tablet)
            permit = (await tablet.grants())["permit"]
            assert permit["boots"] == boot
            assert permit["s_left"] <= left - 600 - 60 + 1, "ten minutes and the open slice"
            left = permit["s_left"]
    tablet.boot()
    async with tablet.running():
        assert (await tablet.grants())["permit"] is None
        assert not await tablet.usable()
        assert "grant.boots" in [r["rule"] for r in await tablet.records("grant.changed")]


@looped
async def test_a_signed_revocation_and_root_end_a_permit(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with tablet.running():
        assert (await tablet.load(tablet.permit()))[0] == 0
        number = (await tablet.grants())["permit"]["number"]
        revocation = tablet.control_room(
            "sign", "revocation", "--fleet", FLEET, "--device", DEVICE, "--upto", str(number)
        )
        assert (await tablet.load(revocation))[0] == 0
        assert not await tablet.usable()
        assert (await tablet.load(tablet.permit()))[0] == 0
        assert (await tablet.say("permit", "revoke"))[0] == 0
        assert not await tablet.usable()


@looped
async def test_a_short_code_by_voice(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with tablet.running():
        async with tablet.conversation("permit", "code", "--minutes", "20", "--json") as process:
            asked = await shown(process)
            assert asked["device"] == DEVICE
            answer = tablet.control_room(
                "code", "--device", DEVICE, "--challenge", asked["challenge"].lower(), "--minutes", "20"
            )
            code, said = await answered(process, answer.strip().lower())
        assert code == 0, said
        assert await tablet.usable()
        assert 19 * 60 < (await tablet.grants())["permit"]["s_left"] <= 20 * 60
        # The same answer again: the challenge was for one use.
        async with tablet.conversation("permit", "code", "--minutes", "120", "--json") as process:
            await shown(process)
            code, said = await answered(process, answer.strip())
        assert "not the answer" in said


@looped
async def test_a_code_for_other_minutes_or_scope_is_wrong(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with (
        tablet.running(),
        tablet.conversation("permit", "code", "--minutes", "20", "--json") as process,
    ):
        asked = await shown(process)
        room = ("code", "--device", DEVICE, "--challenge", asked["challenge"])
        longer = tablet.control_room(*room, "--minutes", "200")
        wider = tablet.control_room(*room, "--minutes", "20", "--scope", "any")
        good = tablet.control_room(*room, "--minutes", "20")
        code, said = await answered(process, longer.strip(), wider.strip(), good.strip())
        assert said.count("that is not the answer") == 2
        assert code == 0


@looped
async def test_guessing_is_stopped_and_a_reboot_gives_no_try_back(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with killed(tablet):
        for wrong in (3, 2):
            async with tablet.conversation("permit", "code", "--json") as process:
                await shown(process)
                await answered(process, *["0000-0000-0000"] * wrong)
        assert (await tablet.grants())["wrong_answers"] == 5
        code, said = await tablet.say("permit", "code", given="0000-0000-0000\n")
        assert (code, "too many wrong answers: wait" in said) == (REFUSED, True), said
    for _ in range(2):
        tablet.boot()
        async with killed(tablet):
            grants = await tablet.grants()
            assert grants["wrong_answers"] == 5
            assert 0 < grants["code_wait_s"] <= 60
            assert (await tablet.say("permit", "code", given="0000-0000-0000\n"))[0] == REFUSED


@looped
async def test_a_slip_of_the_finger_is_no_try(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with tablet.running():
        code, said = await tablet.say("permit", "code", given="123\nABC-DEF\n\n")
        assert (code, "no try was used" in said) == (2, True), said
        assert (await tablet.grants())["wrong_answers"] == 0


@looped
async def test_no_code_and_no_key_is_in_logs_or_the_black_box(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path, logging={"level": "debug"})
    key = codes.load_code_key(tablet.keys / "codes" / f"{DEVICE}.code")
    async with tablet.running() as process:
        async with tablet.conversation("permit", "code", "--json") as talk:
            asked = await shown(talk)
            answer = codes.answer(key, codes.plain(asked["challenge"]), "undocked", 30)
            code, _ = await answered(talk, "123456789ABC", answer)
            assert code == 0
        _, told = await tablet.say("trace", "show", "--json", "--last", "500")
        assert await stop(process) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        written = await process.stdout.read() + await process.stderr.read() + told.encode()
    assert "CodeAnswered" in told, "the black box knows that one was typed"
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            written += path.read_bytes()
    for secret in (answer, codes.grouped(answer), answer.lower(), key.hex(), "123456789ABC"):
        assert secret.encode() not in written
    assert key not in written


@looped
async def test_the_override_is_twice_then_no_more_also_after_a_reboot(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with killed(tablet):
        code, said = await tablet.say("override")
        assert (code, "taken by the officer" in said) == (0, True), said
        assert await tablet.usable()
        [taken] = await tablet.records("grant.override")
        assert taken["left"] == 1
    tablet.boot()
    async with killed(tablet):
        assert not await tablet.usable(), "it ends with the boot"
        assert (await tablet.say("override"))[0] == 0
    tablet.boot()
    async with tablet.running():
        code, said = await tablet.say("override")
        assert (code, "none is left" in said) == (REFUSED, True), said
        refill = tablet.control_room("sign", "refill", "--fleet", FLEET, "--device", DEVICE)
        assert (await tablet.load(refill))[0] == 0
        assert (await tablet.say("override"))[0] == 0


@looped
async def test_a_restart_of_the_agent_within_an_override_locks_nothing(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    async with tablet.running() as process:
        assert (await tablet.say("override"))[0] == 0
        assert await stop(process) == 0
    async with tablet.running() as process:
        assert await tablet.usable()
        assert await stop(process) == 0
        assert process.stdout is not None
        assert '"lock"' not in (await process.stdout.read()).decode()


@looped
async def test_on_a_full_disk_permits_are_refused_and_the_override_works_once_a_boot(
    tmp_path: Path,
) -> None:
    tablet = Tablet(tmp_path)
    tablet.file_bytes = 0
    for attempt in range(2):
        async with killed(tablet):
            assert (await tablet.load(tablet.permit()))[0] == REFUSED
            assert not await tablet.usable()
            code, said = await tablet.say("override")
            assert code == (0 if attempt == 0 else REFUSED), said
            assert await tablet.usable() is (attempt == 0)
    tablet.boot()
    async with tablet.running():
        assert (await tablet.say("override"))[0] == 0, "another boot, another one"


@looped
async def test_after_a_damaged_store_nothing_is_granted(tmp_path: Path) -> None:
    """Salvage: whoever spoils the queue's file to have a used permit forgotten gets none at all."""
    tablet = Tablet(tmp_path)
    text = tablet.permit()
    async with killed(tablet):
        assert (await tablet.load(text))[0] == 0
    for path in (tmp_path / "state").glob("queue.db*"):
        path.write_bytes(b"no database " * 400) if path.name == "queue.db" else path.unlink()
    async with tablet.running():
        assert not await tablet.usable()
        for request in (("permit", "load", tablet.file(text)), ("override",)):
            code, said = await tablet.say(*request)
            assert (code, "not known" in said) == (REFUSED, True), said
        assert (await tablet.grants())["void"]


@pytest.mark.parametrize("note", [None, '{"decision": 9, "rule": "tether.unseated"}'])
@looped
async def test_a_memory_that_nobody_can_read_grants_nothing(tmp_path: Path, note: str | None) -> None:
    """Also where a lock is found that the last run left unrecorded: that is no memory of grants."""
    tablet = Tablet(tmp_path)
    tablet.remember(b"\xff no memory")
    (tmp_path / "run").mkdir()
    if note is not None:
        (tmp_path / "run" / "lock-pending.json").write_text(note)
    async with tablet.running():
        for request in (("permit", "load", tablet.file(tablet.permit())), ("override",)):
            code, said = await tablet.say(*request)
            assert (code, "not known" in said) == (REFUSED, True), said


@looped
async def test_a_memory_from_before_there_were_grants_is_taken_over(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path)
    tablet.remember(Remembered(tablet.boot_id, "restricted", decision=4))
    async with tablet.running():
        assert (await tablet.say("override"))[0] == 0


@looped
async def test_a_tablet_without_keys_says_which_setting_is_missing(tmp_path: Path) -> None:
    tablet = Tablet(tmp_path, permits={})
    async with tablet.running():
        code, said = await tablet.load(tablet.permit())
        assert (code, "permits.authority_key_files" in said) == (1, True), said
        code, said = await tablet.say("permit", "code", given="\n")
        assert (code, "permits.code_key_file" in said) == (1, True), said


async def _until_usable(tablet: Tablet) -> None:
    """What is left of a permit is used only once the boot is recorded: moments after the start."""
    async with asyncio.timeout(WAIT_S):
        while not await tablet.usable():  # noqa: ASYNC110 - each look is a process that takes its time
            await asyncio.sleep(0)
