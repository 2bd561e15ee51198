"""The refs of one repository: which there are, what they name, and which pushes never become refs.

Owns the care that a ref which cannot be read is not taken for one that is gone. Measured with libgit2: of loose refs
that are empty or closed to the reader, and of whole directories of them, a walk over all refs tells nothing, or the
older value that is packed; only a look at one name tells the truth. Reads no object but for whether it is there.
"""

from __future__ import annotations

import re
from pathlib import Path

from pygit2 import GitError, Reference, Repository
from pygit2.enums import ReferenceType

from refcast.errors import RepositoryError
from refcast.history import guard
from refcast.history.objects import GoneError, oid_of, one_line

_DEPTH = 5
"""How many symbolic refs git follows one after another (SYMREF_MAXDEPTH)."""

_FAULTS = (GitError, ValueError, KeyError, OSError)


class Refs:
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def all(self) -> tuple[dict[str, str], dict[str, str]]:
        """The refs that are not symbolic with the ids they name, tags not peeled; and the symbolic ones with the refs
        they lead to, existing or not. Raises RepositoryError.

        What cannot be read may be missing, or have an older id; `look_up` tells."""
        direct: dict[str, str] = {}
        symbolic: dict[str, str] = {}
        try:
            guard.check_refs(self._repository.path)
            packed = Path(self._repository.path) / "packed-refs"
            if packed.exists() and not packed.stat().st_size:
                # git writes a first line even without refs. This is what a power cut leaves.
                raise GitError("packed-refs is empty")
            for ref in self._repository.references.iterator():
                name = ref.raw_name.decode("utf-8", "surrogateescape")
                if ref.type == ReferenceType.DIRECT:
                    direct[name] = str(ref.target)
                elif ref.type == ReferenceType.SYMBOLIC:
                    symbolic[name] = _target(ref)
        except _FAULTS as error:
            raise self._error("its refs cannot be read", error) from error
        return direct, {name: _end(symbolic, name) for name in symbolic}

    def look_up(self, ref: str) -> str | None:
        """The id that a ref names now; empty where there is no such ref, None where it is symbolic.

        Raises RepositoryError where that cannot be told."""
        guard.check_ref(self._repository.path, ref)
        try:
            found = self._repository.lookup_reference(ref)
        except KeyError:
            return ""
        except _FAULTS as error:
            raise self._error(f"{ref} cannot be read", error) from error
        return str(found.target) if found.type == ReferenceType.DIRECT else None

    def real(self, ref: str) -> str:
        """The ref that a push to this name moves: where a symbolic one leads, and else itself."""
        name = ref
        for _ in range(_DEPTH):
            try:
                guard.check_ref(self._repository.path, name)
                found = self._repository.lookup_reference(name)
            except (*_FAULTS, RepositoryError):
                break
            if found.type != ReferenceType.SYMBOLIC:
                break
            name = _target(found)
        return name if name.startswith("refs/") else ref

    def has(self, object_id: str) -> bool:
        """Whether the repository has an object."""
        try:
            return oid_of(object_id) in self._repository
        except GoneError:
            return False

    def has_proc_receive(self) -> bool:
        """Whether commands of a push may go to the hook proc-receive, which need not move the refs that they name, and
        may report any others (receive.procReceiveRefs, git-config(1))."""
        try:
            return any(self._repository.config.get_multivar("receive.procReceiveRefs"))
        except _FAULTS:
            return False

    def head(self) -> str:
        """The ref that HEAD names, existing or not; empty where HEAD names a commit, or cannot be read."""
        try:
            head = self._repository.lookup_reference("HEAD")
        except (KeyError, ValueError, GitError):
            return ""
        return _target(head) if head.type == ReferenceType.SYMBOLIC else ""

    def _error(self, what: str, error: Exception) -> RepositoryError:
        # libgit2 tells of a file that is closed to it as "… is locked: Permission denied".
        why = re.sub(r"^failed \w+ - ", "", str(error).replace(" is locked: ", ": "))
        return RepositoryError(f"{one_line(self._repository.path)}: {one_line(f'{what}: {why}')}")


def _target(ref: Reference) -> str:
    target = ref.raw_target
    return target.decode("utf-8", "surrogateescape") if isinstance(target, bytes) else ""


def _end(symbolic: dict[str, str], name: str) -> str:
    end = name
    for _ in range(_DEPTH):
        if end not in symbolic:
            break
        end = symbolic[end]
    return end
