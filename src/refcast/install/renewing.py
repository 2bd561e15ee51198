"""What a newer program has to renew of an older one's installation: the hooks of every repository that is watched.

The hooks of an older version go on recording, so nothing is lost before this has run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from refcast.errors import RefcastError
from refcast.install import install, install_gitolite, is_ours, place
from refcast.install.hooks import EVERY
from refcast.install.site import known
from refcast.store import Store


def renew(state: Path, store: Store, *, now: float) -> Iterator[tuple[str, str | RefcastError]]:
    """Renew the hooks wherever refcast is installed: each thing, and what was done to it or why it could not be."""
    site = known(state)
    if site is not None:
        try:
            yield site.rc, install_gitolite(state, store, keep_rc=True, now=now).what
        except RefcastError as error:
            yield site.rc, error
    for path in sorted(store.repositories.paths()):
        if site is not None and site.has(Path(path)):
            continue
        try:
            there = place(Path(path))
            # A shared hooks directory was agreed to when ours went into it, but not if it has come since.
            shared = any(is_ours(there.hooks / name) for name in EVERY)
            ((_, done),) = install([there], state, store, shared=shared, now=now)
            yield path, done
        except RefcastError as error:
            yield path, error
