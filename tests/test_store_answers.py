"""`aicsweep run` where answers of the store don't say what is so: doubled, late, lost, old or altered."""

from __future__ import annotations

from runner import tables
from tests import s3_proxy
from tests.cluster.oracle import results, undisturbed
from tests.s3_runs import SPEC, Once, Run, some


def test_acknowledged_twice(run: Run) -> None:
    """Each write reaches the server twice: of the second it says that the key is taken."""
    run.proxy.script = lambda asked: s3_proxy.twice if asked.writes and ".probe" not in asked.key else None
    run.go()
    run.is_right()


def test_acknowledged_late(run: Run) -> None:
    """Written, and the answer comes when the client has given up and asks again."""
    run.environment["AICSWEEP_STORE_TIMEOUT_S"] = "1"
    scripts = [
        Once(lambda asked, at=at: asked.writes and at in f"/{asked.key}", s3_proxy.late(3))
        for at in ("/plans/", "/results/", "/raw/", "manifest.json", "/current.json")
    ]
    run.proxy.script = lambda asked: next((do for script in scripts if (do := script(asked))), None)
    run.go()
    assert all(script.struck for script in scripts)
    run.is_right()


def test_answers_lost(run: Run) -> None:
    run.proxy.script = lambda asked: s3_proxy.lost if some(asked) and asked.writes else None
    run.go()
    run.is_right()


def test_a_listing_that_changes_while_merging(run: Run) -> None:
    """Between listing and reading, another engine adds a segment of a later measurement, and somebody deletes one
    that was a copy."""
    run.go()
    (key, *_) = [entry.key for entry in run.home.list("results")]
    folder, _, name = key.rpartition("/")
    data = run.home.get(key)
    run.home.put(f"{folder}/copy-{name}", data)
    bucket = run.url.removeprefix("s3://").partition("/")[0]

    def change() -> None:
        run.home.put(f"{folder}/other-{name}", data)
        delete(bucket, f"store/sweeps/local/default/sample/1/{folder}/copy-{name}")

    script = Once(lambda asked: asked.listing and asked.key.endswith("results/"), s3_proxy.then(change))
    run.proxy.script = script
    run.go()
    assert script.struck
    table, _ = tables.read_current(run.home)
    assert results(table) == undisturbed(**SPEC)


def delete(bucket: str, key: str) -> None:
    import boto3

    boto3.client("s3").delete_object(Bucket=bucket, Key=key)


def test_a_flipped_bit_is_met_before_it_counts(run: Run) -> None:
    """On its way here: of an artefact, a plan or a result. On its way there the signature holds the digest."""
    run.go()
    run.proxy.script = Once(lambda asked: not asked.writes and "/results/" in asked.key, s3_proxy.flipped)
    run.go()
    run.is_right()
