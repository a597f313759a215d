"""What an audit says: a package that nobody could look up is not a clean one."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "release" / "audit.py"

ASKED = {"name": "good", "version": "1.0", "vulns": []}
SKIPPED = {"name": "unheard-of", "skip_reason": "Dependency not found"}
BAD = {
    "name": "bad",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """The program, as a module."""
    specification = importlib.util.spec_from_file_location("audit", PROGRAM)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    import sys  # noqa: PLC0415 - dataclasses look a module up by its name

    sys.modules["audit"] = module
    specification.loader.exec_module(module)
    return module


def said(audit: ModuleType, *packages: dict[str, object]) -> tuple[str, int]:
    """The verdict on one database's report."""
    return audit.verdict("a.lock", {"db": audit.findings({"dependencies": packages})})


def test_everything_looked_up_and_nothing_known(audit: ModuleType) -> None:
    """The one case that is good news."""
    text, code = said(audit, ASKED, ASKED)
    assert (text, code) == ("a.lock: 2 packages looked up in db, nothing is known", audit.CLEAN)


def test_what_is_known_is_named_with_its_mending(audit: ModuleType) -> None:
    """Even where something else could not be looked up."""
    text, code = said(audit, ASKED, BAD, SKIPPED)
    assert code == audit.VULNERABLE
    assert "bad 2.0: PYSEC-1, mended in 2.1" in text
    assert "bad 2.0: PYSEC-2, mended in no release yet" in text


@pytest.mark.parametrize("packages", [(SKIPPED,), (ASKED, SKIPPED), ()])
def test_what_was_not_looked_up_is_not_clean(
    audit: ModuleType, packages: tuple[dict[str, object], ...]
) -> None:
    """pip-audit itself ends such a run with success: this must not."""
    text, code = said(audit, *packages)
    assert code == audit.UNKNOWN
    assert "NOT AUDITED" in text
    assert "says nothing about vulnerabilities" in text


def test_another_database_may_know_everything(audit: ModuleType) -> None:
    """One that has all packages is enough."""
    found = {
        "first": audit.findings({"dependencies": [SKIPPED]}),
        "second": audit.findings({"dependencies": [ASKED]}),
    }
    assert audit.verdict("a.lock", found)[1] == audit.CLEAN
