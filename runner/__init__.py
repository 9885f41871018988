"""aicsweep on a laptop and in a pod: spec to cells, cells to plan, plan to results, results to table.

Knows nothing of Kubernetes. ARCHITECTURE.md shows the flow; each module's first
lines say where it stands in it.
"""

import os

# ONNX Runtime 1.32 sends telemetry and writes below ~/.cache as soon as it is imported, unless told before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Arrow's allocator asks for huge pages, which the kernel zeroes whole however little of one is used: a quarter of the
# CPU of a merge. It reads this when it is loaded.
os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")

__version__ = "0.1.0"
