"""``main``: which exit code, and how much is said, for everything that can go wrong."""

import importlib.metadata
import os
from types import SimpleNamespace

import pytest
import typer

from ondemand.cli import root
from ondemand.cli.app import main
from ondemand.cli.commands import COMMANDS, Command, ExitCode, missing_extra, named_command
from ondemand.cli.root import application
from ondemand.errors import (
    ConfigurationError,
    NotSentError,
    OutcomeUnknownError,
    TooLargeError,
)


@pytest.fixture(autouse=True)
def _no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` sets it for child processes; no test may leave it to the next."""
    monkeypatch.setenv("ONDEMAND_DEBUG", "")


def ending(monkeypatch: pytest.MonkeyPatch, *arguments: str, error: BaseException) -> int:
    """The exit code where the command `settings` ends with *error*."""
    app = typer.Typer(name="settings")

    @app.callback(invoke_without_command=True)
    def fail() -> None:
        raise error

    monkeypatch.setattr(root.importlib, "import_module", lambda _: SimpleNamespace(app=app))
    with pytest.raises(SystemExit) as left:
        main([*arguments, "settings"])
    return int(left.value.code or 0)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigurationError("no such thing"), 1, "error: no such thing\n"),
        (NotSentError("nobody there"), 1, "error: nobody there\n"),
        (TooLargeError("too much"), 3, "error: too much\n"),
        (OutcomeUnknownError("no reply"), 4, "error: no reply\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "gone"), 1, ""),
        (
            ZeroDivisionError("oops"),
            1,
            "internal error: ZeroDivisionError: oops; re-run with --debug to see where\n",
        ),
        (
            ModuleNotFoundError("No module named 'yaml'", name="yaml.nodes"),
            1,
            "error: `ondemand settings` needs the extra 'cli': pip install 'ondemand[cli]'\n",
        ),
    ],
)
def test_every_end_has_its_code_and_at_most_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    told: str,
) -> None:
    """Scripts read the code, people the line; a traceback reaches neither."""
    assert ending(monkeypatch, error=error) == code
    assert capsys.readouterr().err == told


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--debug`, and for child processes through the environment."""
    assert ending(monkeypatch, "--debug", error=ConfigurationError("no such thing")) == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert told.endswith("error: no such thing\n")
    assert os.environ["ONDEMAND_DEBUG"] == "1"


def test_the_extra_is_that_of_the_command_or_of_the_command_line() -> None:
    """What is missing decides: Kafka's client is the command's, Typer is everybody's."""
    kafka = named_command(["kafka", "start"])
    assert missing_extra("jgo.maven", kafka) == (
        "`ondemand kafka` needs the extra 'local': pip install 'ondemand[local]'"
    )
    assert missing_extra("rich", kafka).endswith("pip install 'ondemand[cli]'")
    assert missing_extra("typer", None).startswith("`ondemand` needs the extra 'cli'")


def test_every_extra_that_is_named_can_be_installed() -> None:
    """The line that tells people what to install is true."""
    provided = set(importlib.metadata.metadata("ondemand").get_all("Provides-Extra") or ())
    assert {command.extra for command in COMMANDS} <= provided


def test_the_command_is_the_first_word() -> None:
    """Options of `ondemand` itself may stand before it."""
    found = named_command(["--debug", "topics", "predict"])
    assert found is not None
    assert found.name == "topics"
    assert named_command(["--help"]) is None
    assert named_command(["nothing"]) is None


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_an_example(command: Command) -> None:
    """Whoever asks for help sees a line that can be tried."""
    group = typer.main.get_command(application(command))
    waiting = [(command.name, group.commands[command.name])]
    while waiting:
        name, found = waiting.pop()
        assert found.help, f"{name} does not say what it is for"
        below = getattr(found, "commands", {})
        waiting += [(f"{name} {word}", each) for word, each in below.items()]
        assert below or "ondemand" in (found.epilog or ""), f"{name} has no example"


def test_help_is_printed_for_a_loaded_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of a command is the command's own, and all is well."""
    with pytest.raises(SystemExit) as left:
        main(["predict", "--help"])
    assert left.value.code == ExitCode.OK
    assert "Ask a model about files" in capsys.readouterr().out
