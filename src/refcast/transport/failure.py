"""Why there is no answer: what the parts of this room raise, and `Transport.send` makes a Response of."""

from __future__ import annotations


class Failure(Exception):
    """No OSError, so that nothing on the way takes it for one of its own."""

    def __init__(self, error_class: str, error: str) -> None:
        super().__init__(error)
        self.error_class = error_class
        """As in Response."""
        self.error = error
        """One line for a person, without secrets."""


class DeadlineError(Exception):
    """The time is up."""
