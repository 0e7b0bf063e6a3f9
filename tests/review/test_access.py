"""Every cell of the matrix of roles, endpoints and queues, asked of the running application."""

from __future__ import annotations

import pytest
from tests.review.callers import client_of
from typer.testing import CliRunner

from earmark_review.access import RULES, Audience, matrix
from earmark_review.accounts import PEOPLE, PERMISSIONS, Permission, Role, SignedIn
from earmark_review.cases import WAITING, Queue
from earmark_review.cli import app
from earmark_review.errors import NotAllowedError, SettingsError
from earmark_review.store.revocation import change_role, give_queues
from earmark_review.store.users import list_users

FILLED = {"{event_id:path}": "event-1", "{tier}": "0", "{request_id}": "1", "{device_id}": "1"}


@pytest.fixture
def everybody(house, sender, ada, one_case):
    """A client for each role, and a stranger's, in front of the same case."""
    clients = {role: house.user(f"the {role}", role).client for role in PEOPLE}
    clients[None] = client_of(house.app)
    clients[Role.DEVICE] = house.device("porch").client
    for client in clients.values():
        client.headers["accept"] = "application/json"
    return clients


def asked(client, endpoint, case_id, csrf=None):
    method, path = endpoint.split(" ")
    for name, value in {**FILLED, "{case_id}": case_id}.items():
        path = path.replace(name, value)
    return client.request(method, path, data={"csrf": "x"} if method == "POST" else None)


@pytest.mark.parametrize("queue", Queue)
def test_every_cell_of_the_matrix_is_what_the_server_does(house, everybody, one_case, queue):
    with house.service.database.writing() as conn:
        conn.exec_driver_sql(f"UPDATE cases SET queue = '{queue}'")
    cells = [cell for cell in matrix() if cell.queue is queue]
    assert len(cells) == (1 + len(Role)) * len(RULES)
    wrong = []
    for cell in cells:
        answer = asked(everybody[cell.role], cell.endpoint, one_case)
        refused = answer.status_code == 401 or (answer.status_code == 403 and "not-allowed" in answer.text)
        # The sign-in form, too, answers 403 to a form that it did not give.
        if refused is cell.is_allowed and RULES[cell.endpoint].audience is not Audience.ANYONE:
            wrong.append((cell.role, cell.endpoint, answer.status_code))
        if not cell.is_allowed and cell.role in PEOPLE and RULES[cell.endpoint].audience is Audience.PEOPLE:
            assert answer.status_code == 403, cell
    assert wrong == []


@pytest.mark.parametrize("given", [{Queue.FIRST}, {Queue.SECOND}, {Queue.ADJUDICATION}, {Queue.FIRST, Queue.SECOND}], ids=sorted)
def test_an_account_kept_to_some_queues_works_on_these_alone_and_may_else_what_its_role_may(house, everybody, one_case, given):
    with house.service.database.writing() as conn:
        give_queues(conn, "the senior", given, house.clock())
    client = house.browser("the senior").client
    client.headers["accept"] = "application/json"
    wrong, asked_for = [], 0
    for queue in Queue:
        with house.service.database.writing() as conn:
            conn.exec_driver_sql(f"UPDATE cases SET queue = '{queue}', state = '{WAITING[queue]}'")
        listed = client.get("/queue", headers={"accept": "text/html"}).text
        assert (one_case in listed) is (queue in given)
        for cell in (cell for cell in matrix() if cell.queue is queue and cell.role is Role.SENIOR):
            rule = RULES[cell.endpoint]
            if rule.audience is not Audience.PEOPLE or cell.endpoint == "POST /logout":
                continue
            answer = asked(client, cell.endpoint, one_case)
            refused = answer.status_code == 403 and "not-allowed" in answer.text
            asked_for += 1
            if refused is (cell.is_allowed and (queue in given or not rule.by_queue)):
                wrong.append((queue, cell.endpoint, answer.status_code))
    assert wrong == []
    assert asked_for == 3 * (sum(rule.audience is Audience.PEOPLE for rule in RULES.values()) - 1)


def test_the_next_case_is_one_of_the_accounts_own_queues(house, sender, ada, one_case):
    words = ["user", "queues", "ADA", "second", "--data", str(house.data)]
    assert "works on second alone; ended 1 sessions" in CliRunner().invoke(app, words, env=house.environ).stdout
    ada = house.browser("ada")
    ada.client.post("/queue/next", data={"csrf": ada.csrf()})
    ada.claim(one_case)
    assert "case.claimed" not in house.actions()
    assert "reviewer: Second look<" in ada.client.get("/account").text
    with house.service.database.writing() as conn:
        conn.exec_driver_sql("UPDATE cases SET queue = 'second', state = 'second_review'")
    assert ada.client.post("/queue/next", data={"csrf": ada.csrf()}).headers["location"] == f"/cases/{one_case}"
    assert [entry.detail for entry in house.log() if entry.action == "user.queues_changed"] == [{"queues": ["second"]}]


def test_an_account_works_on_queues_of_its_role_and_on_one_at_least(house, ada):
    for queues in ([], [Queue.ADJUDICATION], [Queue.FIRST, Queue.ADJUDICATION]):
        with pytest.raises(SettingsError, match="the role reviewer works on first, second"), house.service.database.writing() as conn:
            give_queues(conn, "ada", queues, house.clock())
    with house.service.database.writing() as conn:
        give_queues(conn, "ada", [Queue.FIRST], house.clock())
        assert list_users(conn)[0].queues == [Queue.FIRST]
        change_role(conn, "ada", Role.SENIOR, house.clock())
        assert list_users(conn)[0].queues == list(Queue)


def test_nobody_but_seniors_and_supervisors_settles_disputes_or_breaks_the_glass():
    for permission in (Permission.ADJUDICATE, Permission.APPROVE_ORIGINAL):
        assert {role for role, held in PERMISSIONS.items() if permission in held} == {Role.SENIOR, Role.SUPERVISOR}


def test_every_role_has_its_permissions_and_every_permission_a_role():
    assert set(PERMISSIONS) == set(Role)
    assert set().union(*PERMISSIONS.values()) == set(Permission)


def test_a_refusal_names_who_could():
    auditor = SignedIn(1, 1, "nosy", Role.AUDITOR)
    with pytest.raises(NotAllowedError, match="sign in as reviewer or senior or supervisor"):
        auditor.require(Permission.REVIEW)


def test_no_account_has_the_devices_role(house):
    with pytest.raises(SettingsError, match="device enrol"):
        house.service.add_user("toaster", "long enough for a test", Role.DEVICE)
