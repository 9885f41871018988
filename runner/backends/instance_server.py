"""Forks instances from a process that has numpy and ONNX Runtime loaded: milliseconds instead of half a second.

multiprocessing's fork server is one for the whole program, and exporting fills it with torch;
its children import the program's main module again. This one belongs to a bench and ends with it.

    parent                              server
    a pickled Job and two descriptors   -> fork; answers with the pid
    a pickled pid                       -> wait for its end; answers with the exit code
    hangs up                            -> ends
"""

from __future__ import annotations

import array
import os
import pickle
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NoReturn

from runner.errors import Infrastructure

MESSAGE_LIMIT = 2**16
# The first start waits for the server's imports, which a cold disk can make slow.
ANSWER_LIMIT_S = 120.0
_ANSWER = struct.Struct("<q")


class InstanceServer:
    """The parent's end. Not for several threads: one question is under way at a time."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        control.settimeout(ANSWER_LIMIT_S)

    def start(self, job: object, pipe: Connection, life: Connection) -> int:
        """Fork an instance that serves `job` over `pipe`; returns its pid. The caller closes both ends it gave."""
        return self._ask(job, [pipe.fileno(), life.fileno()])

    def exit_code(self, pid: int) -> int:
        """Wait for the end of an instance that is dying; negative where a signal did it. Once for each pid."""
        return self._ask(pid, [])

    def _ask(self, question: object, descriptors: Sequence[int]) -> int:
        try:
            message = [pickle.dumps(question)]
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            self._control.sendmsg(message, ancillary if descriptors else [])
            answer = self._control.recv(_ANSWER.size)
        except OSError as error:
            raise _gone(error) from error
        except BaseException:
            # Ctrl-C between question and answer: the next answer would be taken for another's.
            self._control.close()
            raise
        if not answer:
            raise _gone(EOFError("it ended"))
        return int(_ANSWER.unpack(answer)[0])


def _gone(error: Exception) -> Infrastructure:
    return Infrastructure(
        f"the process that starts instances does not answer: {error}",
        remedy="see its message above; `python -c 'import onnxruntime'` must work with this interpreter",
    )


@contextmanager
def opened() -> Iterator[InstanceServer]:
    """A server for the length of the block. It need not be awaited: it imports while the caller goes on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # The caller's import path, which a test or a script may have changed.
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main({theirs.fileno()})"
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Numpy's thread pool is not needed, and a process with threads should not fork.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                # Ctrl-C at the terminal is for the parent; it ends the instances itself.
                process_group=0,
            )
        try:
            yield InstanceServer(ours)
        finally:
            ours.close()
            process.kill()
            process.wait()


def main(descriptor: int) -> None:
    """The server's process: answer until the parent hangs up."""
    from runner.backends import instance  # noqa: F401  what instances need is loaded before the first fork

    control = socket.socket(fileno=descriptor)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, MESSAGE_LIMIT, 2)
        if not data:
            return
        question = pickle.loads(data)
        if isinstance(question, int):
            answer = os.waitstatus_to_exitcode(os.waitpid(question, 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                control.close()
                _become_instance(question, descriptors)
            for passed in descriptors:
                os.close(passed)
        control.send(_ANSWER.pack(answer))


def _become_instance(job: object, descriptors: Sequence[int]) -> NoReturn:
    from runner.backends import instance

    code = 1
    try:
        assert isinstance(job, instance.Job)
        instance.serve(job, Connection(descriptors[0]), Connection(descriptors[1]))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # Never back into the server's loop, whatever happened.
        os._exit(code)
