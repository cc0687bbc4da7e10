"""The fold: what rows make of a check, its marks and the gate. Green needs every target looked at, and fresh."""

from itertools import count

import pytest

from dstui.attest import DAY, refusal
from dstui.catalogue import Catalogue, load_catalogue
from dstui.events import (
    Draft,
    Event,
    EventKind,
    canonical,
    digest,
    encode_attestation,
    encode_finding,
    encode_ladder,
    encode_note,
    encode_waiver,
)
from dstui.load.ladder import Ladder
from dstui.load.result import LadderResult
from dstui.model import (
    Attestation,
    Finding,
    JournalError,
    Note,
    Reason,
    Target,
    TargetKind,
    Verdict,
    Waiver,
    host_target,
    same,
)
from dstui.standing import CheckStatus, Standing, Standings, checklist, gate, status
from dstui.state import NOTHING_OBSERVED, State

NOW = 1_800_000_000.0
CHECK = "hw.memory"
ASSISTED = "hard.security-group"
MANUAL = "team.trained"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


class Rows:
    """Feeds a State the way a journal would."""

    def __init__(self) -> None:
        self.state = State()
        self._seq = count(1)

    def add(self, kind: EventKind, payload: dict[str, object] | object, run: int = 0, at: float = NOW) -> Event:
        draft = Draft(kind, payload, "li.na", at, run)  # type: ignore[arg-type]
        seq, prev = next(self._seq), self.state.head_hash
        own = digest(prev, seq, at, kind, run, "li.na", canonical(draft.payload))
        event = Event(seq, at, kind, run, "li.na", draft.payload, prev, own)
        self.state.apply(event)
        return event

    def start(self, *hosts: str, run: int = 1, fresh: bool = False, checks: tuple[str, ...] = (CHECK,)) -> None:
        row = {"checks": list(checks), "hosts": list(hosts), "simulated": False, "fresh": fresh, "versions": {}}
        self.add(EventKind.RUN_STARTED, row, run)

    def find(self, verdict: Verdict, host: str, *, run: int = 1, at: float = NOW, material: str = "m",
             check: str = CHECK, target: Target | None = None) -> None:  # fmt: skip
        finding = Finding(
            check, target or host_target(host), verdict, same("seen"), same("wanted"), same("rule"),
            Reason.TIMEOUT if verdict is Verdict.UNKNOWN else None, "", (), material, (), (), at, 3600.0, 0.1, run,
        )  # fmt: skip
        self.add(EventKind.FINDING, encode_finding(finding), run, at)

    def settle(self, *hosts: str, run: int = 1, check: str = CHECK, targets: list[str] | None = None) -> None:
        keys = targets if targets is not None else [host_target(h).key for h in hosts]
        self.add(EventKind.CHECK_SETTLED, {"check": check, "targets": keys}, run)

    def sign(self, check: str = CHECK, person: str = "li.na", *, days: float = 180.0) -> None:
        seen = self.state.material_hash(check)
        given = Attestation(check, person, "SRE", "", "", seen, Verdict.PASS, NOW, NOW + days * DAY)
        self.add(EventKind.ATTESTATION, encode_attestation(given))

    def waive(self, check: str = CHECK, *, days: float = 30.0) -> None:
        waiver = Waiver(check, "li.na", "zhang.wei", "vendor ships in May", "OPS-7", NOW, NOW + days * DAY)
        self.add(EventKind.WAIVER, encode_waiver(waiver))


@pytest.fixture
def rows() -> Rows:
    return Rows()


def look(rows: Rows, catalogue: Catalogue, check: str = CHECK, now: float = NOW, **kw: bool) -> CheckStatus:
    return status(rows.state, catalogue.check(check), now, built=kw.pop("built", True), **kw)


