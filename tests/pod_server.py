"""A process that has imported all `aicsweep` needs and forks it: run as `python -m tests.pod_server`.

A line of JSON in, one out: {"arguments", "environment", "log"} starts one and answers its pid; {"wait": pid}
answers its exit code once it has ended (negative: the signal), {"poll": pid} at once (null: it runs).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

import boto3
import obstore.auth.boto3
import obstore.store
import pandas
import scipy.stats

import runner.cli
import runner.pod
import runner.tables

# Imported here so that no pod has to.
PRELOADED = (boto3, obstore.auth.boto3, obstore.store, pandas, scipy.stats, runner.pod, runner.tables)


def serve() -> None:
    started: set[int] = set()
    ended: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "arguments" in order:
            answer = os.fork() or _run(order["arguments"], order["environment"], order["log"])
            started.add(answer)
        else:
            pid = order.get("wait") or order["poll"]
            if pid not in ended:
                found, status = os.waitpid(pid, 0 if "wait" in order else os.WNOHANG)
                if found:
                    ended[pid] = os.waitstatus_to_exitcode(status)
            answer = ended.get(pid)
        print(json.dumps(answer), flush=True)
    # The tests are over, and nobody waits for what still runs.
    for pid in started - ended.keys():
        os.kill(pid, signal.SIGKILL)


def _run(arguments: list[str], environment: dict[str, str], log: str) -> int:
    """In the child: what the command does; never returns."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["aicsweep", *arguments]
    code = 70
    try:
        runner.cli.main()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
