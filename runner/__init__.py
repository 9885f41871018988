"""aicsweep on a laptop and in a pod: spec to cells, cells to plan, plan to results, results to table.

Knows nothing of Kubernetes. ARCHITECTURE.md shows the flow; each module's first
lines say where it stands in it.
"""

__version__ = "0.1.0"
