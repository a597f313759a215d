"""Command lines in the documentation, checked against the program without running them."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from documents import Block
from typer.core import TyperGroup
from typer.exceptions import TyperException

from ondemand.cli.commands import named_command
from ondemand.cli.root import application

_ASSIGNMENT = re.compile(r"^\w+=")
_SEPARATORS = {"|", "||", "&&", ";", "&"}
_REDIRECTIONS = {"<", ">", ">>", "2>", "&>"}


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One command of a block: *words* without assignments, pipes and redirections."""

    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def command_lines(block: Block) -> Iterator[CommandLine]:
    """The commands of a ``console`` block (lines after ``$ ``) or of a ``sh`` or ``bash`` block."""
    if block.language not in {"console", "sh", "bash"}:
        return
    lines = block.text.replace("\\\n", " ").splitlines()
    for line in lines:
        if block.language == "console" and not line.startswith("$ "):
            continue
        for words in _commands(line.removeprefix("$ ")):
            yield CommandLine(where=str(block), words=tuple(words))


def _commands(line: str) -> Iterator[list[str]]:
    """The simple commands of one line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if word in _SEPARATORS:
            if words:
                yield words
            words = []
        elif word in _REDIRECTIONS:
            skip = True
        elif skip:
            skip = False
        elif words or not _ASSIGNMENT.match(word):
            words.append(word)


def check_command(words: Sequence[str]) -> str:
    """Why the program would not take an ``ondemand`` command line; empty where it would, or where
    *words* are another program's. Values are not converted, and files need not exist.
    """
    if words[0].rpartition("/")[2] != "ondemand":
        return ""
    rest = [word for word in words[1:] if word != "--debug"]  # counts wherever it stands
    root = application(named_command(rest))
    return _check(typer.main.get_command(root), rest, None)


def _check(command: Any, words: Sequence[str], above: typer.Context | None) -> str:
    """Follow the words down to a command, and let its own parser read the rest."""
    context = typer.Context(command, parent=above, info_name=command.name)
    try:
        _, rest, _ = command.make_parser(context).parse_args(list(words))
    except TyperException as error:
        return str(error)
    if isinstance(command, TyperGroup):
        return _check_group(command, rest, context)
    return f"too many arguments: {rest}" if rest else ""


def _check_group(group: TyperGroup, rest: Sequence[str], context: typer.Context) -> str:
    """The next word must be one of the group's commands."""
    if not rest:
        return ""
    command = group.get_command(context, rest[0])
    if command is None:
        return f"no command {rest[0]!r}; there are {group.list_commands(context)}"
    return _check(command, rest[1:], context)
