"""Sending a message by mail (SMTP)."""

from __future__ import annotations

import os
import smtplib
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage

from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem, SettingsError
from dlc_assets.lab.settings import Mail
from dlc_assets.notices.messages import Message
from dlc_assets.notices.secrets import from_environment, without_secrets
from dlc_assets.notices.voice import Voice
from dlc_assets.notices.words import one_line, plain_text

_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}


def send_mail(mail: Mail, voice: Voice, message: Message, *, timeout: float) -> str:
    """Send *message*; return what is to be said of it although it went out (a recipient that was refused), else an empty string.

    Raises
    ------
    SettingsError
        User or password are not in the environment, or would be sent without encryption.
    EnvironmentProblem
        The server does not answer in *timeout* seconds, offers no encryption, or refuses the message; secrets are not in the text.
    """
    login = _login(mail)
    ends = time.monotonic() + timeout
    with _in_words(mail, login), _connected(mail, timeout) as server:
        if mail.tls == "starttls":
            _limit(server, ends)
            server.starttls(context=ssl.create_default_context())
        if login is not None:
            _limit(server, ends)
            server.login(*login)
        _limit(server, ends)
        refused = server.send_message(written(mail, voice, message), mail.sender, list(mail.to))
    said = [f"{address}: {_answer(answer)}" for address, answer in refused.items()]
    return without_secrets(f"refused by {mail.host}: {'; '.join(said)}", _secrets(login)) if said else ""


def written(mail: Mail, voice: Voice, message: Message) -> EmailMessage:
    """Return *message* as a mail; names in it cannot add a header, since each is made one line."""
    letter = EmailMessage(policy=policy.SMTP)
    letter["From"] = Address(display_name=one_line(voice.name, 80), addr_spec=mail.sender)
    letter["To"] = ", ".join(mail.to)
    letter["Subject"] = one_line(message.subject)
    letter["Date"] = datetime.fromtimestamp(message.made, voice.zone)
    letter["Message-ID"] = f"<{message.id}@{mail.sender.rpartition('@')[2]}>"  # the same when it is sent again
    letter["Auto-Submitted"] = "auto-generated"  # no answers from people who are away
    letter.set_content(plain_text(message.body))
    return letter


def _login(mail: Mail) -> tuple[str, str] | None:
    """Return user and password; None for a server that asks for none: neither variable is set, and lab.yaml names neither."""
    stated = mail.model_fields_set & {"user_env", "password_env"}
    if not stated and not os.environ.get(mail.user_env) and not os.environ.get(mail.password_env):
        return None
    login = (
        from_environment(mail.user_env, "notify.mail.user_env"),
        from_environment(mail.password_env, "notify.mail.password_env"),
    )
    if mail.tls == "none" and mail.host not in _THIS_MACHINE:
        raise SettingsError(
            f"notify.mail.tls: with none, user and password would go to {mail.host} unencrypted. Use starttls or ssl, or unset "
            f"{mail.user_env} and {mail.password_env} for a server that asks for none."
        )
    return login


def _secrets(login: tuple[str, str] | None) -> tuple[str, ...]:
    """Return user and password, alone and as the login sends them together."""
    return () if login is None else (*login, f"\0{login[0]}\0{login[1]}")


@contextmanager
def _connected(mail: Mail, timeout: float) -> Iterator[smtplib.SMTP]:
    server: smtplib.SMTP
    if mail.tls == "ssl":
        context = ssl.create_default_context()
        server = smtplib.SMTP_SSL(mail.host, mail.server_port, timeout=timeout, context=context)
    else:
        server = smtplib.SMTP(mail.host, mail.server_port, timeout=timeout)
    with server:
        yield server


def _limit(server: smtplib.SMTP, ends: float) -> None:
    """Give the next step what is left of the time: each of a slow server's answers may come just in time."""
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    if server.sock is not None:
        server.sock.settimeout(left)


@contextmanager
def _in_words(mail: Mail, login: tuple[str, str] | None) -> Iterator[None]:
    where = f"the mail server {mail.host}:{mail.server_port}"
    try:
        yield
    except DlcAssetsError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, its text or that of a cause may hold what was sent
        said = without_secrets(f"{where} {_why(error)}", _secrets(login))
        # Not even as a cause: a traceback would show the server's answer as it came.
        raise EnvironmentProblem(one_line(said, 600)) from None


def _why(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"refuses user and password ({_answer((error.smtp_code, error.smtp_error))}). Check the environment variables."
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return f"cannot do what is needed ({error}). Check `tls` and `port` of notify.mail in lab.yaml."
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return "refuses all recipients: " + "; ".join(f"{to}: {_answer(said)}" for to, said in error.recipients.items())
    if isinstance(error, smtplib.SMTPResponseException):
        return f"refuses the message ({_answer((error.smtp_code, error.smtp_error))})."
    if isinstance(error, ssl.SSLError):
        return f"does not show a certificate that this machine trusts, or speaks no TLS on this port ({error}). Check `tls` and `port`."
    if isinstance(error, TimeoutError):
        return "did not answer in time. Check `host` and `port` of notify.mail in lab.yaml, and the network."
    if isinstance(error, OSError) and not isinstance(error, smtplib.SMTPException):
        return f"cannot be reached ({error.strerror or error}). Check `host` and `port` of notify.mail in lab.yaml, and the network."
    return f"broke off: {type(error).__name__}: {error}"


def _answer(answer: tuple[int, bytes | str]) -> str:
    code, text = answer
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
