"""Threads that send: as many as there are lanes to serve at once, up to a limit, and none when there are none.

A pool knows nothing of deliveries: it runs a task. Two pools keep the lanes that fail away from those that are well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

IDLE_SECONDS = 20.0
"""A thread that nobody has woken for so long ends."""


class Pool:
    """Up to `limit` threads, each of which runs `task` when it is woken; the first starts with the first need."""

    def __init__(self, task: Callable[[], None], limit: int) -> None:
        self._task = task
        self._limit = limit
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._wanted = False
        self._leaving = False

    def wake(self) -> None:
        """Have one more thread run the task, if the limit allows. One that finds work wakes the next: a second call
        before a thread has heard of the first adds nothing."""
        with self._changed:
            self._wanted = True
            if self._idle:
                self._changed.notify()
            elif len(self._threads) < self._limit and not self._leaving:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.error("cannot have more than %d threads: %s", len(self._threads), error)
        else:
            self._threads.add(thread)

    def leave(self) -> None:
        """Have each thread end when its task is over."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait so long for the threads to end; whether they have. They do not keep the process from ending."""
        deadline = time.monotonic() + seconds
        with self._changed:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _run(self) -> None:
        try:
            while self._is_woken():
                self._task()
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _is_woken(self) -> bool:
        """Wait for the next need; False if none comes."""
        with self._changed:
            self._idle += 1
            try:
                self._changed.wait_for(lambda: self._wanted or self._leaving, IDLE_SECONDS)
            finally:
                self._idle -= 1
            if self._leaving or not self._wanted:
                # Gone before the lock is: who wakes the pool next must not count on this one.
                self._threads.discard(threading.current_thread())
                return False
            self._wanted = False
            return True
