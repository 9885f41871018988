"""What of a store nobody needs: found, and removed when asked. Never a result, nor a verdict on what can't be made.

    results, plans still at work --> artefacts that are referred to --> the others, and what else was left over

Safe beside sweeps that run: whatever was written within the age limit stays, and so does what a plan with
slots still to measure may ask for, although no result names it yet. New plans are looked for before each batch
is deleted; one that comes in the seconds after may still find what is just going. Where a sweep can't be read as
a whole nobody knows what it refers to: then no artefact is removed. Nor is one whose manifest can't be understood.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runner import inflight, keys, merge, plan
from runner.artifact_records import Artifact, DamagedArtifact, Kind, Manifest, artifact_of, parse
from runner.errors import BadInput, StoreError
from runner.keys import ExportRequest
from runner.plan import Plan
from runner.planfile import in_a_lot
from runner.proven_artifacts import named_artifacts
from runner.store import Listed, NotFound, Store
from runner.stored import plans_of, read_results, still_there, stored_plan, sweep_folders
from runner.table_records import DamagedTable, current_of
from runner.workplace import Reporter

# Things that are deleted together. Before each batch it is asked anew who needs them, so the fewer the safer, and
# the more the fewer requests: S3 deletes up to a thousand objects in one.
BATCH = 100
# What makes the rest be found goes before it: if we are killed then, that is half made and no artefact. And an
# overruled verdict before that: by itself it would count again.
_FIRST_TO_GO = ("infeasible.json", "manifest.json")
# A writer takes minutes between its first file and its manifest, a reader less between a pointer and what
# it points to; a day also leaves room for clocks that differ and for a store that was away.
OLDER_THAN = timedelta(days=1)

ARTIFACT, HALF_MADE, LITTER, MARKERS, PLAN, TABLE = (
    "artefact", "half made", "litter", "markers", "plan", "table",
)  # fmt: skip


@dataclass(frozen=True)
class Garbage:
    """Objects that go together; `name` is the folder or object they are known by."""

    kind: str
    name: str
    objects: tuple[Listed, ...]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.objects)


@dataclass
class Found:
    """What can go. `blind`: why no artefact can, as what sweeps refer to is not known as a whole. `plans`:
    those that were there (folder of the sweep, digest), and when each was last used."""

    garbage: list[Garbage] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    plans: dict[tuple[str, str], datetime] = field(default_factory=dict)


@dataclass
class _References:
    """What sweeps need of the artefacts: by name, or by what they may still ask to be made."""

    named: set[tuple[Kind, str]] = field(default_factory=set)
    asked: set[ExportRequest] = field(default_factory=set)

    def needs(self, kind: Kind, key: str, artifact: Artifact) -> bool:
        """Whether an artefact is or may be used; of what its maker's record does not tell: yes."""
        if (kind, key) in self.named:
            return True
        facts = artifact.facts
        try:
            if kind == "export":
                return any(keys.export_key(request, facts["versions"]) == key for request in self.asked)
            of = (facts[name] for name in ("source", "weights", "image_size", "opset"))
            return ExportRequest(*of) in self.asked
        except (KeyError, TypeError, AttributeError):
            return True


def find(root: Store, now: datetime, older_than: timedelta, reporter: Reporter) -> Found:
    """What can be removed from a store; nothing is. Raises StoreError where it can't be read."""
    found, before, references = Found(), now - older_than, _References()
    for prefix in sweep_folders(root):
        reporter.say(f"{prefix or root.url}: what it refers to")
        _sweep(root.at(prefix) if prefix else root, prefix, before, found, references)
    _artifacts(root, before, found, references, reporter)
    found.garbage += [
        Garbage(LITTER, entry.key, (entry,)) for entry in root.litter() if entry.modified < before
    ]
    return found


