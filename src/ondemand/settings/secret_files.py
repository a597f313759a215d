"""Reading what nobody else may read: passwords, keys and tokens in files."""

import stat
from pathlib import Path
from typing import Final

from ondemand.errors import ConfigurationError

SECRET_BYTES_MAX: Final = 65_536


def read_secret(path: Path, what: str) -> str:
    """The text in *path*, without its last line break; *what* names the setting in errors.

    Raises ``ConfigurationError``, without the text, where it cannot be read, is empty or too long
    to be one, or where everybody on the computer may read it.
    """
    check_private(path, what)
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(SECRET_BYTES_MAX + 1).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{what}: {path} cannot be read: {_reason(error)}") from None
    if not text or len(text) > SECRET_BYTES_MAX:
        size = "empty" if not text else f"longer than {SECRET_BYTES_MAX} characters"
        raise ConfigurationError(f"{what}: {path} is {size}: it should hold the secret alone")
    return text


def check_private(path: Path, what: str) -> None:
    """Raises ``ConfigurationError`` where *path* is not there, or everybody may read or change it.

    Its group may: orchestrators that mount secrets give them to a group.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"{what}: {path} cannot be read: {_reason(error)}") from None
    if stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigurationError(
            f"{what}: {path} can be read or changed by everybody on this computer "
            f"(mode {stat.S_IMODE(mode):04o}), so it is no secret: `chmod o-rwx` it, or mount it "
            "with mode 0440"
        )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is not text"
