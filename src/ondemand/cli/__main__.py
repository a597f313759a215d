"""``python -m ondemand.cli``: the command line, where its script is not on the path."""

from ondemand.cli import main

main()
