"""Where jars are fetched from: where a person's own settings say, otherwise Maven's central place.

No address is written here. ``jgo`` knows the central repository; what replaces it in a company's
network stands in the person's Maven settings (a ``mirror``) or jgo's own (``[repositories]``).
"""

import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

from ondemand.errors import ConfigurationError

_CENTRAL = "central"
_STANDS_FOR_CENTRAL = {"*", "external:*", _CENTRAL}


def remote_repositories(settings: Path | None = None) -> dict[str, str] | None:
    """Repositories by name, in the order to ask; None leaves it to jgo's default.

    Raises ``ConfigurationError`` if the Maven settings are no XML.
    """
    mirror = maven_mirror(settings or Path.home() / ".m2" / "settings.xml")
    if mirror is not None:
        return {_CENTRAL: mirror}
    from jgo.config import GlobalSettings  # noqa: PLC0415 - only installed with the extra `local`

    return dict(GlobalSettings.load().repositories) or None


def maven_mirror(settings: Path) -> str | None:
    """The address that Maven settings put in place of the central repository, if they do.

    Raises ``ConfigurationError`` if the file is no XML.
    """
    if not settings.exists():
        return None
    try:
        root = ET.parse(settings).getroot()  # noqa: S314 - the person's own file
    except ET.ParseError as error:
        raise ConfigurationError(f"{settings} is no valid XML ({error}): correct it") from error
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        address = (mirror.findtext("{*}url") or "").strip()
        if address and _replaces_central(mirror.findtext("{*}mirrorOf") or ""):
            return _with_environment(address).rstrip("/")
    return None


def _replaces_central(mirror_of: str) -> bool:
    """Maven's rule: a list of names and wildcards, of which ``!name`` excludes."""
    patterns = {pattern.strip() for pattern in mirror_of.split(",")}
    return f"!{_CENTRAL}" not in patterns and bool(patterns & _STANDS_FOR_CENTRAL)


def _with_environment(text: str) -> str:
    """Replace ``${env.NAME}`` as Maven does; an unset name stays as it is."""
    return re.sub(r"\$\{env\.(\w+)\}", lambda name: os.environ.get(name[1], name[0]), text)
