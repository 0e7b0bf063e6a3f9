"""Every cell of the matrix of roles, endpoints and queues, asked of the running application."""

from __future__ import annotations

import pytest
from tests.review.callers import client_of

from earmark_review.access import RULES, Audience, matrix
from earmark_review.accounts import PEOPLE, PERMISSIONS, Permission, Role, SignedIn
from earmark_review.cases import Queue
from earmark_review.errors import NotAllowedError, SettingsError

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
