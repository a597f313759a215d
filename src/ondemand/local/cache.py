"""Where what was downloaded is kept, for all checkouts of one person."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """``ONDEMAND_CACHE``, otherwise ``ondemand`` in the user's cache folder. Not created here."""
    if chosen := os.environ.get("ONDEMAND_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ondemand"
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "ondemand"
    return Path.home() / ".cache" / "ondemand"
