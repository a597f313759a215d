"""The files that the code writes: golden bodies and broker/asyncapi.yaml.

Tests compare them with what is there. To write them anew after a change that is meant:

    cd tests && python -m unit.contract.generated
"""

from pathlib import Path

import yaml
from unit.contract import asyncapi
from unit.contract.examples import golden

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = Path(__file__).parent / "golden"
CONTRACT = ROOT / "docs" / "contract.md"
ASYNCAPI = ROOT / "broker" / "asyncapi.yaml"

_NOTE = "# Written by tests/unit/contract/generated.py, from the code and docs/contract.md.\n"


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: no reader wants YAML's anchors."""

    def ignore_aliases(self, data):
        return True


def files():
    """Every generated file and the bytes that belong into it."""
    found = {GOLDEN / name: value for name, value in golden().items()}
    document = asyncapi.build(CONTRACT.read_text("utf-8"))
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    found[ASYNCAPI] = (_NOTE + text).encode()
    return found


if __name__ == "__main__":
    for path, value in files().items():
        path.write_bytes(value)
