"""``ivma-depot sign`` and ``ivma-depot code``: what the control room hands out or reads out."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sync import codes
from sync.depot import orders
from sync.depot.keyring import CODES, CONTRACTOR, PERMIT
from sync.documents import ContractorToken, Permit, Refill, Revocation
from sync.errors import LocalProtocolError
from sync.keys import Signer, load_private
from sync.signed import Document, seal

SCOPES = ("undocked", "any")
NUMBER_FILE = "last-number"  # in the folder of keys

Make = Callable[[argparse.Namespace, str, int], Document]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the two commands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--keys", type=Path, required=True, help="folder made by keygen")
    signed = argparse.ArgumentParser(add_help=False, parents=[common])
    signed.add_argument("--fleet", required=True)
    signed.add_argument("--out", type=Path, help="file to write; standard output without it")
    tablet = argparse.ArgumentParser(add_help=False)
    tablet.add_argument("--device", required=True, help="the tablet's name")
    leave = argparse.ArgumentParser(add_help=False)
    leave.add_argument("--minutes", type=int, required=True, help="of powered time")
    scope = argparse.ArgumentParser(add_help=False)
    scope.add_argument("--scope", choices=SCOPES, default=SCOPES[0], help="any: in a foreign dock as well")

    sign = commands.add_parser("sign", help="sign what a person carries, or what a tablet is sent")
    kinds = sign.add_subparsers(required=True, metavar="WHAT")
    what = kinds.add_parser(
        "permit", parents=[signed, tablet, leave, scope], help="use of a tablet without its dock"
    )
    what.set_defaults(run=_sign, key=PERMIT, make=_permit)
    what = kinds.add_parser("revocation", parents=[signed, tablet], help="end permits before their time")
    what.add_argument("--upto", type=int, required=True, metavar="NUMBER", help="this permit and all before")
    what.set_defaults(run=_sign, key=PERMIT, make=_revocation)
    what = kinds.add_parser("refill", parents=[signed, tablet], help="all safety overrides of a tablet again")
    what.set_defaults(run=_sign, key=PERMIT, make=_refill)
    what = kinds.add_parser("contractor", parents=[signed, leave], help="pairing of docks without root")
    what.add_argument("--device", action="append", required=True, help="may be given several times")
    what.add_argument("--contractor", required=True, metavar="NAME", help="who is to have it")
    what.add_argument("--action", action="append", required=True, choices=("pair", "unpair", "test"))
    what.set_defaults(run=_sign, key=CONTRACTOR, make=_contractor)

    orders.add(kinds, [signed, tablet], _sign)

    code = commands.add_parser(
        "code", parents=[common, tablet, leave, scope], help="answer the challenge that a tablet shows"
    )
    code.add_argument("--challenge", required=True, metavar="XXXX-XXXX")
    code.set_defaults(run=_code)


def _permit(given: argparse.Namespace, id_: str, number: int) -> Document:
    return Permit(
        id=id_, number=number, fleet=given.fleet, device=given.device, scope=given.scope,
        minutes=given.minutes,
    )  # fmt: skip


def _revocation(given: argparse.Namespace, id_: str, number: int) -> Document:
    return Revocation(id=id_, number=number, fleet=given.fleet, device=given.device, upto=given.upto)


def _refill(given: argparse.Namespace, id_: str, number: int) -> Document:
    return Refill(id=id_, number=number, fleet=given.fleet, device=given.device)


def _contractor(given: argparse.Namespace, id_: str, number: int) -> Document:
    return ContractorToken(
        id=id_, number=number, fleet=given.fleet, devices=tuple(given.device),
        actions=tuple(dict.fromkeys(given.action)), contractor=given.contractor, minutes=given.minutes,
    )  # fmt: skip


def _sign(given: argparse.Namespace) -> int:
    signer = Signer(load_private(given.keys / f"{given.key}.key"))
    number = next_number(given.keys / NUMBER_FILE, time.time_ns() // 1_000_000)
    make: Make = given.make
    id_ = secrets.token_hex(16)
    text = seal(make(given, id_, number), signer)
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.write_text(text)
    sys.stderr.write(f"signed: number {number}, id {id_}\n")
    return 0


def next_number(file: Path, now_ms: int) -> int:
    """A number greater than all before it: the clock's, unless that was set back."""
    try:
        last = int(file.read_text())
    except FileNotFoundError:
        last = 0
    except ValueError as error:
        raise LocalProtocolError(f"{file}: expected the last number given, found other text") from error
    number = max(now_ms, last + 1)
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(f"{number}\n")
    fresh.replace(file)
    return number


def _code(given: argparse.Namespace) -> int:
    challenge = codes.plain(given.challenge)
    if not codes.well_formed(challenge, codes.CHALLENGE_CHARS):
        raise LocalProtocolError(
            f"challenge {given.challenge!r}: expected {codes.CHALLENGE_CHARS} characters of "
            f"{codes.ALPHABET}; have it read out again"
        )
    key = codes.load_code_key(given.keys / CODES / f"{given.device}.code")
    sys.stdout.write(f"{codes.grouped(codes.answer(key, challenge, given.scope, given.minutes))}\n")
    return 0
