"""Mails the log's signed head to where nobody here can change it."""

from __future__ import annotations

import smtplib
import ssl
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from earmark_review.anchors import Head
from earmark_review.errors import AnchorError
from earmark_review.settings import MailSecurity, ReviewSettings

_TIMEOUT_S = 30
_WORDS = """The head of the audit log of the Earmark review service with the fingerprint

    {fingerprint}

as it stood at {at}, entry {seq}. Keep this message; it names nobody. To hold a log against it, save it as a file:

    earmark review audit verify --anchor MESSAGE.eml

{line}
"""


def mail_head(settings: ReviewSettings, head: Head, line: str, fingerprint: str) -> None:
    """Send one message with `line`, the signed head.

    Raises:
        AnchorError: the mail server cannot be reached, is not as safe as it must be, or does not take the message.
    """
    assert settings.audit_mail_to is not None, "asked to mail to nobody"
    message = EmailMessage(policy=policy.SMTP)
    sender = settings.audit_mail_from or settings.audit_mail_to
    message["From"], message["To"] = sender, settings.audit_mail_to
    message["Subject"] = f"Earmark audit head, entry {head.seq}"
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=sender.rpartition("@")[2])
    message.set_content(_WORDS.format(fingerprint=fingerprint, at=head.at, seq=head.seq, line=line), cte="quoted-printable")
    where = f"{settings.audit_smtp_host}:{settings.audit_smtp_port}"
    try:
        with _connected(settings) as server:
            if settings.audit_smtp_user is not None and settings.audit_smtp_password is not None:
                server.login(settings.audit_smtp_user, settings.audit_smtp_password.get_secret_value())
            server.send_message(message)
    except (smtplib.SMTPException, OSError) as error:
        msg = f"{where}: the head of the log could not be mailed ({type(error).__name__}); check EARMARK_REVIEW_AUDIT_SMTP_HOST and its kin"
        raise AnchorError(msg) from error


def _connected(settings: ReviewSettings) -> smtplib.SMTP:
    address, context = (settings.audit_smtp_host, settings.audit_smtp_port), ssl.create_default_context()
    if settings.audit_smtp_security is MailSecurity.TLS:
        return smtplib.SMTP_SSL(*address, timeout=_TIMEOUT_S, context=context)
    server = smtplib.SMTP(*address, timeout=_TIMEOUT_S)
    if settings.audit_smtp_security is MailSecurity.STARTTLS:
        try:
            server.starttls(context=context)
        except (smtplib.SMTPException, OSError):
            server.close()
            raise
    return server
