"""The log's head by e-mail, to a real mail server on the loopback address, and the log held against the message that came."""

from __future__ import annotations

import re
import socket
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from tests.review.test_anchors import spoil, verify
from typer.testing import CliRunner

from earmark_review.cli import app
from earmark_review.errors import AnchorError, SettingsError
from earmark_review.settings import read_settings

TO = "auditor@elsewhere.example"


class Mailbox:
    """Keeps what comes; with `refuses`, refuses it."""

    def __init__(self):
        self.messages, self.recipients, self.refuses = [], [], False

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
        if self.refuses:
            return "554 no"
        self.messages.append(envelope.content)
        self.recipients.append((envelope.mail_from, envelope.rcpt_tos))
        return "250 OK"


@pytest.fixture
def mailbox():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    box.port = port
    yield box
    controller.stop()


def knobs(port, **changes):
    smtp = {"audit_smtp_host": "127.0.0.1", "audit_smtp_port": port, "audit_smtp_security": "none"}
    return {"audit_mail_to": TO, "audit_mail_from": "earmark@here.example", **smtp, **changes}


@pytest.fixture
def mailing(open_house, mailbox):
    house = open_house(**knobs(mailbox.port))
    house.user("quinn")  # not ada, whom a hash in hexadecimal may spell
    return house


def saved(mailbox, tmp_path):
    path = tmp_path / f"{len(mailbox.messages)}.eml"
    path.write_bytes(mailbox.messages[-1])
    return path


def test_the_head_is_mailed_and_the_message_holds_the_log_to_it(mailing, mailbox, tmp_path):
    mailing.service.keep_house()
    assert mailbox.recipients == [("earmark@here.example", [TO])]
    message = saved(mailbox, tmp_path)
    assert "with 1 signed heads" in verify(mailing, message).output
    assert b"quinn" not in mailbox.messages[0]
    spoil(mailing, "DELETE FROM audit_log WHERE seq >= 1")
    assert "cut off" in verify(mailing, message).output


def test_it_is_mailed_again_only_with_something_new_and_not_too_often(mailing, mailbox, clock):
    mailing.service.keep_house()
    mailing.user("bea")
    mailing.service.keep_house()
    assert len(mailbox.messages) == 1
    clock.advance(3600)
    mailing.service.keep_house()
    assert len(mailbox.messages) == 2
    clock.advance(7200)
    mailing.service.keep_house()
    assert len(mailbox.messages) == 2
    mailing.user("cyd")
    assert mailing.service.mail_head()
    assert len(mailbox.messages) == 3


@pytest.mark.parametrize("trouble", ["refused", "away", "no starttls"])
def test_a_head_that_could_not_be_mailed_is_told_and_tried_again(open_house, mailbox, trouble):
    house = open_house(**knobs(mailbox.port, **({"audit_smtp_security": "starttls"} if trouble == "no starttls" else {})))
    house.user("ada")
    mailbox.refuses = trouble == "refused"
    if trouble == "away":
        house.service.settings.__dict__["audit_smtp_port"] = 1
    with pytest.raises(AnchorError, match="could not be mailed"):
        house.service.keep_house()
    assert mailbox.messages == []
    mailbox.refuses = False
    if trouble == "refused":
        house.service.keep_house()
        assert len(mailbox.messages) == 1


def test_a_changed_message_is_believed_no_more_than_a_changed_file(mailing, mailbox, tmp_path):
    assert mailing.service.mail_head()
    path = saved(mailbox, tmp_path)
    words = message_from_bytes(path.read_bytes(), policy=policy.default).get_content()
    changed = re.sub(r'"seq": \d+', '"seq": 99', words)
    assert changed != words
    path.write_text(f"Subject: head\n\n{changed}")
    assert "no head that this service signed" in verify(mailing, path).output
    path.write_bytes(b"Subject: nothing\r\n\r\nno head in here\r\n")
    assert "holds no head" in verify(mailing, path).output


def test_the_command_mails_at_once(mailing, mailbox, monkeypatch):
    words = ["audit", "mail", "--data", str(mailing.data)]
    unset = CliRunner().invoke(app, words)
    assert (unset.exit_code, "AUDIT_MAIL_TO" in unset.output) == (2, True)
    for name, value in knobs(mailbox.port).items():
        monkeypatch.setenv(f"EARMARK_REVIEW_{name.upper()}", str(value))
    assert TO in CliRunner().invoke(app, words).output
    assert "nothing new" in CliRunner().invoke(app, words).output
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize(
    "given",
    [{"audit_smtp_host": "mail.example", "audit_smtp_security": "none"}, {"audit_mail_to": "a@b\r\nBcc: c@d"}, {"audit_mail_to": "nobody"}],
)
def test_mail_in_the_clear_to_elsewhere_and_addresses_that_are_none_are_refused(given):
    with pytest.raises(SettingsError):
        read_settings(**given)
