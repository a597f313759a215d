"""``python -m ondemand``: the command line."""

from ondemand.cli import main

if __name__ == "__main__":
    main()
