"""What a user is told by `kubectl describe`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from k8s import events as module
from k8s.actions import Event
from k8s.events import Teller, event_manifest
from tests.k8s.standin import api_of, refusal, standing_in
from tests.k8s.world import sweep

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUND = Event("Normal", "Round", "round 2 begins")


def name_of(event: Event, **metadata: object) -> str:
    about = sweep()
    about["metadata"].update(metadata)
    return str(event_manifest(about, event, identity="me", now=NOW)["metadata"]["name"])


def test_an_events_name_is_made_from_what_it_says() -> None:
    assert name_of(ROUND) == name_of(ROUND)
    others = {
        name_of(Event("Warning", "Round", "round 2 begins")),
        name_of(Event("Normal", "Other", "round 2 begins")),
        name_of(Event("Normal", "Round", "round 3 begins")),
        name_of(ROUND, uid="u-2"),
        name_of(ROUND, generation=2),
    }
    assert len(others | {name_of(ROUND)}) == 6


def test_what_the_server_takes_at_most_is_kept_to() -> None:
    manifest = event_manifest(sweep(), Event("Warning", "R", "x" * 5000), identity="i" * 500, now=NOW)
    assert len(manifest["note"]) == 1024
    assert len(manifest["reportingInstance"]) == 128


async def test_a_piece_of_news_is_told_once_by_whomever() -> None:
    async with standing_in() as server, api_of(server) as api:
        one, other = Teller(api, "one"), Teller(api, "other")
        for _ in range(3):
            await one.tell(sweep(), ROUND)
        assert server.verbs("events") == ["create"]
        for _ in range(3):
            await other.tell(sweep(), ROUND)
        assert server.verbs("events") == ["create", "create"]
        assert [key for key in server.objects if key[0] == "events"] == [("events", "bench", name_of(ROUND))]


async def test_what_could_not_be_told_is_told_the_next_time() -> None:
    async with standing_in() as server, api_of(server) as api:
        teller = Teller(api, "me")
        server.fail("create", "events", lambda: refusal(503))
        await teller.tell(sweep(), ROUND)
        await teller.tell(sweep(), ROUND)
        assert ("events", "bench", name_of(ROUND)) in server.objects


async def test_what_was_told_is_forgotten_in_time_and_before_it_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 2)
    async with standing_in() as server, api_of(server) as api:
        teller = Teller(api, "me")
        for number in range(3):
            await teller.tell(sweep(), Event("Normal", "R", str(number)))
        assert list(teller._told) == [name_of(Event("Normal", "R", str(number))) for number in (1, 2)]
        monkeypatch.setattr(module, "_REMEMBER_S", -1)
        await teller.tell(sweep(), ROUND)
        server.calls.clear()
        await teller.tell(sweep(), ROUND)
        assert server.verbs("events") == ["create"]
