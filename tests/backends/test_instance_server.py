from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from runner.backends import instance_server
from runner.backends.instance import Job
from runner.backends.instance_server import InstanceServer
from runner.errors import Infrastructure, PointFailed

JOB = Job(
    Path("/no/such/model.onnx"), "image", "scores", (1, 3, 8, 8), 1, tuple(os.sched_getaffinity(0)), False
)


def test_it_starts_an_instance_and_tells_how_it_ended():
    with instance_server.opened() as server:
        pipe, their_pipe = multiprocessing.Pipe()
        their_life, life = multiprocessing.Pipe(duplex=False)
        pid = server.start(JOB, their_pipe, their_life)
        their_pipe.close()
        said = pipe.recv()
        assert isinstance(said, PointFailed)
        assert "model.onnx" in said.message
        assert server.exit_code(pid) == 0
        life.close()
    assert not psutil.pid_exists(pid)


def test_without_a_server_it_says_so():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours, pytest.raises(Infrastructure, match="process that starts instances does not answer"):
        InstanceServer(ours).exit_code(1)


def test_after_an_interrupted_question_no_answer_is_taken_for_another():
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = signal.signal(signal.SIGALRM, interrupt)
    with ours, theirs:
        server = InstanceServer(ours)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                server.exit_code(1)
        finally:
            signal.signal(signal.SIGALRM, before)
        with pytest.raises(Infrastructure):
            server.exit_code(2)
