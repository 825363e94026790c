"""What Mosquitto is told of who may do what: an access list and the lines of its configuration.

The user is the common name of the certificate. A tablet's rights follow from it by patterns, so that the list
does not grow with the fleet and a new tablet needs no reload.
"""

from __future__ import annotations

from collections.abc import Iterable

# Common names of the depot's certificate, and of the control room's; no tablet may have them.
DEPOT_USER, CONTROL_USER = "ivma-depot", "ivma-control"
# Below ivma/1/<fleet>/<device>/: what a tablet says, and what is said to it.
SAID = ("up/+", "presence", "reported")
HEARD = ("ack", "command", "desired", "fleet-key")
ORDERS = ("command", "desired", "fleet-key")

CONFIGURATION = """\
# Made by ivma-depot enrol: lines for mosquitto.conf, after the listener.
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
tls_version tlsv1.2
# Who speaks is what the certificate says: its name is the user, and the client id as well, so that no
# tablet can push another one out by connecting under its id.
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/acl
# A broker that loses its memory loses no record, but tablets send again what it had.
persistence true
autosave_interval 60
"""


def acl(fleets: Iterable[str]) -> str:
    """The access list for tablets of ``fleets``, for the depot and for the control room."""
    lines = ["# Made by ivma-depot enrol. %u is the common name of the certificate."]
    for fleet in sorted(fleets):
        own = f"ivma/1/{fleet}/%u"
        lines += [f"pattern write {own}/{topic}" for topic in SAID]
        lines += [f"pattern read {own}/{topic}" for topic in HEARD]
    lines += ["", f"user {DEPOT_USER}"]
    for fleet in sorted(fleets):
        lines += [f"topic read ivma/1/{fleet}/+/{topic}" for topic in SAID]
        lines += [f"topic write ivma/1/{fleet}/+/{topic}" for topic in HEARD]
    lines += ["", f"user {CONTROL_USER}"]
    for fleet in sorted(fleets):
        lines += [f"topic write ivma/1/{fleet}/+/{topic}" for topic in ORDERS]
    return "\n".join(lines) + "\n"


def configuration(folder: str) -> str:
    """Lines of mosquitto.conf for files in ``folder``."""
    return CONFIGURATION.format(folder=folder)
