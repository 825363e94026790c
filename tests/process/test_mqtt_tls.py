"""Mutual TLS with a real broker: a certificate a device, and clear words when one does not fit."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.x509.oid import NameOID

from sync.mqtt_types import Confirmed, Down, Endpoint, Tls
from tests.brokers import Peer, running


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = generate_private_key(SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test CA {folder.name}")])
        self.ca = folder / "ca.crt"
        self._write(self.ca, self._certificate(self._name, self._key, authority=True))

    def issue(self, name: str) -> Tls:
        key = generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        self._write(cert, self._certificate(subject, key, authority=False))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        key_file.chmod(0o600)
        return Tls(self.ca, cert, key_file)

    def _certificate(
        self, subject: x509.Name, key: EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def test_the_certificate_decides_who_may_publish_where(tmp_path: Path) -> None:
    async def scene() -> None:
        authority, foreign = Authority(tmp_path / "ours"), Authority(tmp_path / "foreign")
        server = authority.issue("broker")
        rules = tmp_path / "acl"
        rules.write_text("pattern readwrite ivma/1/+/%u/#\n")
        extra = (
            f"cafile {server.ca}\ncertfile {server.cert}\nkeyfile {server.key}\n"
            f"require_certificate true\nuse_identity_as_username true\nacl_file {rules}\n"
        )
        with running("mosquitto", tmp_path, extra) as broker:

            def client(tls: Tls | None) -> Peer:
                return Peer(Endpoint("127.0.0.1", broker.port, "tablet-1", tls, connect_timeout_s=2.0))

            tablet = client(authority.issue("tablet-1"))
            await tablet.up()
            tablet.transport.publish(1, "ivma/1/met/tablet-1/up/state", b"x")
            assert (await tablet.next(Confirmed)).code < 0x80
            tablet.transport.publish(2, "ivma/1/met/tablet-2/up/state", b"x")
            assert (await tablet.next(Confirmed)).code == 0x87  # not authorised
            assert await tablet.transport.close(5.0)

            for tls, words in [
                (Tls(foreign.ca, *_pair(foreign.issue("tablet-1"))), "certificate verify failed"),
                (
                    Tls(authority.ca, tmp_path / "none.crt", tmp_path / "none.key"),
                    "cannot be read: No such file",
                ),
                (Tls(authority.ca, *_pair(foreign.issue("tablet-1"))), "127.0.0.1"),
                (None, "127.0.0.1"),
            ]:
                stranger = client(tls)
                stranger.transport.connect()
                assert words in (await stranger.next(Down)).detail
                assert await stranger.transport.close(5.0)

    asyncio.run(scene())


def _pair(tls: Tls) -> tuple[Path, Path]:
    return tls.cert, tls.key
