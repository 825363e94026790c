"""A fleet's own certificate authority, in the folder of keys: ``ca.key`` (0600) and ``ca.crt``.

Certificates are X.509 with ECDSA on P-256, which every broker takes; they say who may speak to the broker and
nothing of what is said, for which the Ed25519 keys of sync.keys are there. Times are read by the caller.
"""

from __future__ import annotations

import datetime
import enum
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sync.keys import KeyFileError, write_new, write_secret

CA_DAYS = 3650  # ours: longer than a vehicle stays in service
CERTIFICATE_DAYS = 397  # ours; what public authorities gave at most (CA/Browser Forum ballot SC-31)
SLACK = datetime.timedelta(minutes=5)  # ours: a clock that is a little behind
DUE = 3  # ours: a certificate is due when less than this part of its time is left: a third


class Use(enum.Enum):
    """What a certificate is for."""

    CLIENT = "client"  # a tablet, or the depot
    SERVER = "server"  # the broker


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate names: ``name`` becomes the common name, and the user that a broker sees.

    ``fleet`` is the organisation; ``hosts`` are host names and addresses of a server.
    """

    name: str
    use: Use
    fleet: str = ""
    hosts: tuple[str, ...] = ()


class Authority:
    """Issues certificates under the key in ``folder``."""

    def __init__(self, folder: Path, now: datetime.datetime) -> None:
        """Read the authority; make it when there is none.

        Raises:
            KeyFileError: a file of it cannot be used, the two do not belong together, or it has expired.
            OSError: the folder cannot be written.
        """
        self._now = now
        key_path, self.path = folder / "ca.key", folder / "ca.crt"
        self.made = not key_path.exists() and not self.path.exists()
        if self.made:
            self._make(key_path)
        self._key = load_key(key_path)
        self.certificate = load_certificate(self.path)
        if self._key.public_key() != self.certificate.public_key():
            raise KeyFileError(f"certificate {self.path}: is not of the key {key_path}")
        if now >= self.certificate.not_valid_after_utc:
            until = self.certificate.not_valid_after_utc
            raise KeyFileError(f"certificate {self.path}: the authority expired at {until:%Y-%m-%d}")

    def issue(self, subject: Subject, public: EllipticCurvePublicKey, days: int) -> x509.Certificate:
        """A certificate for ``days`` days, or until the authority's own end if that is sooner."""
        server = subject.use is Use.SERVER
        until = min(self._now + datetime.timedelta(days=days), self.certificate.not_valid_after_utc)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            self._builder(_name(subject), self.certificate.subject, public, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(_identifier_of(self.certificate), critical=False)
        )
        if subject.hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in subject.hosts]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())

    def _make(self, key_path: Path) -> None:
        key = generate_private_key(SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ivma fleet authority")])
        until = self._now + datetime.timedelta(days=CA_DAYS)
        certificate = (
            self._builder(name, name, key.public_key(), until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_new(self.path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        write_secret(key_path, key_pem(key))

    def _builder(
        self, name: x509.Name, issuer: x509.Name, public: EllipticCurvePublicKey, until: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - SLACK)
            .not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )


def due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Whether it is time for a new one: less than a third of its time is left."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (end - now) * DUE < end - begin


def fleet_of(certificate: x509.Certificate) -> str:
    """The fleet that a tablet's certificate names; empty if it names none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if found else ""


def hosts_of(certificate: x509.Certificate) -> set[str]:
    """Host names and addresses that a server's certificate is good for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return addresses | set(names.get_values_for_type(x509.DNSName))


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` signed it; dates are not looked at."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def load_certificate(path: Path) -> x509.Certificate:
    """Raises KeyFileError: not readable or not a PEM certificate."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"certificate {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise KeyFileError(f"certificate {path}: expected a PEM certificate: {error}") from error


def load_key(path: Path) -> EllipticCurvePrivateKey:
    """Raises KeyFileError: not readable, or not an unencrypted PEM key on an elliptic curve."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise KeyFileError(f"key {path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"key {path}: expected an unencrypted PEM private key: {error}") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise KeyFileError(f"key {path}: expected a key on P-256, not {type(key).__name__}")
    return key


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """The private key as PEM, PKCS #8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(subject: Subject) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, subject.name)]
    if subject.fleet:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.fleet))
    return x509.Name(parts)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=sign_certificates,
        crl_sign=sign_certificates, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _identifier_of(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    subject = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)
