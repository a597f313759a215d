"""``ondemand settings``: what people and scripts see of the settings."""

import json
from pathlib import Path

import pytest

from ondemand.cli.app import main
from ondemand.cli.settings_page import settings_page
from ondemand.settings import ClientSettings, WorkerSettings

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither file nor environment of whoever runs the tests counts."""
    monkeypatch.chdir(tmp_path)
    for name in ("ONDEMAND_KAFKA", "ONDEMAND_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints, having ended well."""
    with pytest.raises(SystemExit) as left:
        main(["settings", *arguments])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_the_page_is_the_definitions() -> None:
    """docs/settings.md is what `ondemand settings docs` prints: run it after a change."""
    assert PAGE.read_text(encoding="utf-8") == settings_page()


def test_the_page_has_every_field_once() -> None:
    """Each setting has one paragraph, whichever side takes it."""
    for name in {*WorkerSettings.model_fields, *ClientSettings.model_fields}:
        assert settings_page().count(f"\n**`{name}`** ") == 1


def test_show_names_value_and_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row for each setting; a setting of both sides stands there once."""
    monkeypatch.setenv("ONDEMAND_KAFKA", "broker:9092")
    rows = [line.split() for line in shown(capsys, "show").splitlines()]
    assert ["both", "kafka", "broker:9092", "environment:", "ONDEMAND_KAFKA"] in rows
    assert ["worker", "batch_rows_max", "256", "default"] in rows
    assert ["client", "service", "cli", "default"] in rows
    assert len(rows) == 1 + len({*WorkerSettings.model_fields, *ClientSettings.model_fields})


def test_show_for_a_worker_reads_its_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--worker` shows what that worker would run with, and no client."""
    (tmp_path / "worker.toml").write_text("[settings]\nbatch_rows_max = 9\n", encoding="utf-8")
    told = json.loads(shown(capsys, "show", "--worker", str(tmp_path), "--json"))
    assert set(told) == {"worker"}
    assert told["worker"]["batch_rows_max"]["value"] == 9
    assert told["worker"]["batch_rows_max"]["source"]["kind"] == "file"


def test_show_hides_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the table nor the JSON has a password in it."""
    monkeypatch.setenv("ONDEMAND_KAFKA_OPTIONS", "sasl.password=hush,client.rack=a")
    for arguments in (["show"], ["show", "--json"]):
        told = shown(capsys, *arguments)
        assert "hush" not in told
        assert "(hidden)" in told
        assert "client.rack" in told
