"""People: what is known of a user name besides itself, a full name and an e-mail address.

Owns the two formats of files that tell it, and which source is believed first. Reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from refcast.errors import BadInput
from refcast.model import Commit, Ident, Pusher

Known = Mapping[str, tuple[str, str]]
"""User name -> full name and e-mail address, either of them perhaps empty."""

_AUTHOR = re.compile(r"([^=]+?)\s*=\s*([^<>]*?)\s*<([^<>]*)>\Z")
_MARK = re.compile(r"#\s*(BEGIN|END)\s+USER\s+EMAILS\b")
_GITOLITE = re.compile(r"#\s*(\S+)\s+(?:([^<>]*?)\s*<([^<>]*)>|(\S+@\S+))\Z")


def authors(text: str) -> Known:
    """What an authors file says, as git-svn(1) and git-cvsimport(1) read it: a line `ann = Ann Lee <ann@example.org>`
    for each user. Lines that are empty or begin with a `#` say nothing. BadInput names a line that is none of these."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _AUTHOR.match(line.strip())
        if match is None:
            raise BadInput(f"line {number} is not of the form `user = Full Name <address>`")
        found[match[1]] = (match[2], match[3].strip())
    return found


def gitolite(text: str) -> Known:
    """What gitolite.conf says between the comments `# BEGIN USER EMAILS` and `# END USER EMAILS`, where each line is
    `# ann ann@example.org` or `# ann Ann Lee <ann@example.org>`. What is neither is passed over: it is a comment."""
    found = {}
    within = False
    for line in map(str.strip, text.splitlines()):
        if mark := _MARK.match(line):
            within = mark[1] == "BEGIN"
        elif within and (match := _GITOLITE.match(line)):
            found[match[1]] = (match[2] or "", match[3] or match[4])
    return found


def described(pusher: Pusher, known: Known, commits: Iterable[Commit]) -> Pusher:
    """The pusher with a name and an address, as far as they are known.

    The files come first; then the name that it has, that of the unix account; then the newest of the push's `commits`
    that is the pusher's own by the local part of its committer's address. A name that nobody knows is the user name.
    """
    full_name = pusher.name if pusher.name != pusher.username else ""
    name, email = known.get(pusher.username, ("", ""))
    own = _own(pusher.username, commits) if not (name and email) else None
    if own is not None and (not email or email.casefold() == own.email.casefold()):
        name, email = name or full_name or own.name, email or own.email
    return Pusher(pusher.username, name or full_name or pusher.username, email, pusher.id)


def _own(username: str, commits: Iterable[Commit]) -> Ident | None:
    mine = [one.committer for one in commits if one.committer.email.partition("@")[0].casefold() == username.casefold()]
    return mine[-1] if mine else None
