"""Options that several commands have, worded once."""

from collections.abc import Sequence
from typing import Annotated

import typer

Kafka = Annotated[
    str | None,
    typer.Option(
        "--kafka", help="The broker's addresses; also ONDEMAND_KAFKA.", metavar="HOST:PORT[,…]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Values = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting; may be repeated.", metavar="NAME=VALUE"),
]


def named_values(values: Sequence[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` texts by name. Raises ``typer.BadParameter`` for others."""
    pairs = [text.partition("=") for text in values or ()]
    if not all(name and equals for name, equals, _ in pairs):
        raise typer.BadParameter(
            "write NAME=VALUE, for example timeout_seconds=10", param_hint="--set"
        )
    return {name: value for name, _, value in pairs}
