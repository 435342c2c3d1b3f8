from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from backend import config
from backend.errors import ConfigError
from backend.outgoing import Outgoing


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("DIALOG_"):
            monkeypatch.delenv(name)


def test_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "dialog.toml"
    file.write_text('ami_port = 1000\nhttp_port = 2000\ncontexts = ["one", "two"]\n')
    monkeypatch.setenv("DIALOG_AMI_PORT", "3000")
    settings = config.load(file)
    assert (settings.ami_port, settings.http_port, settings.agi_port) == (3000, 2000, 4573)
    assert settings.contexts == ("one", "two")


def test_what_flows_may_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config.load().flow_http_hosts == ()
    monkeypatch.setenv("DIALOG_FLOW_HTTP_HOSTS", "1c.example.com, 10.0.0.5:8080")
    monkeypatch.setenv("DIALOG_FLOW_HTTP_SECRETS", "key=Basic s3cret==")
    settings = config.load()
    assert settings.flow_http_hosts == ("1c.example.com", "10.0.0.5:8080")
    assert settings.flow_http_secrets["key"].get_secret_value() == "Basic s3cret=="
    assert "s3cret" not in str(settings.redacted())
    Outgoing.of(settings)
    file = tmp_path / "none.pem"
    monkeypatch.setenv("DIALOG_FLOW_HTTP_CA_FILE", str(file))
    with pytest.raises(ConfigError, match="flow_http_ca_file"):
        Outgoing.of(config.load())


def test_lists_and_pairs_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALOG_CONTEXTS", "one, two")
    monkeypatch.setenv("DIALOG_CHANNELS", "default=PJSIP/{phone}@a,b=Local/{phone}@callee")
    monkeypatch.setenv("DIALOG_HTTP_TOKENS", "1c=s3cret==")
    settings = config.load()
    assert settings.contexts == ("one", "two")
    assert settings.channels == {"default": "PJSIP/{phone}@a", "b": "Local/{phone}@callee"}
    assert settings.http_tokens["1c"].get_secret_value() == "s3cret=="


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AMI_PORT", "x", "valid integer"),
        ("AMI_PORT", "70000", "less than or equal to 65535"),
        ("CHANNELS", "default", "name=value"),
        ("CHANNELS", "default=PJSIP/1@a", "{phone} exactly once"),
        ("CHANNELS", "default=System/{phone}", "no dial string"),
        ("CHANNELS", "default=PJSIP/{phone}@a&PJSIP/900", "no dial string"),
        ("CHANNELS", "other=PJSIP/{phone}@a", "'default'"),
        ("VARIABLES", "CALLERID(num)", "no plain variable name"),
        ("VARIABLES", "DIALOG_TASK", "backend's own"),
        ("DATABASE_URL", "mysql://x/y", "postgresql://"),
        ("SPEECH", "speechkit", "speechkit_api_key"),
        ("LOG_LEVEL", "LOUD", "'DEBUG'"),
        ("BUS", "rabbit", "'kafka'"),
        ("BUS", "redis", "bus_url: bus=redis needs an address that begins with redis://"),
        ("BUS_URL", "redis://:geheim@h", "bus=postgres goes by database_url"),
        ("BUS_TOPIC", "two words", "should match pattern"),
        ("BUS_QUEUE", "10", "greater than or equal to 100"),
        ("STEPS_KEEP_DAYS", "0", "greater than or equal to 1"),
        ("WORKERS", "0", "greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_written(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"DIALOG_{name}", value)
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert said in str(caught.value)
    assert "geheim" not in str(caught.value)
    whole = name in ("SPEECH", "BUS_URL") or value == "redis"  # about more than one setting
    assert whole or f"DIALOG_{name}" in str(caught.value)


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALOG_AMI_PORT", "x")
    monkeypatch.setenv("DIALOG_HTTP_PORT", "y")
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert len(str(caught.value).splitlines()) == 2


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALOG_AMI_SECRETT", "x")
    with pytest.raises(ConfigError, match="DIALOG_AMI_SECRETT"):
        config.load()


def test_a_misspelt_key_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dialog.toml"
    file.write_text("ami_prt = 1\n")
    with pytest.raises(ConfigError, match="ami_prt"):
        config.load(file)


def test_files_that_are_missing_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("this is not toml")
    with pytest.raises(ConfigError, match="not valid TOML"):
        config.load(bad)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"AMI_SECRET": "hush1", "HTTP_TOKENS": "a=hush2", "SPEECHKIT_API_KEY": "hush3"}
    secrets["DATABASE_URL"] = "postgresql://u:hush4@h/d"
    for name, value in secrets.items():
        monkeypatch.setenv(f"DIALOG_{name}", value)
    settings = config.load()
    assert "hush" not in repr(settings) + json.dumps(settings.redacted())


def test_settings_go_to_child_processes() -> None:
    settings = config.load()
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301  our own


def test_prompts_by_asterisks_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALOG_SOUNDS_DIR", str(tmp_path))
    assert config.load().prompt_for_asterisk(tmp_path / "a.sln") == f"{tmp_path}/a"
    monkeypatch.setenv("DIALOG_SOUNDS_DIR_ASTERISK", "/mnt/dialog/")
    assert config.load().prompt_for_asterisk(tmp_path / "a.sln") == "/mnt/dialog/a"


def test_settings_for_scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "dialog.toml"
    file.write_text('[scenario_config]\nkey = "t0p"\n[scenario_config.shop]\nopen = [9, 18.5]\n')
    settings = config.load(file)
    assert settings.scenario_config == {"key": "t0p", "shop": {"open": [9, 18.5]}}
    assert "t0p" not in json.dumps(settings.redacted())
    assert list(settings.redacted()["scenario_config"]) == ["key", "shop"]
    monkeypatch.setenv("DIALOG_SCENARIO_CONFIG", '{"a": {"b": [1, null, true]}}')
    assert config.load().scenario_config == {"a": {"b": [1, None, True]}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[scenario_config]\nopens = 09:00:00", "opens: a time is none of JSON's"),
        ("[scenario_config]\na = [1, 2026-11-28]", "a[1]: a date is none of JSON's"),
        ("[scenario_config.a]\nb = nan", "a.b: nan is no number in JSON"),
        ("scenario_config = 5", "valid dictionary"),
        ('scenario_config = "{"', "expected a JSON object"),
        ('scenario_config = "[1]"', "valid dictionary"),
        ('http_admins = ["x"]', "http_admins: there is no client 'x'"),
        ('recordings_dir = "rec"', "absolute path"),
        ('recordings_dir = "/rec,a"', "absolute path"),
    ],
)
def test_wrong_settings_of_a_file(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "dialog.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    assert said in str(caught.value)