def remove(root: Store, found: Found) -> Iterator[Garbage]:
    """Remove what was found, but for what was written to or asked for since; gives each that is gone. Raises
    StoreError: then some of the batch at hand may be gone too, and the next look finds what is left of it."""
    for start in range(0, len(found.garbage), BATCH):
        yield from _remove(root, found.garbage[start : start + BATCH], found)


def _remove(root: Store, batch: Sequence[Garbage], found: Found) -> Sequence[Garbage]:
    """One batch. What is slow comes first: between the look for new plans and the deletion only seconds pass."""
    batch = [garbage for garbage in batch if garbage.kind == LITTER or _untouched(root, garbage)]
    manifests = _manifests(root, {_artifact_of(g) for g in batch if g.kind in (ARTIFACT, HALF_MADE)})
    asked = _asked_since(root, found)
    gone = [garbage for garbage in batch if _still_garbage(garbage, manifests, asked)]
    objects = [entry.key for garbage in gone for entry in garbage.objects]
    by_turn: dict[int, list[str]] = defaultdict(list)
    for key in objects:
        name = key.rpartition("/")[2]
        by_turn[_FIRST_TO_GO.index(name) if name in _FIRST_TO_GO else len(_FIRST_TO_GO)].append(key)
    for _, keys_now in sorted(by_turn.items()):
        root.delete(keys_now)
    return gone


def _asked_since(root: Store, found: Found) -> _References:
    """What plans ask for that are new, or came back, since we looked."""
    references = _References()
    for prefix in sweep_folders(root):
        home = root.at(prefix) if prefix else root
        for digest, entry in plans_of(home).items():
            if found.plans.get((prefix, digest)) != entry.modified:
                # Its sweep is let go at this moment: who is gone asks for nothing.
                with suppress(NotFound):
                    references.asked |= _asked(stored_plan(home, digest), {})
    return references


def _still_garbage(garbage: Garbage, manifests: Mapping[str, Artifact | None], asked: _References) -> bool:
    """By the manifests as they are now; one that can't be understood may name anything."""
    if garbage.kind not in (ARTIFACT, HALF_MADE):
        return True
    name = _artifact_of(garbage)
    if name not in manifests:
        return True
    artifact = manifests[name]
    if artifact is None:
        return False
    if garbage.kind == ARTIFACT:
        return not asked.needs(artifact.kind, artifact.key, artifact)
    named = {file.object_key for file in artifact.files.values()}
    return not any(entry.key in named for entry in garbage.objects)


def _artifact_of(garbage: Garbage) -> str:
    """Folder of the artefact that it is of: `artifacts/<kind>/<key>`."""
    return "/".join(garbage.name.split("/")[:3])


def _untouched(root: Store, garbage: Garbage) -> bool:
    newest = max(entry.modified for entry in garbage.objects)
    return all(entry.modified <= newest for entry in root.list(garbage.name))


def _sweep(home: Store, prefix: str, before: datetime, found: Found, references: _References) -> None:
    """What one sweep refers to, and what in its folder is superseded."""
    results = read_results(home)
    references.named |= set(named_artifacts(results.table))
    found.blind += [f"{home.url}/{key}: {fault}" for key, fault in results.damaged.items()]
    stored = plans_of(home)
    found.plans |= {(prefix, digest): entry.modified for digest, entry in stored.items()}
    tables_of = _by_folder(home.list("tables"), 2)
    current, table = _current(home, found)
    # Until then a reader may hold on to what `current.json` said before.
    settled = all(entry.modified < before for entry in tables_of.get(table, ()))
    latest = max((entry.modified for entry in stored.values()), default=before)
    alive = {
        digest
        for digest, entry in stored.items()
        if digest == current or entry.modified == latest or entry.modified >= before
    }
    for digest in alive:
        try:
            made = stored_plan(home, digest)
            references.asked |= _asked(made, merge.past_of(results, made.epochs))
        except (BadInput, StoreError) as error:
            found.blind.append(error.message)
    at = f"{prefix}/" if prefix else ""
    for top in ("inflight", "made"):
        for digest, entries in _by_folder(home.list(top), 2).items():
            if digest.rpartition("/")[2] not in alive | {inflight.HERE}:
                _add(found, MARKERS, at, digest, entries, before)
    if not (table and settled):
        return
    with_results = {key.split("/")[1] for key in (*results.segments, *results.damaged)}
    for digest, entry in stored.items():
        if digest not in alive and digest not in with_results:
            _add(found, PLAN, at, entry.key, [entry], before)
    for folder, entries in tables_of.items():
        if folder != table:
            _add(found, TABLE, at, folder, entries, before)


