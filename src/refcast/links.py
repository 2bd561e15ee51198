"""Links: the URLs that receivers are told of a repository, as templates, and those that the usual web pages have.

Owns the templates and what fills them; where they are written down is `settings`' business.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from urllib.parse import quote, urlsplit

from refcast.errors import BadInput


@dataclass(frozen=True, slots=True)
class Urls:
    """URL templates. `{path}` is the repository's full name, `{name}` its last part; a plain server knows no URL."""

    homepage: str = ""
    http: str = ""
    ssh: str = ""
    commit: str = ""
    """Also `{id}`. Empty: the dialect appends its own path to the homepage."""
    compare: str = ""
    """Also `{old}` and `{new}`. Empty: the dialect appends its own path to the homepage."""


PRESETS: dict[str, Urls] = {
    # cgit(5) `repo.url`: what scan-path finds keeps its .git unless remove-suffix is set.
    "cgit": Urls(
        homepage="{base}/{path}.git/",
        http="{base}/{path}.git",
        commit="{base}/{path}.git/commit/?id={id}",
        compare="{base}/{path}.git/diff/?id={new}&id2={old}",
    ),
    # gitweb(1), "Actions": parameters may stand in the query, parted by semicolons.
    "gitweb": Urls(
        homepage="{base}?p={path}.git",
        commit="{base}?p={path}.git;a=commit;h={id}",
        compare="{base}?p={path}.git;a=commitdiff;h={new};hp={old}",
    ),
    # gitolite names repositories without .git, in its URLs and in the list of projects that cgit reads.
    "gitolite-cgit": Urls(
        homepage="{base}/{path}/",
        http="{base}/{path}",
        ssh="git@{host}:{path}",
        commit="{base}/{path}/commit/?id={id}",
        compare="{base}/{path}/diff/?id={new}&id2={old}",
    ),
}
"""The templates of the usual web pages. `{base}` is where the pages are, `{host}` the host of that."""


def preset(name: str, base: str) -> Urls:
    """The templates of a preset with pages at `base`, `https://git.example.org/cgit`. BadInput for an unknown one."""
    if name not in PRESETS:
        raise BadInput(f"{name!r} is no preset: use {', '.join(PRESETS)}")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or set("?#") & set(base):
        raise BadInput(f"{base!r} cannot be the base of a preset: write the address of the web pages, https://…")
    base = base if name == "gitweb" else base.rstrip("/")
    known = {
        "base": base.replace("{", "{{").replace("}", "}}"),
        "host": f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname,
    }
    found = PRESETS[name]
    for one in fields(Urls):
        template = getattr(found, one.name)
        for key, value in known.items():
            template = template.replace(f"{{{key}}}", value)
        found = replace(found, **{one.name: template})
    return found


def filled(template: str, full_name: str, **more: str) -> str:
    """The template for one repository. In a URL (with `://`) names are percent-encoded."""
    names = {"path": full_name, "name": full_name.rsplit("/", 1)[-1]}
    # A scp-like address, `git@host:{path}.git`, is no URL and knows no escapes.
    known = {key: quote(value) for key, value in names.items()} if "://" in template else names
    return template.format(**known, **more)
