"""A message arrives as it was written, and what is secret is seen by nobody, whatever a server answers."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem, SettingsError
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.settings import Mail, Notify, Webhook
from dlc_assets.notices.mail import send_mail, written
from dlc_assets.notices.messages import Message
from dlc_assets.notices.secrets import without_secrets
from dlc_assets.notices.voice import Voice
from dlc_assets.notices.webhook import payload, send_to_webhook
from dlc_assets_tests.unit.mail_and_webhook import certificate, free_port, mail_server, webhook_server

VOICE = Voice("Müller-Labor 実験室", LabLayout(Path("/labs/mice")), "Europe/Zurich", Notify())
MESSAGE = Message(
    "abc123", "failures", "[Müller] 2 new failures", "sub-m01: kaputt, défaut 実験\n.\nend\n", 1_790_000_000.0
)
USER, PASSWORD = "lab-user", "correct horse"


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DLC_ASSETS_SMTP_USER", "DLC_ASSETS_SMTP_PASSWORD", "DLC_ASSETS_WEBHOOK_URL", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("DLC_ASSETS_SMTP_USER", USER)
    monkeypatch.setenv("DLC_ASSETS_SMTP_PASSWORD", PASSWORD)
    return USER, PASSWORD


def mail(port: int, **more: Any) -> Mail:
    stated = {"to": ["ann@example.org", "ben@example.org"], "from": "lab@example.org", "host": "127.0.0.1"}
    return Mail.model_validate({**stated, "port": port, "tls": "none", **more})


def refusal(send: Callable[[], str]) -> str:
    """Return the error of *send* with all that a log would show of it."""
    with pytest.raises(DlcAssetsError) as caught:
        send()
    return f"{caught.value}\n{''.join(traceback.format_exception(caught.value))}"


def deliver(settings: Mail, message: Message = MESSAGE) -> str:
    return send_mail(settings, VOICE, message, timeout=5)


# --- mail -----------------------------------------------------------------------------------------


def test_a_mail_arrives_as_it_was_written_in_every_alphabet() -> None:
    with mail_server() as server:
        assert deliver(mail(server.port)) == ""
    (letter,) = server.letters
    assert server.recipients == [["ann@example.org", "ben@example.org"]]
    assert letter["Subject"] == "[Müller] 2 new failures"
    assert letter["From"] == "Müller-Labor 実験室 <lab@example.org>"
    assert letter.get_content().replace("\r\n", "\n") == MESSAGE.body
    assert letter["Message-ID"] == "<abc123@example.org>"
    assert letter["Date"].endswith("+0200")
    assert "AUTH" not in server.commands


def test_user_and_password_go_over_an_encrypted_connection_only(
    tmp_path: Path, login: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "public.pem"))
    with mail_server(certificate=pem, login=login) as server:
        deliver(mail(server.port, tls="starttls", host="localhost"))
    assert server.commands.index("STARTTLS") < server.commands.index("AUTH")
    with mail_server(certificate=pem, login=login, tls_from_the_start=True) as encrypted:
        deliver(mail(encrypted.port, tls="ssl", host="localhost"))
    assert len(server.raw) == len(encrypted.raw) == 1


@pytest.mark.usefixtures("login")
def test_a_server_that_offers_no_encryption_gets_no_password() -> None:
    with mail_server(login=(USER, PASSWORD)) as server:
        said = refusal(lambda: deliver(mail(server.port, tls="starttls")))
    assert "STARTTLS" in said
    assert "`tls`" in said
    assert "AUTH" not in server.commands


@pytest.mark.usefixtures("login")
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with mail_server(certificate=certificate(tmp_path), login=(USER, PASSWORD)) as server:
        said = refusal(lambda: deliver(mail(server.port, tls="starttls", host="localhost")))
    assert "certificate" in said
    assert "AUTH" not in server.commands


@pytest.mark.usefixtures("login")
def test_a_password_is_not_sent_unencrypted_to_another_machine() -> None:
    said = refusal(lambda: deliver(mail(25, host="smtp.example.org")))
    assert "unencrypted" in said
    assert PASSWORD not in said


@pytest.mark.usefixtures("login")
def test_a_refused_password_is_in_no_error_though_the_server_repeats_it() -> None:
    with mail_server(login=("somebody", "else")) as server:
        said = refusal(lambda: deliver(mail(server.port)))
    assert "refuses user and password" in said
    encoded = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
    assert not [secret for secret in (USER, PASSWORD, encoded) if secret in said], said


def test_a_user_variable_that_is_named_and_not_set_is_said() -> None:
    said = refusal(lambda: deliver(mail(25, user_env="LAB_MAIL_USER")))
    assert "notify.mail.user_env: the environment variable LAB_MAIL_USER is not set" in said


@pytest.mark.usefixtures("login")
def test_half_a_login_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DLC_ASSETS_SMTP_PASSWORD")
    assert "DLC_ASSETS_SMTP_PASSWORD is not set" in refusal(lambda: deliver(mail(25)))


def test_a_recipient_who_is_not_known_is_said_and_the_others_get_the_mail() -> None:
    with mail_server(refuses=("ben@example.org",)) as server:
        assert "ben@example.org: 550" in deliver(mail(server.port))
    assert server.recipients == [["ann@example.org"]]
    with mail_server(refuses=("ann@example.org", "ben@example.org")) as server:
        assert "refuses all recipients" in refusal(lambda: deliver(mail(server.port)))


def test_a_server_that_is_not_there_or_says_nothing_is_told_with_what_to_check() -> None:
    said = refusal(lambda: deliver(mail(free_port())))
    assert "Connection refused" in said
    assert "Check `host` and `port`" in said


def test_no_name_can_add_a_header_to_a_mail() -> None:
    hostile = "x\r\nBcc: thief@example.org\u2028\x85Subject: y\n\nbody\x00\udcff"
    voice = Voice(hostile, VOICE.layout, "UTC", Notify())
    message = Message("m", "failures", hostile, hostile, MESSAGE.made)
    letter = written(mail(25), voice, message)
    assert set(letter.keys()) == set(written(mail(25), VOICE, MESSAGE).keys())
    assert len(letter["Subject"].splitlines()) == 1
    with mail_server() as server:
        send_mail(mail(server.port), voice, message_of(hostile), timeout=5)
    (arrived,) = server.letters
    assert arrived["Bcc"] is None
    assert server.recipients == [["ann@example.org", "ben@example.org"]]


def message_of(name: str) -> Message:
    """Return a message about a session with such a name, as a round writes it."""
    from dlc_assets.notices.causes import grouped
    from dlc_assets.notices.messages import failures_message
    from dlc_assets.state.failures import RecordedFailure

    failure = RecordedFailure("session_recordings", name, f"{name}: broken", {}, "", "")
    return failures_message(VOICE, grouped([failure]), MESSAGE.made)


# --- webhook --------------------------------------------------------------------------------------


def post(form: str = "json", message: Message = MESSAGE) -> str:
    return send_to_webhook(Webhook(format=form), VOICE, message, timeout=5)  # type: ignore[arg-type]  # one of the formats


def test_a_webhook_gets_the_message_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook_server(status=204, says="") as server:
        monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", server.url)
        assert post() == ""
    ((path, content),) = server.posts
    assert path in server.url
    assert content == {
        "id": "abc123",
        "lab": VOICE.name,
        "kind": "failures",
        "subject": MESSAGE.subject,
        "text": MESSAGE.body,
        "made": "2026-09-21T14:13:20+00:00",
    }


def test_chats_get_their_own_form_and_nobody_is_called_upon_by_a_name_in_it() -> None:
    loud = Message("m", "failures", "<!channel> @everyone & more", "x" * 40_000, MESSAGE.made)
    slack = payload(Webhook(format="slack"), VOICE, loud)
    assert slack["text"].startswith("&lt;!channel&gt; @everyone &amp; more\n\n")
    discord = payload(Webhook(format="discord"), VOICE, loud)
    assert len(discord["content"]) <= 2_000
    assert discord["content"].endswith("[shortened; all of it: dlc-assets status]")
    assert discord["allowed_mentions"] == {"parse": []}
    teams = payload(Webhook(format="teams"), VOICE, MESSAGE)
    assert MESSAGE.body in teams["attachments"][0]["content"]["body"][0]["text"]


@pytest.mark.parametrize("status", [301, 307, 404, 500])
def test_an_answer_other_than_success_is_an_error_and_the_url_is_not_in_it(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook_server(status=status) as server:
        server.says = f"no such hook: {server.url} T0SECRET token=very-secret-token"
        server.headers = {"Location": server.url}
        monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", server.url)
        said = refusal(post)
        assert len(server.posts) == 1
    assert f"answered {status}" in said
    assert "DLC_ASSETS_WEBHOOK_URL" in said
    assert not [secret for secret in (server.url, "T0SECRET", "B0SECRET", "very-secret-token") if secret in said], said


def test_a_webhook_that_is_not_there_is_an_error_without_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", f"http://127.0.0.1:{free_port()}/hooks/T0SECRET")
    said = refusal(post)
    assert "Connection refused" in said
    assert "T0SECRET" not in said


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/T0SECRET",
        "T0SECRET",
        "http://[T0SECRET",
        "https://",
        "http://host:T0SECRET/",
        "http://a b/T0SECRET",
    ],
)
def test_what_is_no_url_is_said_without_showing_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", url)
    assert "T0SECRET" not in refusal(post)


def test_a_webhook_without_its_variable_is_said() -> None:
    with pytest.raises(SettingsError, match="DLC_ASSETS_WEBHOOK_URL is not set"):
        post()


def test_every_form_of_a_secret_is_hidden() -> None:
    encoded = base64.b64encode(b"p\xc3\xa4ss").decode()
    assert without_secrets(f"päss {encoded} https://other.example/x", ["päss"]) == "*** *** ***"


def test_an_error_of_a_channel_is_one_of_the_machine() -> None:
    with pytest.raises(EnvironmentProblem):
        deliver(mail(free_port()))
