"""Writes what is in each worker's image: `workers/NAME/sbom.cdx.json`, CycloneDX 1.6.

    python release/sbom.py [--check]

The same sources give the same bytes: no time of day, no random number. With ``--check`` nothing is
written, and the exit code is 1 where a file is not what it should be.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ondemand import __version__
from ondemand.runtime.manifest import MANIFEST, read_manifest

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "workers" / "requirements.lock"
NAME = "sbom.cdx.json"

IMAGE = {
    "python_version": "3.11",
    "python_full_version": "3.11.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
}
"""What the images are, for the markers in the lock."""

_BASE = re.compile(r"^FROM (?P<name>[\w./-]+):(?P<tag>[\w.-]+)\s*$", re.MULTILINE)

Component = dict[str, Any]


def sbom(folder: Path) -> Component:
    """What is in the image of the worker in *folder*."""
    manifest = read_manifest(folder)
    itself = f"ondemand-{manifest.name}@{manifest.version}"
    parts = [_package(), *_libraries(), *_files(folder), _base(folder)]
    parts.sort(key=lambda part: part["bom-ref"])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "bom-ref": itself,
                "type": "container",
                "name": f"ondemand-{manifest.name}",
                "version": manifest.version,
                "description": manifest.description,
            },
            "properties": [
                {"name": "ondemand:requirements.lock:sha256", "value": _sha256(LOCK)},
            ],
        },
        "components": parts,
        "dependencies": [{"ref": itself, "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _package() -> Component:
    return {
        "bom-ref": f"pkg:pypi/ondemand@{__version__}",
        "type": "library",
        "name": "ondemand",
        "version": __version__,
        "purl": f"pkg:pypi/ondemand@{__version__}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }


def _libraries() -> Iterator[Component]:
    """Everything in the lock that an image installs. Its bytes are those that the lock allows."""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if not line[:1].isalnum():
            continue
        requirement = Requirement(line.rstrip(" \\"))
        if requirement.marker is not None and not requirement.marker.evaluate(IMAGE):
            continue
        version = str(requirement.specifier).removeprefix("==")
        purl = f"pkg:pypi/{requirement.name}@{version}"
        yield {
            "bom-ref": purl,
            "type": "library",
            "name": requirement.name,
            "version": version,
            "purl": purl,
        }


def _files(folder: Path) -> Iterator[Component]:
    """The model, and what else the manifest vouches for, by digest."""
    manifest = read_manifest(folder)
    yield _file(folder / manifest.model.file, manifest.version, "machine-learning-model")
    for checked in (manifest.transform, *manifest.files):
        if checked is not None:
            yield _file(folder / checked.file, manifest.version, "file")


def _file(path: Path, version: str, kind: str) -> Component:
    digest = _sha256(path)
    return {
        "bom-ref": f"file:{path.name}@sha256:{digest}",
        "type": kind,
        "name": path.name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def _base(folder: Path) -> Component:
    """The image that the worker's is made from: the Dockerfile's last ``FROM``."""
    *_, base = _BASE.finditer((folder / "Dockerfile").read_text(encoding="utf-8"))
    name, tag = base["name"], base["tag"]
    return {
        "bom-ref": f"pkg:docker/{name}@{tag}",
        "type": "container",
        "name": name,
        "version": tag,
        "purl": f"pkg:docker/{name}@{tag}",
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with ``--check`` compare them."""
    stale = False
    for manifest in sorted((ROOT / "workers").glob(f"*/{MANIFEST}")):
        path = manifest.parent / NAME
        text = json.dumps(sbom(manifest.parent), indent=2, ensure_ascii=False) + "\n"
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path.relative_to(ROOT)} is not what the sources say: run `make sbom`")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
