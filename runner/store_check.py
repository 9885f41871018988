"""Whether a store does what is asked of it, before anything depends on it.

    engine, pod, doctor --`check`--> Store --> write, read back, put-if-absent, list
    kubectl plugin --`check_readable`--> Store --> list

Both give up within seconds: where a store is named wrongly, its person is still there.
"""

from __future__ import annotations

from runner.errors import StoreError
from runner.store import Store, read_bytes, write_new

_KEY = ".probe/aicsweep"
_DATA = b"Written by aicsweep at the start of a run, to see whether it may. Can be deleted.\n"


def check(store: Store) -> None:
    """Prove that we may write, read, list and put-if-absent here; made at the start of a run.

    Takes four small requests on S3. Leaves `.probe/aicsweep`, the same bytes each time, since the right to
    delete is not needed for anything else. Raises StoreError, saying what is wrong and what to do.
    """
    import obstore

    store.request("write", _KEY, lambda client, path: obstore.put(client, path, _DATA), hurried=True)
    if store.request("read", _KEY, read_bytes, hurried=True) != _DATA:
        remedy = "Is it a cache or a gateway? aicsweep needs to read back at once what it wrote."
        raise StoreError(f"{store.url} gives back other bytes than were written", remedy=remedy)
    if store.request("write", _KEY, lambda client, path: write_new(client, path, _DATA), hurried=True):
        remedy = (
            "Without it two writers of one key overwrite each other: a result could be lost, and an artefact"
            " be another than its manifest says. Current AWS S3, MinIO, Ceph, SeaweedFS and R2 have it."
        )
        raise StoreError(f"{store.url} ignores put-if-absent (If-None-Match) and overwrites", remedy=remedy)
    folder = _KEY.partition("/")[0]
    store.request("list", folder, lambda client, path: obstore.list(client, path).collect(), hurried=True)


def check_readable(store: Store) -> None:
    """Prove that we may list here, in one small request; for those who only read. Raises StoreError."""
    import obstore

    store.request("list", "", obstore.list_with_delimiter, hurried=True)
