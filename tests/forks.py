"""Programs in processes of their own, without the half second that each takes to read refcast.

A process that has read it all waits for orders, and forks for each. What the child finds is what a program finds that
is started: arguments, environment, directory, streams; only its command line, as /proc tells it, is that of the one
that waits. So nothing is started in this way that others look for there, as for a worker that stays.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

READ = ["killing", "refcast.cli", *(f"refcast.cli.{name}" for name in ("applying", "backups", "deliveries", "doctor"))]
READ += [f"refcast.cli.{name}" for name in ("moves", "processes", "repositories", "status", "sweep", "upgrading")]
MESSAGE = 1 << 20

_waiting: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []


def run(
    module: str, words: list[str], *, environment: Mapping[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """What `python -m MODULE WORDS` does and prints; `module` has a function `main` without arguments."""
    if not _waiting:
        _waiting.append(_start())
        atexit.register(_stop)
    orders, _ = _waiting[0]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        order = json.dumps([module, words, dict(environment), str(cwd)]).encode()
        socket.send_fds(orders, [order], [out.fileno(), err.fileno()])
        code = int(orders.recv(MESSAGE))
        return subprocess.CompletedProcess(words, code, _text(out), _text(err))


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "surrogateescape")


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # Streams are encoded as the first environment says.
        environment = {"LC_ALL": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parent), "PATH": os.environ["PATH"]}
        command = [sys.executable, __file__, str(theirs.fileno())]
        return ours, subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, cwd="/")


def _stop() -> None:
    orders, process = _waiting.pop()
    orders.close()
    process.wait()


def _wait(orders: socket.socket) -> None:
    for module in READ:
        importlib.import_module(module)
    while True:
        order, files, _, _ = socket.recv_fds(orders, MESSAGE, 2)
        if not order:
            return  # who gave them is gone
        pid = os.fork()
        if pid == 0:
            orders.close()
            module, words, environment, cwd = json.loads(order)
            _become(module, words, environment, cwd, files)
        for file in files:
            os.close(file)
        _, status = os.waitpid(pid, 0)
        orders.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(module: str, words: list[str], environment: dict[str, str], cwd: str, files: list[int]) -> None:
    code: object = 1
    try:
        for number, file in enumerate([os.open(os.devnull, os.O_RDONLY), *files]):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        os.chdir(cwd)
        random.seed()
        read = importlib.import_module(module)
        sys.argv = [str(read.__file__), *words]
        read.main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _wait(socket.socket(fileno=int(sys.argv[1])))
