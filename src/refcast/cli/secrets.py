"""The secrets that options lead to: never an option's value, for `ps` shows those. Whether they can sign."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import click

from refcast import dialects, signing
from refcast.cli import values
from refcast.deliver.building import secret_of
from refcast.errors import BadInput
from refcast.model import Endpoint

WAYS = "--secret-file, --secret-env, --secret-path or --ask-secret"


def with_secret(one: Endpoint, options: dict[str, Any]) -> Endpoint:
    """The endpoint with the secret, or the file of one, that the options lead to. BadInput for more than one."""
    named = [key for key in ("secret_file", "secret_env", "secret_path") if options[key] is not None]
    if len(named) + options["ask_secret"] + options["no_secret"] > 1:
        raise BadInput(f"give the secret in one way: {WAYS}, or --no-secret")
    if options["no_secret"]:
        return replace(one, secret="", secret_file="")
    if options["secret_path"] is not None:
        if not (file := values.file("--secret-path", options["secret_path"])):
            raise BadInput("--secret-path names a file; --no-secret takes it away")
        return replace(one, secret="", secret_file=file)
    if options["secret_file"] is not None:
        return replace(one, secret=read(options["secret_file"], "secret"), secret_file="")
    if options["secret_env"] is not None:
        secret = os.environ.get(options["secret_env"])
        if not secret:
            raise BadInput(f"the environment variable {options['secret_env']!r} is not set, or empty")
        return replace(one, secret=secret, secret_file="")
    if options["ask_secret"]:
        return replace(one, secret=str(click.prompt("Secret", hide_input=True)), secret_file="")
    return one


def check_signing(one: Endpoint) -> None:
    """BadInput for a secret that the scheme cannot use, and for headers that would stand twice."""
    dialect = dialects.get(one.dialect)
    scheme = one.signing or dialect.SIGNING
    secret = secret_of(one)
    mine = {name.lower() for name in signing.check(scheme, secret)}
    if secret and scheme == "none":
        raise BadInput(f"{dialect.NAME} signs nothing: leave the secret out, or say how with --signing")
    if one.signing and one.signing != "none" and not secret:
        raise BadInput(f"the signing scheme {one.signing} needs a secret: {WAYS}")
    theirs = {name.lower() for name in dialect.headers("", "")}
    if mine & theirs:
        raise BadInput(f"the header {min(mine & theirs)} is one of the dialect's own: let another carry the secret")
    if "authorization" in mine and "@" in urlsplit(one.url).netloc:
        raise BadInput("the URL's user name and the secret would both be the header Authorization: use one of them")


def rotated(old: Endpoint, new: Endpoint, hours: float) -> Endpoint:
    """The endpoint with the old secret in force for some hours. BadInput where the scheme knows one secret only."""
    scheme = new.signing or dialects.get(new.dialect).SIGNING
    if not signing.get(scheme).rotates:
        able = ", ".join(name for name, known in signing.SCHEMES.items() if known.rotates)
        raise BadInput(f"{scheme} signs with one secret only, so the old one cannot stay valid; able to: {able}")
    if not 0 < hours <= 24 * 365:
        raise BadInput(f"{hours:g} hours cannot be: use more than 0, up to a year")
    before = secret_of(old)
    signing.check(scheme, before)
    if not before or secret_of(new) == before:
        raise BadInput(f"there is no old secret to keep: give the new one with {WAYS}")
    return replace(new, old_secret=before, old_secret_until=time.time() + hours * 3600)


def check_frozen(one: Endpoint, schemes: set[str]) -> None:
    """BadInput where what waits is signed by a scheme that cannot use the endpoint's secret: it could never be sent."""
    for scheme in schemes:
        try:
            signing.check(scheme, secret_of(one))
        except BadInput as error:
            raise BadInput(
                f"deliveries that wait are to be signed by {scheme}, and {error}; let them go first"
            ) from error


def read_one(value: str | None, file: str | None, what: str, option: str) -> str | None:
    """What was written on the command line, or what a file holds; None for neither. BadInput for both."""
    if value is not None and file is not None:
        raise BadInput(f"give the {what} in one way: on the command line, or by {option}")
    return value if file is None else read(file, what)


def read(file: str, what: str) -> str:
    """The text in a file, or on standard input (`-`), without the line end behind it."""
    try:
        with click.open_file(file, "rb") as opened:
            return os.fsdecode(opened.read(65536)).rstrip("\r\n")
    except OSError as error:
        raise BadInput(f"cannot read the {what} from {file!r}: {error.strerror}") from error
