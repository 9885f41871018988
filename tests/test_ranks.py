import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.ranks import with_ranks

COLUMNS = [
    "model", "objective", "target", "status", "throughput_images_s", "throughput_ci95_images_s", "latency_p95_s",
    "latency_p95_ci95_s",
]  # fmt: skip
few = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 50.0]))
rows = st.tuples(
    st.sampled_from(["m", "n"]),
    st.sampled_from(["best-throughput", "best-latency", "balanced"]),
    st.sampled_from(["any", "node"]),
    st.sampled_from(["ok", "ok", "ok", "failed"]),
    few,
    few,
    few,
    few,
)


def table(listed) -> pa.Table:
    words = {"model", "objective", "target", "status"}
    return pa.table(
        {
            name: pa.array([row[n] for row in listed], pa.string() if name in words else pa.float64())
            for n, name in enumerate(COLUMNS)
        }
    ).cast(
        pa.schema(
            [(n, pa.dictionary(pa.int32(), pa.string()) if n in words else pa.float64()) for n in COLUMNS]
        )
    )


def one_group_at_a_time(listed) -> list[tuple[int | None, bool]]:
    """The rule, said slowly."""
    frame = pd.DataFrame(listed, columns=COLUMNS)
    rank, tie = [None] * len(frame), [False] * len(frame)
    usable = frame[(frame["status"] == "ok") & frame["throughput_images_s"].notna()]
    for (_, objective, _), rivals in usable.groupby(["model", "objective", "target"]):
        throughput, latency = (
            rivals["throughput_images_s"].astype(float),
            rivals["latency_p95_s"].astype(float),
        )
        if objective == "best-throughput":
            score, half = -throughput, rivals["throughput_ci95_images_s"]
        elif objective == "best-latency":
            score, half = latency, rivals["latency_p95_ci95_s"]
        else:
            score = np.hypot(1 - throughput / throughput.max(), 1 - latency.min() / latency)
            half = score * 0
        half = half.astype(float).fillna(0.0)
        ranked = score.dropna().sort_values(kind="stable").index
        close = [i for i in ranked if score[i] - half[i] <= score[ranked[0]] + half[ranked[0]]]
        for place, i in enumerate(ranked):
            rank[i], tie[i] = place + 1, i in close and len(close) > 1
    return list(zip(rank, tie, strict=True))


@settings(max_examples=300, deadline=None)
@given(st.lists(rows, max_size=12))
def test_ranks_and_ties_are_those_of_one_group_at_a_time(listed):
    found = with_ranks(table(listed))
    assert list(zip(found["rank"].to_pylist(), found["tie"].to_pylist(), strict=True)) == one_group_at_a_time(
        listed
    )


def test_rivals_are_ranked_by_their_objective_and_ties_said():
    listed = [
        ("m", objective, "any", "ok", 100.0 * cores, 150.0 if cores > 1 else 1.0, 1 / cores, None)
        for objective in ("best-throughput", "best-latency")
        for cores in (1, 2, 4)
    ]
    found = with_ranks(table(listed))
    ranks = list(zip(found["rank"].to_pylist(), found["tie"].to_pylist(), strict=True))
    assert ranks[:3] == [(3, False), (2, True), (1, True)]
    assert ranks[3:] == [(3, False), (2, False), (1, False)]
