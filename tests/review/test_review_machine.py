"""Whatever people do to some cases, in whatever order, no case vanishes and none has two holders."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select
from tests.review.house import Clock, consented
from tests.review.sendings import sending

from earmark_edge.event import Event
from earmark_review import audit
from earmark_review.accounts import Role, SignedIn
from earmark_review.cases import CLAIMABLE, CLOSED_STATES, OPEN_STATES, CaseState, LeaseTerms, Verdict
from earmark_review.errors import ReviewError, StaleLeaseError
from earmark_review.store import leases, retention
from earmark_review.store.database import Database
from earmark_review.store.decisions import Answer, decide
from earmark_review.store.devices import add_device, device_of
from earmark_review.store.intake import take_event
from earmark_review.store.schema import cases, sessions, users, verdicts

ROLES = (Role.REVIEWER, Role.REVIEWER, Role.REVIEWER, Role.SENIOR, Role.SENIOR)
PEOPLE = tuple(SignedIn(number, number, f"user {number}", role) for number, role in enumerate(ROLES, 1))
TERMS = LeaseTerms(300, 3600)
LATE = timedelta(hours=72)


class Review(RuleBasedStateMachine):
    """Five people, up to six cases, and a clock."""

    make_database: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.database = Database(self.make_database())
        self.database.migrate()
        self.clock, self.known, self.claims, self.late = Clock(), [], [], []
        with self.database.writing() as conn:
            self.device = device_of(conn, add_device(conn, "kitchen", bytes(32), self.clock()))
            for who in PEOPLE:
                account = {"user_id": who.user_id, "name": who.name, "name_key": who.name, "role": str(who.role)}
                conn.execute(users.insert().values(**account, password_hash="-", created_at=self.clock()))
                row = {"user_id": who.user_id, "token_sha256": str(who.user_id), "created_at": self.clock(), "last_seen_at": self.clock()}
                conn.execute(sessions.insert().values(**row))
        consented(self.database)

    def teardown(self) -> None:
        self.database.close()

    @precondition(lambda self: len(self.known) < 6)
    @rule(label=st.sampled_from(["scream", "cry", "shout"]))
    def an_event_comes(self, label: str) -> None:
        self.clock.advance(1)  # ids are random, so that times alone order the cases, in every run alike
        event: Event = sending(f"event-{len(self.known)}", label, clips=()).event
        with self.database.writing() as conn:
            take_event(conn, self.device, event, event.to_bytes(), bytes(64), self.clock())
            self.known = conn.scalars(select(cases.c.case_id).order_by(cases.c.opened_at)).all()

    @rule(who=st.sampled_from(PEOPLE))
    def someone_claims_the_next(self, who: SignedIn) -> None:
        with self.database.writing() as conn:
            held = leases.held_case(conn, who.user_id, self.clock())
            case_id = leases.next_case(conn, who, self.clock())
            if held is None and case_id is not None:
                self.claims.append((who, leases.claim(conn, case_id, who, TERMS, 1, self.clock())))

    @precondition(lambda self: self.known)
    @rule(who=st.sampled_from(PEOPLE), data=st.data())
    def someone_claims_a_certain_one(self, who: SignedIn, data: st.DataObject) -> None:
        case_id = data.draw(st.sampled_from(self.known))
        try:
            with self.database.writing() as conn:
                self.claims.append((who, leases.claim(conn, case_id, who, TERMS, 1, self.clock())))
        except ReviewError:
            return

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), verdict=st.sampled_from(Verdict), drawn=st.booleans())
    def a_holder_decides(self, data: st.DataObject, verdict: Verdict, *, drawn: bool) -> None:
        who, claim = data.draw(st.sampled_from(self.claims))
        try:
            with self.database.writing() as conn:
                lease = leases.live_lease(conn, claim.case_id, claim.token, who, self.clock())
                decide(conn, lease, who, Answer(verdict), self.clock(), second_is_drawn=drawn)
        except StaleLeaseError:
            return
        with self.database.writing() as conn:  # a token is good for one answer
            try:
                leases.live_lease(conn, claim.case_id, claim.token, who, self.clock())
            except StaleLeaseError:
                return
        raise AssertionError

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def a_holder_skips(self, data: st.DataObject) -> None:
        who, claim = data.draw(st.sampled_from(self.claims))
        try:
            with self.database.writing() as conn:
                leases.skip(conn, leases.live_lease(conn, claim.case_id, claim.token, who, self.clock()), who, self.clock())
        except StaleLeaseError:
            return

    @rule(who=st.sampled_from(PEOPLE))
    def someone_signs_out(self, who: SignedIn) -> None:
        with self.database.writing() as conn:
            leases.release(conn, who, self.clock())

    @rule(seconds=st.sampled_from([1, 299, 301, 40_000, 200_000]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def retention_runs(self) -> None:
        with self.database.writing() as conn:
            retention.expire_undecided(conn, self.clock() - LATE, self.clock())
            for case_id in retention.due_for_shredding(conn, self.clock()):
                retention.mark_shredded(conn, case_id, self.clock())

    @rule()
    def the_household_withdraws_and_consents_anew(self) -> None:
        consented(self.database, withdrawn_at=self.clock().isoformat())
        with self.database.writing() as conn:
            retention.end_withdrawn(conn, self.clock())
            assert not conn.execute(select(cases.c.case_id).where(cases.c.closed_at.is_(None))).all()
        consented(self.database)

    @invariant()
    def no_case_vanishes_and_none_has_two_holders(self) -> None:
        with self.database.reading() as conn:
            rows = conn.execute(select(cases.c.case_id, cases.c.state, cases.c.closed_at)).all()
            held = conn.exec_driver_sql("SELECT case_id FROM leases WHERE ended_at IS NULL").scalars().all()
            given = conn.execute(select(verdicts.c.case_id, verdicts.c.user_id)).all()
        assert {row.case_id for row in rows} == set(self.known)
        assert sorted(held) == sorted(row.case_id for row in rows if row.state == "leased")
        assert len(set(given)) == len(given)
        for row in rows:
            state = CaseState(row.state)
            assert state in (*OPEN_STATES, *CLOSED_STATES)
            assert (row.closed_at is not None) is (state in CLOSED_STATES)

    @invariant()
    def whatever_waits_can_be_reached_by_someone_or_runs_out(self) -> None:
        with self.database.reading() as conn:
            waiting = conn.execute(select(cases.c.case_id).where(cases.c.state.in_([str(state) for state in CLAIMABLE]))).all()
            judges = {row.case_id: 0 for row in waiting}
            for row in conn.execute(select(verdicts.c.case_id)):
                if row.case_id in judges:
                    judges[row.case_id] += 1
        assert all(count < len(PEOPLE) for count in judges.values())

    @invariant()
    def the_log_holds(self) -> None:
        with self.database.reading() as conn:
            assert audit.first_break(audit.read(conn)) is None


def test_no_case_vanishes_and_none_has_two_holders_whatever_people_do(database_url):
    Review.make_database = staticmethod(database_url)
    few = settings(max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Review, settings=few)
