"""``ondemand``: runs the command that was named, and turns errors into one line and an exit code.

A command's module is imported when the command is named: ``ondemand --help`` imports none of them,
and what an extra brings is needed only by the commands that use it.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from ondemand.cli.commands import Command, ExitCode, missing_extra, named_command
from ondemand.errors import (
    NobodyServesError,
    OndemandError,
    OutcomeUnknownError,
    RefusedError,
    StuckError,
)

DEBUG: Final = "ONDEMAND_DEBUG"
"""Set in the environment by ``--debug``, and the same as it; child processes inherit it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, ``sys.argv`` by default, and leave with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `--debug` counts wherever it stands, so that it can be added at the end of what failed.
    end = given.index("--") if "--" in given else len(given)
    if "--debug" in given[:end]:
        os.environ[DEBUG] = "1"
    kept = [word for word in given[:end] if word != "--debug"] + given[end:]
    sys.exit(_outcome(kept))


def _outcome(arguments: list[str]) -> int:
    """Run; say in one line what went wrong."""
    named = named_command(arguments)
    try:
        code = _run(arguments, named)
        sys.stdout.flush()  # here, where a reader that has gone can still be dealt with
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        code = _stop_writing()
    except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches who did not ask
        if os.environ.get(DEBUG):
            traceback.print_exc()
        message, code = _told(error, named)
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"{message}\n")
    return code


def _run(arguments: list[str], named: Command | None) -> int:
    """The command's exit code, which Typer gives as a ``SystemExit``."""
    from ondemand.cli.root import application

    try:
        application(named)(args=arguments, prog_name="ondemand")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return ExitCode.OK


def _stop_writing() -> int:
    """Who read our output has gone (``| head``): nothing is wrong, and nothing more is written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def _told(error: Exception, named: Command | None) -> tuple[str, ExitCode]:
    """What to say about *error*, and the exit code."""
    if isinstance(error, RefusedError):
        return f"error: {error}", ExitCode.REFUSED
    if isinstance(error, OutcomeUnknownError | NobodyServesError):
        return f"error: {error}", ExitCode.NO_REPLY
    if isinstance(error, StuckError):
        return f"error: {error}", ExitCode.STUCK
    if isinstance(error, OndemandError):
        return f"error: {error}", ExitCode.FAILED
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("ondemand"):
        return f"error: {missing_extra(error.name or '', named)}", ExitCode.FAILED
    kind = type(error).__name__
    return f"internal error: {kind}: {error}; re-run with --debug to see where", ExitCode.FAILED
