"""What goes out: the request for a delivery or a batch, signed now, with the secret and the rules of this moment."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from refcast import dialects, repository_endpoints, signing
from refcast.errors import BadInput
from refcast.model import Endpoint, Hook, Request
from refcast.settings import Settings
from refcast.store.claims import Work

BATCHING = frozenset(name for name, dialect in dialects.DIALECTS.items() if isinstance(dialect, dialects.Batching))
"""The dialects of which one request carries what has gathered."""

LONGEST_WINDOW = 300.0
"""Seconds that an endpoint may gather events for."""

SECRET_BYTES = 16 * 1024
"""How long a secret in a file may be."""

NO_PROXY = "none"

_BATCHES = uuid.UUID("0b0c6c1c-8b0e-4d0f-9a5e-3f7f8a1d2c11")


class SecretError(BadInput):
    """A secret cannot be used, so that nothing can be sent."""


def resolved(endpoint: Endpoint, settings: Settings) -> Endpoint:
    """The endpoint as it is for one request: with the secret from its file, and the proxy that counts.

    Raises SecretError. A second time it changes nothing."""
    if endpoint.proxy and not endpoint.secret_file:
        return endpoint
    proxy = endpoint.proxy or settings.proxy or NO_PROXY
    return replace(endpoint, secret=secret_of(endpoint), secret_file="", proxy=proxy)


def secret_of(endpoint: Endpoint) -> str:
    """The endpoint's secret: the stored one, or what its file holds now, without the line's end.

    Raises SecretError, naming the file, unless that is a regular file of this user or root that no other can read."""
    if not endpoint.secret_file:
        return endpoint.secret
    where = f"the secret's file {endpoint.secret_file!r}"
    try:
        # Not to block on a pipe.
        descriptor = os.open(endpoint.secret_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a path"
        raise SecretError(f"{where} cannot be read: {why}; let the worker's user read it") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise SecretError(f"{where} is not a regular file: name one that holds the secret alone")
        if info.st_uid not in (os.geteuid(), 0):
            raise SecretError(f"{where} belongs to another user: it must be the worker's user's, or root's")
        if info.st_mode & 0o077:
            raise SecretError(f"{where} is open to others: chmod 600 it")
        content = os.read(descriptor, SECRET_BYTES + 1)
    except OSError as error:
        raise SecretError(f"{where} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > SECRET_BYTES:
        raise SecretError(f"{where} is longer than {SECRET_BYTES} bytes: it must hold the secret alone")
    secret = content.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")
    if not secret:
        raise SecretError(f"{where} is empty: write the secret into it")
    return secret


def build(
    endpoint: Endpoint,
    *,
    payload: bytes,
    content_type: str,
    scheme: str,
    headers: Mapping[str, str],
    delivery_id: str,
    now: datetime,
    settings: Settings,
) -> Request:
    """The request that carries `payload` to the endpoint, signed at `now`. BadInput if it cannot be made; of its
    children SecretError, if its secret cannot be used."""
    endpoint = resolved(endpoint, settings)
    header, body = dialects.body(payload, content_type)
    secrets = [endpoint.secret]
    if now.timestamp() < endpoint.old_secret_until:
        secrets.append(endpoint.old_secret)
    try:
        signed = signing.sign(scheme, secrets=secrets, payload=payload, body=body, delivery_id=delivery_id, now=now)
    except BadInput as error:
        raise SecretError(str(error)) from error
    return Request(
        url=endpoint.url,
        headers=(*headers.items(), ("Content-Type", header), *signed.items()),
        body=body,
        timeout=endpoint.timeout,
        verify_tls=endpoint.verify_tls,
        rules=settings.network if endpoint.origin is None else repository_endpoints.strict(settings.network),
        proxy="" if endpoint.proxy == NO_PROXY else endpoint.proxy,
        ca_file=endpoint.ca_file,
        client_cert=endpoint.client_cert,
        client_key=endpoint.client_key,
    )


def gathered(work: Work) -> tuple[bytes, Mapping[str, str], str]:
    """Payload, headers and id of the request: the head's own, or those of a batch, the same for the same deliveries."""
    dialect = dialects.get(work.dialect)
    if not work.further or not isinstance(dialect, dialects.Batching):
        return work.payload, work.headers, work.delivery_id
    ids = [work.delivery_id, *(one.delivery_id for one in work.further)]
    batch_id = str(uuid.uuid5(_BATCHES, " ".join(ids)))
    payload = dialect.batch([work.payload, *(one.payload for one in work.further)])
    return payload, dialect.headers("", batch_id, Hook(work.endpoint.id, batch_id)), batch_id