def _current(home: Store, found: Found) -> tuple[str, str]:
    """Plan and table of `current.json`."""
    try:
        current = current_of(home)
        return current.plan, current.table
    except NotFound:
        return "", ""
    except DamagedTable as error:
        found.blind.append(error.message)
        return "", ""


def _asked(made: Plan, past: Mapping[str, plan.Past]) -> set[ExportRequest]:
    """What a plan may still ask for: the graphs of its slots that are wanted, and any binary of them."""
    rounds = made.sweep.spec.limits.rounds
    names = ("lot", "slot", "source", "weights", "image_size", "opset")
    rows = made.columns(*names, where=in_a_lot)
    _, *columns = (rows[name].to_pylist() for name in names)
    return {
        ExportRequest(*request)
        for slot, *request in zip(*columns, strict=True)
        if plan.still_wanted(past.get(slot), rounds)
    }


def _artifacts(
    root: Store, before: datetime, found: Found, references: _References, reporter: Reporter
) -> None:
    folders = _by_folder(root.list("artifacts"), 3)
    reporter.say(f"{len(folders):,} artefacts")
    manifests = _manifests(root, {name for name, some in folders.items() if _with_manifest(name, some)})
    for name, entries in folders.items():
        if (artifact := manifests.get(name)) is None and name in manifests:
            # Damaged, for `verify` to name: which files are its own is not known.
            continue
        files = {file.object_key for file in artifact.files.values()} if artifact else set()
        records = {f"{name}/manifest.json", f"{name}/infeasible.json"}
        if artifact and not found.blind and not references.needs(artifact.kind, artifact.key, artifact):
            # With a verdict beside it, that was overruled when it was asked for again.
            _add(found, ARTIFACT, "", name, entries, before)
        else:
            # Of a writer that another one was quicker than, or that was killed before its manifest.
            rivals = _by_folder((entry for entry in entries if entry.key not in files | records), 4)
            for folder, rest in rivals.items():
                _add(found, HALF_MADE, "", folder, rest, before)


def _with_manifest(name: str, entries: Iterable[Listed]) -> bool:
    return any(entry.key == f"{name}/manifest.json" for entry in entries)


def _manifests(root: Store, names: Iterable[str]) -> dict[str, Artifact | None]:
    """By their folders (`artifacts/<kind>/<key>`) the artefacts that have a manifest; None where it can't be
    understood."""
    found: dict[str, Artifact | None] = {}
    wanted = [f"{name}/manifest.json" for name in sorted(names)]
    for where, data in still_there(root, wanted, {}):
        name = where.rpartition("/")[0]
        try:
            found[name] = artifact_of(parse(Manifest, root, where, data))
        except DamagedArtifact:
            found[name] = None
    return found


def _add(found: Found, kind: str, at: str, name: str, entries: Sequence[Listed], before: datetime) -> None:
    if entries and max(entry.modified for entry in entries) < before:
        objects = tuple(entry._replace(key=at + entry.key) for entry in entries)
        found.garbage.append(Garbage(kind, at + name, objects))


def _by_folder(entries: Iterable[Listed], depth: int) -> Mapping[str, list[Listed]]:
    """Objects by the first `depth` segments of their keys."""
    found: dict[str, list[Listed]] = defaultdict(list)
    for entry in entries:
        found["/".join(entry.key.split("/")[:depth])].append(entry)
    return found
