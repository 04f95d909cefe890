"""Sealing, keys and redaction."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine import auth_parameters
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.jsontypes import Json
from stepwell.engine.secretbox import BLOT, Redactor, SecretBox, load_box, load_keys

OLD, NEW = bytes(range(32)), bytes(range(1, 33))


def b64(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


@given(st.binary(), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_opens_under_its_own_name(secret: bytes, context: str) -> None:
    box = SecretBox(NEW)
    sealed = box.encrypt(secret, context)
    assert box.decrypt(sealed, context) == secret
    assert len(secret) < 4 or secret not in sealed
    with pytest.raises(ConfigurationError):
        box.decrypt(sealed, context + "x")


def test_every_changed_byte_is_noticed() -> None:
    box = SecretBox(NEW)
    sealed = box.encrypt(b"secret", "a")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(ConfigurationError):
            box.decrypt(bytes(changed), "a")
    for length in range(len(sealed)):
        with pytest.raises(ConfigurationError):
            box.decrypt(sealed[:length], "a")


def test_keys_rotate() -> None:
    sealed = SecretBox(OLD).encrypt(b"secret", "a")
    both = SecretBox(NEW, OLD)
    assert both.decrypt(sealed, "a") == b"secret"
    assert not both.is_current(sealed)
    again = both.encrypt(b"secret", "a")
    assert both.is_current(again)
    assert SecretBox(NEW).decrypt(again, "a") == b"secret"
    with pytest.raises(ConfigurationError, match="STEPWELL_SECRET_KEY"):
        SecretBox(NEW).decrypt(sealed, "a")


def test_the_setting_wins_over_the_file(tmp_path: Path) -> None:
    assert load_keys(f" {b64(NEW)}, {b64(OLD)}\n", tmp_path) == (NEW, OLD)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ("short", b64(bytes(16)), b64(NEW) + ",x", "!" * 44))
def test_a_bad_key_is_an_error_that_does_not_show_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="openssl rand") as caught:
        load_box(text, None)
    assert text not in str(caught.value)


def test_the_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "data"
    first = load_keys(None, home)
    assert load_keys(None, home) == first
    assert [(file.name, file.stat().st_mode & 0o777) for file in home.iterdir()] == [("secret.key", 0o600)]


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    load_keys(None, tmp_path)
    (tmp_path / "secret.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_keys(None, tmp_path)


def test_two_processes_that_start_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process makes its key between the look for the file and the making of ours."""
    theirs = b64(OLD)
    link = os.link

    def beaten(source: Path, file: Path) -> None:
        file.write_text(theirs)
        file.chmod(0o600)
        link(source, file)

    monkeypatch.setattr(os, "link", beaten)
    assert load_keys(None, tmp_path) == (OLD,)
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]


def test_no_key_at_all_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="Set STEPWELL_SECRET_KEY"):
        load_box(None, None)


def test_a_box_shows_no_key() -> None:
    assert NEW.hex() not in repr(SecretBox(NEW)) and repr(NEW) not in repr(SecretBox(NEW))


def test_redaction_reaches_names_values_and_the_longest_secret_first() -> None:
    redactor = Redactor(["hunter22", "hunter22-and-more", "abc", ""])
    value: Json = {"hunter22": ["x hunter22-and-more y", 1, None, {"k": "abc"}]}
    assert redactor.json(value) == {BLOT: [f"x {BLOT} y", 1, None, {"k": "abc"}]}


SECRETS = ["key-secret-1", "password-secret-2", "client-secret-3", "header-secret-4", "token-secret-5"]
PARAMETERS = [
    '{"ApiKeyAuthParameters": {"ApiKeyName": "X-Key", "ApiKeyValue": "key-secret-1"}}',
    (
        '{"BasicAuthParameters": {"Username": "me", "Password": "password-secret-2"}, "InvocationHttpParameters":'
        ' {"HeaderParameters": [{"Key": "X", "Value": "header-secret-4", "IsValueSecret": true}, {"Key": "Y", "Value": "open"}]}}'
    ),
    (
        '{"OAuthParameters": {"AuthorizationEndpoint": "https://id.example/token", "HttpMethod": "POST", "ClientParameters":'
        ' {"ClientID": "me", "ClientSecret": "client-secret-3"}, "OAuthHttpParameters": {"BodyParameters":'
        ' [{"Key": "audience", "Value": "token-secret-5", "IsValueSecret": true}]}}}'
    ),
]


@pytest.mark.parametrize("text", PARAMETERS)
def test_a_description_holds_everything_but_the_secrets(text: str) -> None:
    parameters = auth_parameters.parse(text)
    shown = parameters.public()
    assert not [secret for secret in SECRETS if secret in shown]
    assert {secret for secret in SECRETS if secret in text} == set(parameters.secrets())
    assert auth_parameters.parse(shown).type == parameters.type
    box = SecretBox(NEW)
    assert auth_parameters.unseal(box, "c", parameters.seal(box, "c")) == parameters
    with pytest.raises(ConfigurationError):
        auth_parameters.unseal(box, "another", parameters.seal(box, "c"))


@pytest.mark.parametrize(
    ("text", "type", "says"),
    (
        ("{}", None, "exactly one"),
        ('{"Nope": 1}', None, "Nope"),
        ("[]", None, "AuthParameters"),
        (PARAMETERS[0][:-1] + ', "BasicAuthParameters": {"Username": "me"}}', None, "exactly one"),
        (PARAMETERS[0], "BASIC", "API_KEY"),
        ('{"ApiKeyAuthParameters": {"ApiKeyName": "X: Y", "ApiKeyValue": "v"}}', None, "X: Y"),
        ('{"ApiKeyAuthParameters": {"ApiKeyName": "X", "ApiKeyValue": "secret\\r\\nHost: evil"}}', None, "line break"),
        ('{"BasicAuthParameters": {"Username": "a:b", "Password": "secret"}}', None, "colon"),
        (PARAMETERS[2].replace("https://id", "file://id"), None, "https://"),
        (PARAMETERS[2].replace('"POST"', '"TRACE"'), None, "TRACE"),
    ),
)
def test_wrong_parameters_are_refused_without_showing_secrets(text: str, type: str | None, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        auth_parameters.parse(text, type)
    assert "secret" not in str(caught.value)
