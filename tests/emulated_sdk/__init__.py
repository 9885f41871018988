"""EMULATED AIC100 tools for tests. Not the vendor's product, and no number from here says anything of a card.

`install` lays out a tree like /opt/qti-aic whose compiler, runner and device query are small programs of
this package. They are strict about their arguments, print and write what the real ones are known to, take
their times and rates from a made-up formula (`performance`), and fail on demand (`Fault`).

    from tests.emulated_sdk import Card, Fault, install
    sdk = install(tmp_path / "sdk", style="1.21", cards=[Card(), Card(sku="PCIe Pro")],
                  faults=[Fault("runner", "hang", where={"cores": 7}, times=1)])
    sdk.root       the tree; sdk.compiler, sdk.runner, sdk.util: the executables
    sdk.calls()    every invocation so far: tool, argv, cwd, started, ended, exit code, pids
    sdk.set_cards(...), sdk.set_faults(...)    at any time, also while tools run

Simulated time passes AICSWEEP_EMULATED_SPEED (default 1000) times faster than real time. README.md in this
folder lists styles, faults, and what is guessed.
"""

from .cards import Card
from .faults import Fault
from .journal import Call
from .tree import Sdk, install

__all__ = ["Call", "Card", "Fault", "Sdk", "install"]
