"""Mutual TLS under a clock that may be wrong.

With a synced clock all dates count. Without one the tablet knows one time for certain: that its own
certificate had been issued. Nothing that ended before then is believed, every later date is, and chain and
name are checked as always. So a clock that was never set keeps nobody offline, and what a stolen old
certificate of a broker is good for ends with the tablet's next renewal.
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from sync.blocks import Quality
from sync.mqtt_types import Tls

NO_CHECK_TIME = 0x200000  # openssl/x509_vfy.h: X509_V_FLAG_NO_CHECK_TIME
SOON = datetime.timedelta(days=30)  # ours: left when people are told; a tablet may be parked for weeks


class TlsFilesError(ValueError):
    """Our own files do not do for mutual TLS; the message says which, why, and what to do."""


class Context:
    """What one connection needs; the files are read anew for each, so that a renewal needs no restart.

    Raises:
        TlsFilesError: a file is missing, not what it should be, or our certificate has expired.
    """

    def __init__(self, tls: Tls) -> None:
        stamp = tls.clock()
        synced = stamp.quality is Quality.SYNCED
        now = datetime.datetime.fromtimestamp(stamp.wall_ns / 1e9, datetime.UTC)
        ours = _certificate(tls.cert)
        self.until = ours.not_valid_after_utc
        if synced and now >= self.until:
            raise TlsFilesError(
                f"certificate {tls.cert}: expired at {self.until:%Y-%m-%d %H:%M} UTC; enrol this tablet again"
            )
        self.notice = ""
        if synced and self.until - now < SOON:
            self.notice = f"the tablet's certificate ends at {self.until:%Y-%m-%d}; enrol it again before"
        self.ssl = _load(tls)
        floor = None
        if not synced:
            self.ssl.verify_flags |= NO_CHECK_TIME  # Python has no name for it
            floor = ours.not_valid_before_utc
        self.ssl.sslsocket_class = type("Socket", (_Socket,), {"floor": floor})


class _Socket(ssl.SSLSocket):
    """Looks at the broker's dates where OpenSSL was told not to, and keeps what TLS said at the end."""

    floor: datetime.datetime | None = None
    alert: str | None = None  # TLS 1.3: what the broker thinks of our certificate comes with the first read

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
            self._check_dates()
        except (OSError, ValueError):
            self.close()  # paho leaves it to the garbage collector
            raise

    def _check_dates(self) -> None:
        der = self.getpeercert(binary_form=True)
        if self.floor is None or der is None:
            return
        ended = x509.load_der_x509_certificate(der).not_valid_after_utc
        if ended < self.floor:
            raise ssl.SSLCertVerificationError(
                f"certificate verify failed: the broker's ended at {ended:%Y-%m-%d}, before ours was issued"
            )

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.alert = self.alert or _words(error)
            raise


def alert_of(sock: Any) -> str | None:
    """What the broker said about our certificate on that socket; None if nothing."""
    return getattr(sock, "alert", None)


def refuses_us(error: BaseException) -> bool:
    """Whether the broker ended the handshake because of our certificate."""
    return (
        isinstance(error, ssl.SSLError)
        and not isinstance(error, ssl.SSLCertVerificationError)
        and "ALERT" in (error.reason or "")
    )


def _words(error: ssl.SSLError) -> str | None:
    return f"the broker refuses our certificate: {error.reason}" if refuses_us(error) else None


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise TlsFilesError(f"certificate {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TlsFilesError(f"certificate {path}: expected a PEM certificate: {error}") from error


def identity(tls: Tls) -> tuple[str, str]:
    """Fleet and name that our certificate was issued to; "" where it names none, as another authority's may.

    Raises:
        TlsFilesError: a file cannot be used, or the certificate is not of the authority that it names.
    """
    ours, authority = _certificate(tls.cert), _certificate(tls.ca)
    if ours.issuer == authority.subject:  # else there are others between the two
        try:
            ours.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise TlsFilesError(
                f"certificate {tls.cert}: was not issued by the authority in {tls.ca}; "
                "enrol this tablet again"
            ) from error
    organisation, name = (
        ours.subject.get_attributes_for_oid(oid) for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    )
    return _text(organisation), _text(name)


def _text(attributes: list[x509.NameAttribute[Any]]) -> str:
    return str(attributes[0].value) if attributes else ""


def _load(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(tls.ca)
    except OSError as error:  # SSLError is one too
        raise TlsFilesError(f"authority {tls.ca}: expected a PEM certificate: {error}") from error
    try:
        if tls.key.stat().st_mode & 0o077:
            raise TlsFilesError(f"key {tls.key}: other users can read it; expected mode 0600")
        context.load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        raise TlsFilesError(
            f"key {tls.key}: expected the PEM key of certificate {tls.cert}: {error.reason or error}"
        ) from error
    except OSError as error:
        raise TlsFilesError(f"key {tls.key}: cannot be read: {error.strerror}") from error
    return context
