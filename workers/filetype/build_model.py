"""Take model and label tables out of the ``magika`` package: the same bytes each time.

    python workers/filetype/build_model.py            writes both files and prints their digests
    python workers/filetype/build_model.py --check    writes nothing; exit code 1 if one differs

Needs the ``magika`` package at the version of ``requirements.lock``. The worker itself does not.
"""

import argparse
import hashlib
import json
import sys
import tomllib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

FOLDER = Path(__file__).parent
MODEL_NAME = "standard_v3_3"

TEXT, BINARY = "text/plain", "application/octet-stream"


def build() -> dict[str, bytes]:
    """The files' contents by name."""
    package = files("magika")
    folder = package / "models" / MODEL_NAME
    config = json.loads((folder / "config.min.json").read_text(encoding="utf-8"))
    known = json.loads(
        (package / "config" / "content_types_kb.min.json").read_text(encoding="utf-8")
    )
    labels = config["target_labels_space"]
    always = {"empty", "txt", "unknown"}
    shown = sorted(always | {config["overwrite_map"].get(label, label) for label in labels})
    tables = {
        "labels": labels,
        "thresholds": config["thresholds"],
        "threshold_otherwise": config["medium_confidence_threshold"],
        "shown_as": config["overwrite_map"],
        "text": [label for label in shown if known[label]["is_text"]],
        "mime": {label: _mime(known[label]) for label in shown},
    }
    return {
        "model.onnx": (folder / "model.onnx").read_bytes(),
        "labels.json": (json.dumps(tables, indent=1, sort_keys=True) + "\n").encode("utf-8"),
    }


def _mime(entry: dict[str, object]) -> str:
    """The package's own defaults, where it knows no media type."""
    return str(entry["mime_type"] or (TEXT if entry["is_text"] else BINARY))


def main() -> int:
    """Build, compare with what ``worker.toml`` promises, and write unless only asked to check."""
    parser = argparse.ArgumentParser(description="Take the model out of the magika package.")
    parser.add_argument("--check", action="store_true", help="write nothing, compare the digests")
    check = parser.parse_args().check
    manifest = tomllib.loads((FOLDER / "worker.toml").read_text(encoding="utf-8"))
    promised = {entry["file"]: entry["sha256"] for entry in (manifest["model"], *manifest["files"])}
    sys.stdout.write(f"magika {version('magika')}, model {MODEL_NAME}\n")
    same = True
    for name, content in build().items():
        found = hashlib.sha256(content).hexdigest()
        same = same and found == promised[name]
        sys.stdout.write(f"{name}: sha256 {found}, promised {promised[name]}\n")
        if not check:
            (FOLDER / name).write_bytes(content)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
