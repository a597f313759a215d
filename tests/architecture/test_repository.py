"""What may lie in this repository: no heavy file, no address of one computer; and README's tree."""

import re

import pytest
from architecture.sources import ROOT, repository_files
from architecture.tree import compare, read_tree
from documents import Block, blocks

FILE_BYTES_MAX = 1_000_000
LARGE_FILES = re.compile(r"workers/[^/]+/model\.onnx")
"""A worker's model is part of its release; everything else that is large is made or fetched."""

DOCUMENTATION_HOSTS = {
    "127.0.0.1",
    "localhost",
    "arxiv.org",
    "github.com",
    "asyncapi.com",
    "www.asyncapi.com",
    "www.apache.org",
    "cwiki.apache.org",
    "json-schema.org",
    "keepachangelog.com",
    "kafka.apache.org",
    "maven.apache.org",  # an XML namespace
    "kserve.github.io",
    "onnx.ai",
    "onnxruntime.ai",
    "semver.org",
    "www.w3.org",
}
"""Hosts that a text may refer to. An address that things are fetched from never belongs here: where
packages and jars come from is set on each computer, not in the repository."""

_ADDRESS = re.compile(r"https?://(?P<host>[^/\s:\"'`)>\]}]+)")
_HOME = re.compile(r"(?<![\w.}])/(?:home|root|Users|work)/[\w.-]+")


def texts() -> list[tuple[str, str]]:
    """The name and the text of every file that is text."""
    found = []
    for path in repository_files():
        content = path.read_bytes()
        if b"\0" not in content:
            found.append((path.relative_to(ROOT).as_posix(), content.decode("utf-8", "replace")))
    return found


def findings(pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    """Where *pattern* occurs, as ``path:line``."""
    return [
        (f"{name}:{number}", match)
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        for match in pattern.finditer(line)
    ]


def test_no_address_of_one_computer() -> None:
    """A path into somebody's home folder works on one computer only."""
    told = [f"{where}: `{match[0]}`" for where, match in findings(_HOME)]
    assert not told, "\n".join([*told, "Use a path relative to the repository, or a setting."])


def test_addresses_lead_to_documentation() -> None:
    """A text may refer to documentation; where things are fetched from is each computer's own."""
    told = [
        f"{where}: {match[0]}"
        for where, match in findings(_ADDRESS)
        if match["host"].lower() not in DOCUMENTATION_HOSTS
        and not match["host"].startswith(("{", "$", "<"))
    ]
    rule = "Drop it, or add a documentation host to DOCUMENTATION_HOSTS; never a package index."
    assert not told, "\n".join([*told, rule])


def test_no_large_files() -> None:
    """A clone stays small: only a worker's model may be larger than a megabyte."""
    told = [
        f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes"
        for path in repository_files()
        if path.stat().st_size > FILE_BYTES_MAX
        and not LARGE_FILES.fullmatch(path.relative_to(ROOT).as_posix())
    ]
    assert not told, "\n".join([*told, "Generate it, or fetch it by digest into the cache."])


@pytest.mark.parametrize("folder", ["home", "root", "Users", "work"])
def test_home_paths_are_recognised(folder: str) -> None:
    """The pattern finds home folders, and leaves other paths alone."""
    assert _HOME.search(f"see '/{folder}/someone/file'")
    assert not _HOME.search(f"docs/{folder}/page.md ${{HOME}}/{folder}/x /app/{folder}")


def readme_tree() -> Block:
    """The README's block under ``<!-- tree -->``."""
    readme = ROOT / "README.md"
    marked = [b for b in blocks(readme, readme.read_text("utf-8")) if b.marker == "tree"]
    assert len(marked) == 1, "README.md must have one fenced block right under `<!-- tree -->`"
    return marked[0]


def test_the_readme_shows_the_real_tree() -> None:
    """Whoever reads the README's tree finds the files there, and finds no others."""
    files = {path.relative_to(ROOT).as_posix() for path in repository_files()}
    told = compare(read_tree(readme_tree().text), files)
    assert not told, "\n".join(told)


SAMPLE = """\
ondemand/
├── README.md · Makefile     first things
├── docs/                    not opened: need only exist
└── src/ondemand/            the package
    ├── errors.py
    └── contract/            WHAT TRAVELS
        └── codec.py
"""

SAMPLE_FILES = {
    ".gitignore",
    "README.md",
    "Makefile",
    "docs/a.md",
    "src/ondemand/__init__.py",
    "src/ondemand/errors.py",
    "src/ondemand/contract/__init__.py",
    "src/ondemand/contract/codec.py",
}


def test_a_true_tree_passes() -> None:
    """Names joined by ``·``, folders that are not opened, hidden files and ``__init__.py``."""
    assert compare(read_tree(SAMPLE), SAMPLE_FILES) == []


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (SAMPLE_FILES - {"src/ondemand/errors.py"}, "src/ondemand/errors.py is not there"),
        (SAMPLE_FILES | {"src/ondemand/new.py"}, "src/ondemand/new.py is missing"),
        (SAMPLE_FILES | {"src/other/a.py"}, "src/other/ is missing"),
        (SAMPLE_FILES | {"setup.py"}, "setup.py is missing"),
        (SAMPLE_FILES - {"docs/a.md"}, "docs/ is not there"),
    ],
)
def test_a_false_tree_is_told(files: set[str], text: str) -> None:
    """A name too many and a name too few are both found, at each level that is shown."""
    told = compare(read_tree(SAMPLE), files)
    assert len(told) == 1
    assert text in told[0]


def test_the_sample_is_written_as_documented() -> None:
    """CONTRIBUTING.md describes the format of the tree that is checked here."""
    assert "<!-- tree -->" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")
