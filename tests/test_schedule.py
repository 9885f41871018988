"""The schedule by itself, on a simulated clock: what may never happen, and how long it may take."""

from collections import Counter, defaultdict
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.ordering import Lot
from runner.schedule import EXPORT, EXPORTS_AT_ONCE, Build, Builders, Schedule, builders
from tests.simulated_clock import Span, play

EXPORT_S = 3.0


class Job(NamedTuple):
    name: str
    export: str
    binary: str
    estimate_s: float


class Instance(NamedTuple):
    """Lots to work on, the seconds of each compile, and who works."""

    lots: list[Lot[Job]]
    compile_s: dict[str, float]
    cards: list[str]
    builders: Builders

    @property
    def jobs(self) -> list[Job]:
        return [job for lot in self.lots for job in lot.jobs]

    def build_s(self, build: Build) -> float:
        return EXPORT_S if build.kind == EXPORT else self.compile_s[build.id]

    def schedule(self, alone=()) -> Schedule[Job]:
        return Schedule(self.lots, self.cards, self.builders, lambda job: self.compile_s[job.binary], alone)

    def play(self, ends=lambda build: {}, alone=()):
        return play(self.schedule(alone), self.cards, self.build_s, lambda job: job.estimate_s, ends)


@st.composite
def instances(draw, owned=False):
    cards = [str(n) for n in range(draw(st.integers(1, 4)))]
    seconds = st.floats(0.5, 60)
    binaries = {f"b{n}": f"e{n % draw(st.integers(1, 3))}" for n in range(draw(st.integers(1, 10)))}
    lots, count = [], 0
    for number in range(draw(st.integers(1, 5))):
        jobs = []
        for _ in range(draw(st.integers(1, 6))):
            binary = draw(st.sampled_from(sorted(binaries)))
            jobs.append(Job(f"j{count}", binaries[binary], binary, draw(seconds)))
            count += 1
        card = draw(st.sampled_from(cards)) if owned else ""
        lots.append(Lot(number, jobs, card, urgent=number == 0 and draw(st.booleans())))
    compile_s = {binary: draw(seconds) for binary in binaries}
    return Instance(lots, compile_s, cards, Builders(draw(st.integers(1, 4)), draw(st.booleans())))


def most_at_once(spans: list[Span]) -> int:
    changes = sorted([(span.ended, -1) for span in spans] + [(span.began, 1) for span in spans])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


@settings(max_examples=300, deadline=None)
@given(st.one_of(instances(), instances(owned=True)))
def test_everything_once_after_what_it_needs_and_never_two_on_a_card(at):
    played = at.play()
    assert Counter(span.what[1] for span in played.jobs) == Counter(at.jobs)
    built = {span.what.id: span for span in played.builds}
    assert len(built) == len(played.builds)
    assert built.keys() == {job.export for job in at.jobs} | {job.binary for job in at.jobs}
    for span in played.jobs:
        number, job = span.what
        assert built[job.export].ended <= built[job.binary].began
        assert built[job.binary].ended <= span.began
        lot = next(lot for lot in at.lots if lot.number == number)
        assert job in lot.jobs
        assert lot.card in ("", span.card)
    by_card = defaultdict(list)
    for span in played.jobs:
        by_card[span.card].append(span)
    assert all(most_at_once(spans) == 1 for spans in by_card.values())
    assert most_at_once(played.builds) <= at.builders.at_once
    assert most_at_once([span for span in played.builds if span.what.kind == EXPORT]) <= EXPORTS_AT_ONCE
    if not at.builders.beside:
        assert max(span.ended for span in played.builds) <= min(span.began for span in played.jobs)


@settings(max_examples=300, deadline=None)
@given(instances())
def test_nobody_is_idle_while_there_is_something_to_do(at):
    """Graham's argument: at any time all builders are busy, or all cards, or a longest chain goes on."""
    used = {job.binary for job in at.jobs}
    build_s = EXPORT_S * len({job.export for job in at.jobs}) + sum(at.compile_s[one] for one in used)
    card_s = sum(job.estimate_s for job in at.jobs)
    # Two exports at once may leave further builders idle.
    at_once = min(at.builders.at_once, EXPORTS_AT_ONCE)
    chain_s = EXPORT_S + max(at.compile_s[job.binary] for job in at.jobs)
    chain_s += max(job.estimate_s for job in at.jobs)
    bound_s = build_s / at_once + card_s / len(at.cards) + chain_s
    assert at.play().makespan_s <= bound_s + 1e-6


