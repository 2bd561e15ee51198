"""Endpoints: what waits for a person, secrets, files; whether each is reached: its name, address, TLS, certificate."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from refcast import deliver, dialects, signing, worker
from refcast.deliver.building import NO_PROXY, secret_of
from refcast.doctor.problem import Case, Problem, advice, as_owner, command
from refcast.errors import BadInput
from refcast.model import Endpoint, Request
from refcast.repository_endpoints import GONE
from refcast.store.reports import Backlog
from refcast.transport import Probe, check_files, ends

SOON = timedelta(days=14)
"""A certificate that ends within this time is to be renewed now."""

PROBE_SECONDS = 10.0
"""For one endpoint: name, connection and TLS. A receiver that needs longer for that is in trouble."""

AT_ONCE = 32
"""Endpoints that are connected to at the same time."""

OLD_SECRET_SECONDS = 3600.0
"""The worker forgets old secrets every ten minutes."""

_ADVICE = {
    "dns": "look at the name, and at this host's resolver",
    "connect": "is the receiver up, the port right, the firewall open?",
    "timeout": "is the receiver up, and the firewall open?",
    "blocked": "allow that network in refcast.toml (network.allow), if it is meant: docs/settings.md, Networks",
    "proxy": "ask whoever runs the proxy; "
    "`refcast endpoint edit NAME --proxy-file FILE` names another, or its password",
    "tls": "whoever runs the receiver must mend its certificate; an authority of your own is named by "
    "`refcast endpoint edit NAME --ca-file FILE`",
    "protocol": "name another URL: `refcast endpoint edit NAME --url URL`",
    "secret": "mend the file of the secret",
}
"""Who must do what, by the class of the error."""


def some(case: Case) -> Iterator[Problem]:
    """At least one endpoint."""
    if not case.opened.endpoints.all():
        yield advice("there is no endpoint: pushes are announced to nobody", "refcast endpoint add NAME URL")


def backlog(case: Case) -> Iterator[Problem]:
    """What waits for a person: disabled and failing endpoints, and deliveries that are held or did not arrive."""
    named = {one.name: one for one in case.endpoints}
    for one in case.opened.reports.backlog():
        if one.name not in named or named[one.name].reason == GONE:
            continue
        reason = named[one.name].reason
        if named[one.name].origin is not None and one.state == "disabled" and reason.startswith("refcast."):
            path = case.opened.repositories.path(named[one.name].origin or 0)
            yield advice(f"endpoint {one.name} cannot be used: {reason}", f"mend it in {path}/config, and push to it")
        else:
            yield from _left(case, one, reason)


def _left(case: Case, one: Backlog, reason: str) -> Iterator[Problem]:
    enable = case.refcast("endpoint", "enable", one.name)
    if one.state == "disabled":
        held = f"; {one.held} deliveries are held" if one.held else ""
        yield command(f"endpoint {one.name} is disabled: {reason}{held}", enable)
    elif one.failing_since is not None and case.now - one.failing_since > worker.NOTICE_SECONDS:
        since = datetime.fromtimestamp(one.failing_since, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        what = (
            f"endpoint {one.name} has been failing since {since}: {one.last_error}; when it is mended, try it at once"
        )
        yield command(what, enable)
    if one.state == "active" and one.held:
        what = f"{one.held} deliveries to {one.name} are beyond its limit for one push"
        yield command(what, case.refcast("endpoint", "release", one.name))
    for state, number in (("refused", one.refused), ("expired", one.expired)):
        if number:
            which = ("--endpoint", one.name, "--state", state)
            what = f"{number} deliveries to {one.name} are {state}; send them again, or give them up with `cancel`"
            yield command(what, case.refcast("delivery", "redeliver", *which))


def secrets(case: Case) -> Iterator[Problem]:
    """Secrets that cannot be used, or that others can read."""
    for one in case.endpoints:
        yield from _of_secret(case, one)
        if one.old_secret_until and one.old_secret_until < case.now - OLD_SECRET_SECONDS:
            what = f"endpoint {one.name}: the old secret is still stored, though its time is over"
            yield command(what, case.refcast("endpoint", "edit", one.name))
        scheme = one.signing or dialects.get(one.dialect).SIGNING
        parts = urlsplit(one.url)
        bare = "@" in parts.netloc or (bool(one.secret or one.secret_file) and _is_sent(scheme))
        if parts.scheme == "http" and bare and not _is_here(parts.hostname or ""):
            yield advice(
                f"endpoint {one.name}: its secret or password goes over the network in clear, by http",
                f"if the receiver speaks https: {case.refcast('endpoint', 'edit', one.name)} --url https://…",
            ).as_warning()


def _of_secret(case: Case, one: Endpoint) -> Iterator[Problem]:
    whose = f"endpoint {one.name}"
    other = f"{case.refcast('endpoint', 'edit', one.name)} --secret-file FILE"
    try:
        signing.check(one.signing or dialects.get(one.dialect).SIGNING, secret_of(one))
    except deliver.SecretError as error:
        path = Path(one.secret_file)
        info = path.stat() if path.is_file() else None
        if info is not None and info.st_uid not in (os.geteuid(), 0):
            yield command(f"{whose}: {error}", as_owner(path, "chown", str(os.geteuid()), path))
        elif info is not None and info.st_mode & 0o077:
            yield command(f"{whose}: {error}", as_owner(path, "chmod", "600", path))
        else:
            yield advice(f"{whose}: {error}", f"write the secret into that file; or store another: {other}")
    except BadInput as error:
        yield advice(f"{whose}: {error}", other)


def _is_sent(scheme: str) -> bool:
    """Whether a scheme sends the secret itself, and not what is made of it."""
    return scheme in ("basic", "bearer") or scheme.endswith("-token") or scheme.startswith("token:")


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def files(case: Case) -> Iterator[Problem]:
    """The files of certificates and keys that endpoints name."""
    for one in case.endpoints:
        whose, edit = f"endpoint {one.name}", case.refcast("endpoint", "edit", one.name)
        try:
            if one.ca_file or one.client_cert:
                check_files(one.ca_file, one.client_cert, one.client_key)
        except BadInput as error:
            options = "--ca-file, --client-cert and --client-key name others, or `none`"
            yield advice(f"{whose}: {error}", f"put that file in its place; {edit} with {options}")
            continue
        # Of several authorities one that is good is enough; of a chain the first certificate is its own.
        if one.ca_file and (last := max(ends(one.ca_file))) < _soon(case):
            yield advice(
                f"{whose}: the authorities in {one.ca_file} {_end(last, case)}",
                f"name newer ones: {edit} --ca-file FILE",
            )
        if one.client_cert and (last := ends(one.client_cert)[0]) < _soon(case):
            renew = f"have it renewed by whoever runs the receiver, and put it into that file, or: {edit}"
            yield advice(
                f"{whose}: the certificate in {one.client_cert} {_end(last, case)}", f"{renew} --client-cert FILE"
            )
        for key in {one.client_key or one.client_cert} - {""}:
            path = Path(key)
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                yield command(f"{whose}: others can read the key in {path}", as_owner(path, "chmod", "600", path))
        if not one.verify_tls and one.url.startswith("https:"):
            what = f"{whose}: its certificate is not verified, so anybody on the way can be taken for it"
            yield command(what, case.refcast("endpoint", "edit", one.name, "--verify-tls")).as_warning()


def _soon(case: Case) -> datetime:
    return datetime.fromtimestamp(case.now, UTC) + SOON


def _end(last: datetime, case: Case) -> str:
    word = "ended" if last.timestamp() < case.now else "will end"
    return f"{word} on {last:%Y-%m-%d %H:%M} UTC"


def reached(case: Case) -> Iterator[Problem]:
    """Each endpoint is connected to as for a delivery; nothing is sent."""
    active = [one for one in case.endpoints if one.state == "active"]
    if case.probe is None or not active:
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(active)), "doctor") as pool:
        for one, probe in zip(active, pool.map(case.probe, [_request(case, one) for one in active]), strict=True):
            yield from _met(case, one, probe)


def _request(case: Case, one: Endpoint) -> Request:
    proxy = one.proxy or case.settings.proxy or NO_PROXY
    return Request(
        url=one.url,
        headers=(),
        body=b"",
        timeout=min(one.timeout, PROBE_SECONDS),
        verify_tls=one.verify_tls,
        rules=case.settings.network,
        proxy="" if proxy == NO_PROXY else proxy,
        ca_file=one.ca_file,
        client_cert=one.client_cert,
        client_key=one.client_key,
    )


def _met(case: Case, one: Endpoint, probe: Probe) -> Iterator[Problem]:
    if probe.error_class:
        sentence = _ADVICE[probe.error_class].replace(
            "refcast endpoint edit NAME", case.refcast("endpoint", "edit", one.name)
        )
        yield advice(f"endpoint {one.name} is not reached ({probe.error_class}): {probe.error}", sentence)
    elif probe.certificate_ends is not None and probe.certificate_ends < _soon(case):
        host = urlsplit(one.url).hostname
        yield advice(
            f"endpoint {one.name}: the certificate of {host} {_end(probe.certificate_ends, case)}",
            "whoever runs the receiver must renew it before: then deliveries fail",
        )