def test_all_hosts_pass(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a", "b")
    rows.find(Verdict.PASS, "a")
    rows.find(Verdict.PASS, "b")
    rows.settle("a", "b")
    seen = look(rows, catalogue)
    assert (seen.verdict, seen.standing, seen.not_green) == (Verdict.PASS, Standing.PASSED, False)


def test_green_on_the_first_of_two_hosts_is_not_green(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a", "b")
    rows.find(Verdict.PASS, "a")
    assert look(rows, catalogue).verdict is Verdict.NOT_RUN
    assert look(rows, catalogue).standing is Standing.NOT_RUN


def test_a_failure_shows_before_the_others_have_answered(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a", "b")
    rows.find(Verdict.FAIL, "a")
    assert look(rows, catalogue).standing is Standing.FAILED


def test_a_target_without_a_finding_keeps_a_settled_check_open(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a", "b")
    rows.find(Verdict.PASS, "a")
    rows.settle("a", "b")
    assert look(rows, catalogue).verdict is Verdict.NOT_RUN
    assert rows.state.history[CHECK][-1].verdict is Verdict.NOT_RUN


def test_a_host_that_joined_since_is_a_hole(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a")
    rows.find(Verdict.PASS, "a")
    rows.settle("a")
    rows.start("a", "b", run=2, checks=("sw.docker",))
    assert look(rows, catalogue).standing is Standing.NOT_RUN


def test_a_host_that_left_takes_its_failure_along(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a", "b")
    rows.find(Verdict.PASS, "a")
    rows.find(Verdict.FAIL, "b")
    rows.settle("a", "b")
    rows.start("a", run=2)
    rows.find(Verdict.PASS, "a", run=2)
    rows.settle("a", run=2)
    assert look(rows, catalogue).standing is Standing.PASSED


@pytest.mark.parametrize(
    ("others", "worst"),
    [
        ([Verdict.PASS, Verdict.WARN], Verdict.WARN),
        ([Verdict.WARN, Verdict.UNKNOWN], Verdict.UNKNOWN),
        ([Verdict.UNKNOWN, Verdict.FAIL], Verdict.FAIL),
        ([Verdict.PASS, Verdict.NOT_APPLICABLE], Verdict.PASS),
        ([Verdict.NOT_APPLICABLE, Verdict.NOT_APPLICABLE], Verdict.NOT_APPLICABLE),
    ],
)
def test_the_worst_target_decides(rows: Rows, catalogue: Catalogue, others: list[Verdict], worst: Verdict) -> None:
    rows.start("h0", "h1")
    for number, verdict in enumerate(others):
        rows.find(verdict, f"h{number}")
    rows.settle("h0", "h1")
    assert look(rows, catalogue).verdict is worst


def test_settling_on_no_target_is_unknown_not_green(rows: Rows, catalogue: Catalogue) -> None:
    rows.start()
    rows.settle(targets=[])
    assert look(rows, catalogue).standing is Standing.UNKNOWN


@pytest.mark.parametrize(("age", "stale"), [(3600.0, False), (3600.5, True), (-301.0, True), (-10.0, False)])
def test_a_finding_ages_and_one_from_the_future_proves_nothing(
    rows: Rows, catalogue: Catalogue, age: float, stale: bool
) -> None:
    rows.start("a")
    rows.find(Verdict.PASS, "a", at=NOW - age)
    rows.settle("a")
    seen = look(rows, catalogue)
    assert seen.stale is stale
    assert seen.standing is (Standing.STALE if stale else Standing.PASSED)


def test_a_stale_failure_stays_a_failure(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a")
    rows.find(Verdict.FAIL, "a", at=NOW - 99_999)
    rows.settle("a")
    assert look(rows, catalogue).standing is Standing.FAILED


def test_an_assisted_check_waits_for_a_person(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a", checks=(ASSISTED,))
    organisation = Target(TargetKind.ORGANISATION, "ds-prod")
    rows.find(Verdict.PASS, "", check=ASSISTED, target=organisation)
    rows.settle(check=ASSISTED, targets=[organisation.key])
    assert look(rows, catalogue, ASSISTED).standing is Standing.UNSIGNED
    rows.sign(ASSISTED)
    assert look(rows, catalogue, ASSISTED).standing is Standing.SIGNED


def test_a_signature_lapses_when_the_evidence_changes(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a")
    rows.find(Verdict.WARN, "a", material="one")
    rows.settle("a")
    rows.sign()
    assert look(rows, catalogue).standing is Standing.SIGNED
    rows.find(Verdict.WARN, "a", material="two")
    seen = look(rows, catalogue)
    assert (seen.standing, seen.lapsed_why) == (Standing.WARNED, "evidence-changed")


def test_a_signature_survives_a_rerun_that_sees_the_same(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a")
    rows.find(Verdict.WARN, "a", material="one")
    rows.settle("a")
    rows.sign()
    rows.start("a", run=2)
    rows.find(Verdict.WARN, "a", run=2, at=NOW + 60, material="one")
    rows.settle("a", run=2)
    assert look(rows, catalogue, now=NOW + 61).standing is Standing.SIGNED


def test_a_signature_expires(rows: Rows, catalogue: Catalogue) -> None:
    rows.sign(MANUAL, days=1)
    assert look(rows, catalogue, MANUAL, built=False).standing is Standing.SIGNED
    later = look(rows, catalogue, MANUAL, now=NOW + DAY, built=False)
    assert (later.standing, later.lapsed_why) == (Standing.NOT_RUN, "expired")


def test_a_signature_on_nothing_does_not_cover_a_later_failure(rows: Rows, catalogue: Catalogue) -> None:
    rows.sign()
    assert rows.state.attestations[CHECK][0].material_hash == NOTHING_OBSERVED
    rows.start("a")
    rows.find(Verdict.FAIL, "a")
    rows.settle("a")
    assert look(rows, catalogue).standing is Standing.FAILED


def test_two_people_means_two_different_people(rows: Rows, catalogue: Catalogue) -> None:
    rows.sign(MANUAL, "li.na")
    rows.sign(MANUAL, "li.na")
    seen = look(rows, catalogue, MANUAL, built=False, two_people=True)
    assert (seen.standing, seen.wants_second, seen.attestation) == (Standing.NOT_RUN, True, None)
    rows.sign(MANUAL, "zhang.wei")
    seen = look(rows, catalogue, MANUAL, built=False, two_people=True)
    assert (seen.standing, seen.wants_second, len(seen.signatures)) == (Standing.SIGNED, False, 2)


def test_a_waiver_is_a_mark_and_never_a_pass(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a")
    rows.find(Verdict.FAIL, "a")
    rows.settle("a")
    rows.waive(days=1)
    seen = look(rows, catalogue)
    assert (seen.verdict, seen.standing, seen.not_green) == (Verdict.FAIL, Standing.WAIVED, True)
    assert look(rows, catalogue, now=NOW + DAY).standing is Standing.FAILED


def test_a_withdrawn_waiver_is_gone(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a")
    rows.find(Verdict.FAIL, "a")
    rows.settle("a")
    rows.waive()
    rows.add(EventKind.WAIVER_WITHDRAWN, {"check": CHECK, "reason": "fixed"})
    assert look(rows, catalogue).standing is Standing.FAILED


def test_notes_are_kept_with_their_target(rows: Rows, catalogue: Catalogue) -> None:
    rows.add(EventKind.NOTE, encode_note(Note(CHECK, host_target("a"), "li.na", "DIMM ordered", NOW)))
    assert [(n.text, n.target, n.seq) for n in look(rows, catalogue).notes] == [("DIMM ordered", host_target("a"), 1)]


def test_starting_over_forgets_findings_but_not_people(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a")
    rows.find(Verdict.PASS, "a")
    rows.settle("a")
    rows.sign(MANUAL)
    rows.start("a", run=2, fresh=True)
    assert look(rows, catalogue).standing is Standing.NOT_RUN
    assert look(rows, catalogue, MANUAL, built=False).standing is Standing.SIGNED


def test_an_interrupted_run_is_seen_as_such(rows: Rows) -> None:
    rows.start("a")
    assert rows.state.last_run is not None
    assert rows.state.last_run.finished_at is None
    rows.add(EventKind.RUN_FINISHED, {}, 1)
    assert rows.state.last_run.finished_at == NOW


def test_a_newer_kind_of_row_is_kept_and_skipped(rows: Rows) -> None:
    rows.add("something-new", {"x": 1})  # type: ignore[arg-type]
    assert rows.state.head_seq == 1
    assert rows.state.broken_at is None


def test_ladders_are_kept_the_newest_last(rows: Rows) -> None:
    for at in (1.0, 2.0):
        rows.add(EventKind.LADDER, encode_ladder(LadderResult(Ladder("http://api", "m", ()), (), at), str))
    assert [ladder.at for ladder in rows.state.ladders] == [1.0, 2.0]
    assert not rows.state.simulated
    simulated = LadderResult(Ladder("http://api", "m", ()), (), 3.0, simulated=True)
    rows.add(EventKind.LADDER, encode_ladder(simulated, str))
    assert rows.state.simulated


@pytest.mark.parametrize(
    "payload", [{}, {"format": "dstui-ladder", "version": 9}, {"format": "dstui-ladder", "version": 1}]
)
def test_a_ladder_that_cannot_be_read_does_not_stop_the_fold(rows: Rows, payload: dict[str, object]) -> None:
    good = encode_ladder(LadderResult(Ladder("http://api", "m", ()), (), 1.0), str)
    rows.add(EventKind.LADDER, good)
    rows.add(EventKind.LADDER, payload)
    assert (rows.state.head_seq, rows.state.broken_at, len(rows.state.ladders)) == (2, None, 1)
    assert "journal row 2" in rows.state.ladder_fault
    rows.add(EventKind.LADDER, good)
    assert rows.state.ladder_fault == ""


def test_a_gap_in_the_numbers_is_noticed(rows: Rows) -> None:
    event = rows.add(EventKind.NOTE, encode_note(Note(CHECK, None, "li.na", "x", NOW)))
    rows.state.apply(Event(event.seq + 2, NOW, "note", 0, "x", event.payload, event.hash, "h"))
    assert rows.state.broken_at == event.seq + 2


@pytest.mark.parametrize(
    "spoil",
    [
        {"verdict": "green"},
        {"target": "nowhere"},
        {"observed": "text"},
        {"evidence": [1]},
        {"observed_at": "yesterday"},
        {"reason": "because"},
    ],
)
def test_a_row_that_does_not_decode_is_an_error_with_its_number(rows: Rows, spoil: dict[str, object]) -> None:
    finding = Finding(
        CHECK, host_target("a"), Verdict.PASS, same(""), same(""), same(""), None, "", (), "", (), (), NOW, 1.0, 0.0, 1
    )
    with pytest.raises(JournalError, match="row 1"):
        rows.add(EventKind.FINDING, {**encode_finding(finding), **spoil}, 1)


def test_the_gate_of_an_empty_scope_is_shut() -> None:
    assert not gate([]).open
    assert gate([]).exit_code == 2


def test_gate_codes(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a", checks=(CHECK, "hw.cpu-cores"))
    rows.find(Verdict.PASS, "a")
    rows.settle("a")
    rows.find(Verdict.UNKNOWN, "a", check="hw.cpu-cores")
    rows.settle("a", check="hw.cpu-cores")
    passed, unknown = look(rows, catalogue), look(rows, catalogue, "hw.cpu-cores")
    assert gate([passed]).exit_code == 0
    assert gate([passed, unknown]).exit_code == 2
    assert gate([passed, unknown], allow_unknown=frozenset({"hw.cpu-cores"})).exit_code == 0
    rows.find(Verdict.FAIL, "a", run=1)
    assert gate([look(rows, catalogue), unknown]).exit_code == 1


def test_a_new_journal_has_nothing_green(catalogue: Catalogue) -> None:
    fresh = checklist(State(), catalogue, NOW, built=frozenset({CHECK}))
    assert len(fresh.statuses) == 99
    assert {s.standing for s in fresh.statuses.values()} == {Standing.NOT_RUN}
    assert fresh.statuses["ray.resources"].reason is Reason.NOT_BUILT
    assert not fresh.gate.open


@pytest.mark.parametrize(
    ("verdict", "may"),
    [(Verdict.PASS, True), (Verdict.WARN, True), (Verdict.FAIL, False), (Verdict.UNKNOWN, False)],
)
def test_only_what_was_seen_to_hold_can_be_signed(
    rows: Rows, catalogue: Catalogue, verdict: Verdict, may: bool
) -> None:
    rows.start("a")
    rows.find(verdict, "a")
    rows.settle("a")
    assert (refusal(look(rows, catalogue), built=True) is None) is may


def test_what_was_not_run_can_be_signed_only_where_there_is_no_probe(rows: Rows, catalogue: Catalogue) -> None:
    assert refusal(look(rows, catalogue), built=True) is not None
    assert refusal(look(rows, catalogue, "ray.resources", built=False), built=False) is None
    assert refusal(look(rows, catalogue, MANUAL, built=False), built=False) is None


def _moments(rows: Rows, catalogue: Catalogue, moments: list[float]) -> None:
    """What is kept between looks is what a fresh look gives."""
    built = frozenset({CHECK, "sw.docker"})
    kept = Standings(catalogue, built, frozenset(), frozenset({"a"}))
    for now in moments:
        fresh = checklist(rows.state, catalogue, now, built=built, hosts=frozenset({"a"}))
        assert kept.at(rows.state, now).statuses == fresh.statuses, now


def test_kept_statuses_change_when_time_changes_them(rows: Rows, catalogue: Catalogue) -> None:
    rows.start("a")
    rows.find(Verdict.WARN, "a", at=NOW)
    rows.settle("a")
    rows.sign(days=0.02)
    rows.waive(days=0.03)
    end = NOW + 3600.0
    moments = [NOW, NOW + 1, NOW + 0.02 * DAY, NOW + 0.03 * DAY, end - 1, end, end + 0.5, end + 9, NOW - 400, NOW + 5]
    _moments(rows, catalogue, moments)


def test_kept_statuses_change_when_rows_change_them(rows: Rows, catalogue: Catalogue) -> None:
    kept = Standings(catalogue, frozenset({CHECK}), frozenset(), frozenset({"a"}))
    seen = []
    for act in (
        lambda: rows.start("a"),
        lambda: rows.find(Verdict.PASS, "a"),
        lambda: rows.settle("a"),
        lambda: rows.find(Verdict.FAIL, "a"),
        rows.waive,
        lambda: rows.start("a", run=2, fresh=True),
    ):
        act()
        seen.append(kept.at(rows.state, NOW).statuses[CHECK].standing)
    assert seen == [
        Standing.NOT_RUN,
        Standing.NOT_RUN,
        Standing.PASSED,
        Standing.FAILED,
        Standing.WAIVED,
        Standing.WAIVED,
    ]