@settings(max_examples=200, deadline=None)
@given(instances(), st.data())
def test_what_can_not_be_built_lets_its_jobs_begin_and_ends_nothing_else(at, data):
    """They become rows that say why."""
    lost = data.draw(st.sets(st.sampled_from(sorted({job.export for job in at.jobs}))))
    builds = sorted({job.binary for job in at.jobs} | {job.export for job in at.jobs})
    killed = data.draw(st.sets(st.sampled_from(builds)))
    suspects = data.draw(st.sets(st.sampled_from(builds)))

    def ends(build: Build) -> dict[str, bool]:
        return {"there": build.id not in lost, "again_alone": build.id in killed}

    played = at.play(ends, suspects)
    assert Counter(span.what[1] for span in played.jobs) == Counter(at.jobs)
    tried = Counter(span.what.id for span in played.builds)
    possible = {job.binary for job in at.jobs if job.export not in lost} | {job.export for job in at.jobs}
    assert tried == {build: 1 + (build in killed - suspects) for build in possible}
    assert {span.what.id for span in played.builds if span.what.alone} == possible & (killed | suspects)
    for again in [span for span in played.builds if span.what.alone]:
        beside = [span for span in played.builds if span.began < again.ended and again.began < span.ended]
        assert beside == [again], "memory ran out beside others, or it may end the process"


def lots_of(count: int, jobs: int, seconds: float = 10.0) -> list[Lot[Job]]:
    return [
        Lot(lot, [Job(f"{lot}.{n}", "e", f"b{lot}", seconds) for n in range(jobs)]) for lot in range(count)
    ]


def test_cards_that_would_idle_help_and_rivals_stay_on_one_card_until_then():
    at = Instance(lots_of(3, 8), {f"b{n}": 1.0 for n in range(3)}, ["0", "1"], Builders(3, beside=False))
    played = at.play()
    # 24 jobs of 10 s on two cards, after 4 s.
    assert played.makespan_s == pytest.approx(124.0)
    cards = defaultdict(set)
    for span in played.jobs:
        cards[span.what[0]].add(span.card)
    assert sorted(len(some) for some in cards.values()) == [1, 1, 2]


def test_a_jobs_home_has_it_before_a_helper():
    """Both cards idle while a lot's binaries come one by one: its home goes on with it."""
    jobs = [Job(f"j{n}", "e", f"b{n}", 1.0) for n in range(6)]
    at = Instance([Lot(0, jobs)], {f"b{n}": 10.0 for n in range(6)}, ["0", "1"], Builders(1, beside=True))
    assert len({span.card for span in at.play().jobs}) == 1


def test_urgent_lots_come_first_then_those_that_are_built_quickest():
    lots = [Lot(0, [Job("a", "e", "slow", 50.0)]), Lot(1, [Job("b", "e", "quick", 50.0)])]
    seconds = {"slow": 30.0, "quick": 5.0, "last": 40.0}
    urgent = Lot(2, [Job("c", "e", "last", 50.0)], urgent=True)
    at = Instance([*lots, urgent], seconds, ["0"], Builders(1, beside=True))
    assert [span.what[0] for span in at.play().jobs] == [2, 1, 0]


def test_what_a_card_that_was_given_up_began_is_done_by_others():
    at = Instance(lots_of(1, 3), {"b0": 1.0}, ["0", "1"], Builders(1, beside=True))
    schedule = Schedule(at.lots, at.cards)
    schedule.next_job("0")
    schedule.give_up("0")
    assert schedule.next_job("1") is not None
    assert schedule.next_job("1") is not None
    assert schedule.over("1")


def test_after_a_stop_nothing_begins():
    at = Instance(lots_of(2, 3), {"b0": 1.0, "b1": 1.0}, ["0"], Builders(2, beside=True))
    schedule = at.schedule()
    build = schedule.next_build()
    assert build is not None
    schedule.stop()
    assert schedule.building == 1
    schedule.built(build)
    assert schedule.building == 0
    assert schedule.next_build() is None
    assert schedule.next_job("0") is None
    assert schedule.over("0")
    assert schedule.all_built


@pytest.mark.parametrize(
    ("cores", "cards", "may_share", "expected"),
    [
        (48, 1, True, Builders(15, True)),
        (48, 8, True, Builders(10, True)),
        (5, 1, True, Builders(1, True)),
        (4, 1, True, Builders(1, False)),
        (48, 8, False, Builders(16, False)),
        (1, 1, False, Builders(1, False)),
    ],
)
def test_compilers_beside_cards_get_the_cores_that_these_leave(cores, cards, may_share, expected):
    assert builders(cores, cards, may_share=may_share) == expected


class Foretold(Schedule):
    """Holds each job to what was said of it."""

    def next_job(self, card):
        said = self.following(card)
        found = super().next_job(card)
        assert said == (found[1] if found else None)
        return found


@settings(max_examples=300, deadline=None)
@given(st.one_of(instances(), instances(owned=True)))
def test_what_follows_is_what_a_card_would_get(at):
    schedule = Foretold(at.lots, at.cards, at.builders, lambda job: at.compile_s[job.binary])
    played = play(schedule, at.cards, at.build_s, lambda job: job.estimate_s)
    assert Counter(span.what[1] for span in played.jobs) == Counter(at.jobs)


def test_what_follows_is_known_across_lots_while_a_card_is_busy():
    schedule = Schedule(lots_of(3, 2), ["0"])
    taken, told = [], []
    while (found := schedule.next_job("0")) is not None:
        taken.append(found[1])
        told.append(schedule.following("0"))
    assert told == [*taken[1:], None]
