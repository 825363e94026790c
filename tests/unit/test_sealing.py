"""A sealed body opens with the fleet's private key and not otherwise; keys on disk are looked at closely."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.core.records import Stream
from sync.blocks import NO_SEGMENT, Block, BlockWriter, Quality, Stamp, parse_block, read_rows
from sync.errors import RemoteProtocolError
from sync.keys import KeyFileError, Signer, Verifier, load_private, load_public, write_pair
from sync.sealing import Opener, Sealer, Segment
from tests.store_rig import FLEET_PRIVATE, alarm, fleet_public

STAMP = Stamp(10**12, 0, Quality.UNSET)
SOURCE = random.Random(2)


def sealed() -> tuple[Block, Segment]:
    sealer = Sealer(fleet_public(), 1, SOURCE.randbytes)
    return parse_block(
        BlockWriter(bytes(16), sealer).records(Stream.ALARM, 1, [alarm(1, rule="secret")], STAMP)
    ), (sealer.segment)


def refused(block: Block, opener: Opener | None) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        read_rows(block, opener)
    return caught.value.reason


def test_the_header_is_clear_and_the_body_is_not() -> None:
    block, segment = sealed()
    assert block.header.segment == segment.id != NO_SEGMENT
    assert (block.header.stream, block.header.first_seq, block.header.boot_ns) == (Stream.ALARM, 1, 1)
    assert b"secret" not in block.raw
    assert b"enforcement" not in block.raw


def test_only_the_fleets_key_of_that_generation_opens_it() -> None:
    block, segment = sealed()
    right = Opener({1: FLEET_PRIVATE, 2: b"\1" * 32})
    assert refused(block, right) == "sealed"  # the segment has not come yet
    right.learn([segment])
    assert [row.fields["rule"] for _, row in read_rows(block, right)] == ["secret"]
    assert refused(block, None) == "sealed"
    other_generation = Opener({2: FLEET_PRIVATE})
    other_generation.learn([segment])
    assert refused(block, other_generation) == "sealed"
    wrong = Opener({1: b"\1" * 32})
    wrong.learn([segment])
    assert refused(block, wrong) == "seal"


def test_an_altered_header_or_body_does_not_open() -> None:
    block, segment = sealed()
    opener = Opener({1: FLEET_PRIVATE})
    opener.learn([segment])
    for place in (3, 36, 44, 60, 67, 68, len(block.raw) - 1):
        raw = bytearray(block.raw)
        raw[place] ^= 1
        assert refused(Block(parse_block(bytes(raw)).header, bytes(raw)), opener) == "seal"


def test_each_start_has_a_segment_of_its_own_and_no_counter_comes_twice() -> None:
    sealers = [Sealer(fleet_public(), 1, SOURCE.randbytes) for _ in range(20)]
    assert len({sealer.segment_id for sealer in sealers}) == 20
    assert [sealers[0].next_counter() for _ in range(3)] == [1, 2, 3]


def test_a_segment_with_another_keys_id_or_no_key_is_refused() -> None:
    _, segment = sealed()
    for bad in (
        Segment(b"x" * 8, segment.ephemeral, 1),
        Segment(segment.id, b"\2" * 32, 1),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            Opener({1: FLEET_PRIVATE}).learn([bad])
        assert caught.value.reason == "segment"


def test_keys_come_back_from_their_files(tmp_path: Path) -> None:
    private, public = tmp_path / "device.pem", tmp_path / "device.pub"
    write_pair(private, public, Ed25519PrivateKey.from_private_bytes(b"\5" * 32))
    assert private.stat().st_mode & 0o777 == 0o600
    signer = Signer(load_private(private))
    Verifier(load_public(public)).verify("ivma-test/1", b"message", signer.sign("ivma-test/1", b"message"))
    with pytest.raises(RemoteProtocolError):
        Verifier(load_public(public)).verify(
            "ivma-test/2", b"message", signer.sign("ivma-test/1", b"message")
        )
    with pytest.raises(FileExistsError):
        write_pair(private, public, Ed25519PrivateKey.generate())
    fleet = tmp_path / "fleet.pem"
    write_pair(fleet, tmp_path / "fleet.pub", X25519PrivateKey.from_private_bytes(FLEET_PRIVATE))
    assert load_private(fleet) == FLEET_PRIVATE
    assert load_public(tmp_path / "fleet.pub") == fleet_public()


def test_a_key_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    private, public = tmp_path / "device.pem", tmp_path / "device.pub"
    write_pair(private, public, Ed25519PrivateKey.generate())
    public.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"device\.pub: expected an unencrypted PEM private key"):
        load_private(public)
    with pytest.raises(KeyFileError, match=r"device\.pem: expected a PEM public key"):
        load_public(private)
    private.chmod(0o640)
    with pytest.raises(KeyFileError, match=r"chmod 600 .*device\.pem"):
        load_private(private)
    with pytest.raises(KeyFileError, match=r"none\.pem: cannot be read: No such file"):
        load_private(tmp_path / "none.pem")
    rsa = generate_private_key(65_537, 2_048).public_key()
    public.write_bytes(rsa.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyFileError, match="expected Ed25519 or X25519"):
        load_public(public)
