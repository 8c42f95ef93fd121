"""`up --tls`: an authority of this deployment's own, and the certificate that its server shows.

The authority stays with the data, so that clients trust it once; the server's is made at every start.
"""

import contextlib
import importlib
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import certifi

from rankcast.cli.embedded import data_folder
from rankcast.cli.options import Failure

#: Python's libraries take one file for all that they are to trust, in place of what they would else trust.
TRUST = "SSL_CERT_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files in the folder of the data; all in PEM."""

    #: The authority, for clients that take one beside their own.
    authority: Path
    #: The authority, and all that is trusted without it.
    bundle: Path
    #: Certificate and key of the server; its owner alone reads it.
    server: Path

    @property
    def context(self) -> ssl.SSLContext:
        """For a client that trusts the authority."""
        return ssl.create_default_context(cafile=self.bundle)


def make_certificates(data: Path, names: Sequence[str], env: Mapping[str, str]) -> Certificates:
    """A certificate for a server of these names and addresses, by the authority in `data`, which is made
    where there is none. Failure."""
    # Not before it is asked for: it is in the extra `server`, which the clients' commands do without.
    trustme = importlib.import_module("trustme")
    found = Certificates(authority=data / "ca.pem", bundle=data / "ca-bundle.pem", server=data / "server.pem")
    key = data / "ca.key"
    others = _trusted(found.bundle, env)
    # Nobody's server is running on files that are written here.
    with data_folder(data):
        try:
            if not (found.authority.exists() or key.exists()):
                made = trustme.CA(organization_name="rankcast up")
                _write(key, made.private_key_pem.bytes())
                _write(found.authority, made.cert_pem.bytes(), mode=0o644)
            ours = found.authority.read_bytes()
            leaf = trustme.CA.from_pem(ours, key.read_bytes()).issue_cert(*names)
            chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
            _write(found.server, leaf.private_key_pem.bytes() + chain)
            _write(found.bundle, others + ours, mode=0o644)
            _meet(found, names[0])
        except (OSError, ValueError) as error:
            raise Failure(
                f"--tls: {found.authority} with {key.name} is no authority ({error}); remove both, and "
                "the next start makes another, which clients have to be told to trust"
            ) from error
    return found


def _meet(certificates: Certificates, name: str) -> None:
    """Let a client that trusts the authority shake hands with a server that shows the certificate.

    OSError (ssl.SSLError) where it would refuse: the authority has run out, or its key is another's.
    """
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(certificates.server)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = certificates.context.wrap_bio(to_client, to_server, server_hostname=name)
    server = shown.wrap_bio(to_server, to_client, server_side=True)
    # Each waits for what the other said: TLS 1.3 is through after three turns (RFC 8446, section 2).
    for end in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()


def _trusted(bundle: Path, env: Mapping[str, str]) -> bytes:
    """What this environment trusts, but for an older bundle of ours. Failure."""
    named = env.get(TRUST)
    is_other = named and Path(named).resolve() != bundle.resolve()
    try:
        return Path(named if named and is_other else certifi.where()).read_bytes() + b"\n"
    except OSError as error:
        raise Failure(f"{TRUST}: {named}: {error.strerror}; unset it, or name another") from error


def _write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """In one step, so that nobody reads half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    part.replace(path)
