"""The command line: one module per noun."""

from ondemand.cli.app import main

__all__ = ["main"]
