"""Which commands there are, what each needs to be installed, and how all of them end."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ondemand.errors import StuckError


class ExitCode(IntEnum):
    """How every command ends."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NO_REPLY = 4
    STUCK = StuckError.exit_code
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a group of them. *module* has it as ``app``; *extra* installs what it needs."""

    name: str
    module: str
    help: str
    extra: str


COMMANDS: Final = (
    Command("demo", "ondemand.cli.demo", "See it work: a broker, workers, real requests.", "demo"),
    Command("predict", "ondemand.cli.predict", "Ask a model about files.", "client"),
    Command("worker", "ondemand.cli.worker", "Make, check and run workers.", "worker"),
    Command("workers", "ondemand.cli.workers", "Show which workers are alive.", "client"),
    Command("topics", "ondemand.cli.topics", "Compare and create the broker's topics.", "worker"),
    Command(
        "deadletters",
        "ondemand.cli.deadletters",
        "Look at dead letters, send them again, plan a purge.",
        "worker",
    ),
    Command("kafka", "ondemand.cli.kafka", "Run a real Kafka on this computer.", "local"),
    Command("settings", "ondemand.cli.settings", "Show where each setting comes from.", "cli"),
)

COMMAND_LINE_LIBRARIES: Final = frozenset({"typer", "rich", "PIL"})
"""What the extra ``cli`` brings, for whichever command it is missing."""


def named_command(arguments: Sequence[str]) -> Command | None:
    """The command that the first word names; options of ``ondemand`` itself take no values."""
    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    return next((command for command in COMMANDS if command.name == word), None)


def missing_extra(library: str, command: Command | None) -> str:
    """Says which extra brings *library*, for want of which *command* cannot run."""
    shown = f"ondemand {command.name}" if command else "ondemand"
    top = library.partition(".")[0]
    extra = "cli" if command is None or top in COMMAND_LINE_LIBRARIES else command.extra
    return f"`{shown}` needs the extra '{extra}': pip install 'ondemand[{extra}]'"
