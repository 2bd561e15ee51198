"""The errors that refcast shows to people, and their exit codes.

Each message says in one line what happened, to which thing, and what the reader can do.
A traceback is for bugs: anything that is not a RefcastError is one.
Exit code 2 is also what click uses for a command line that it cannot parse.
"""


class RefcastError(Exception):
    """Something went wrong that a person can mend. The message is for that person."""

    exit_code = 1


class BadInput(RefcastError):
    """A value that somebody typed or wrote into a file cannot be used."""

    exit_code = 2


class StateError(RefcastError):
    """The state directory, or the store in it, cannot be used."""

    exit_code = 3


class RepositoryError(RefcastError):
    """A repository is missing, is not bare, or cannot be read."""

    exit_code = 4


class RecordError(RefcastError):
    """A record in the spool is malformed or truncated."""

    exit_code = 5
