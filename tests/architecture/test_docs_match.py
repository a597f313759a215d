"""What the documentation says is so: links lead somewhere, names exist, code compiles, and each
command line is one that the program takes.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from architecture.commands import CommandLine, check_command, command_lines
from architecture.sources import PACKAGE, repository_files
from documents import ROOT, Block, all_blocks, anchors, blocks, documents, inline_code, links

_REFERENCE = re.compile(r"^(?P<path>[\w./-]+\.py):(?P<name>[A-Za-z_][\w.]*)$")
_PATH = re.compile(r"^(?:src|tests|docs|broker|workers|bench)/[\w./-]+\.\w+$")
_TARGET = re.compile(r"^([A-Za-z][\w-]*):", flags=re.MULTILINE)

DOCUMENTS = documents()


def relative(path: Path) -> str:
    """How a document is named in a test's id."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(path: Path) -> None:
    """A link within the repository leads to a file that is there, and to a heading that it has."""
    told = []
    for line, target in links(path.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        aim = (path.parent / name).resolve() if name else path
        if not aim.exists() or not aim.is_relative_to(ROOT):
            told.append(f"{relative(path)}:{line}: {target} leads nowhere")
        elif anchor and anchor not in anchors(aim.read_text("utf-8")):
            told.append(f"{relative(path)}:{line}: {relative(aim)} has no heading #{anchor}")
    assert not told, "\n".join(told)


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_named_code_exists(path: Path) -> None:
    """`file.py:name` names a function, class or method that is there; `docs/x.md`, a file."""
    told = []
    for line, code in inline_code(path.read_text("utf-8")):
        reference = _REFERENCE.match(code)
        if reference and reference["name"] not in defined(reference["path"]):
            told.append(f"{relative(path)}:{line}: {code} does not exist")
        elif _PATH.match(code) and not (ROOT / code).exists():
            told.append(f"{relative(path)}:{line}: {code} is not there")
    assert not told, "\n".join(told)


def defined(name: str) -> set[str]:
    """What the file defines: functions, classes, methods as ``Class.method``, constants.

    The path counts from the repository's root, or from the package: ``processor/loop.py``.
    """
    for path in (ROOT / name, PACKAGE / name):
        if path.is_file():
            return set(_definitions(ast.parse(path.read_text("utf-8")).body, ""))
    return set()


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id
        elif isinstance(node, ast.Assign):
            yield from (prefix + aim.id for aim in node.targets if isinstance(aim, ast.Name))


def test_python_snippets_compile() -> None:
    """A Python snippet is a program: it compiles, also where it awaits outside a function."""
    for block in all_blocks():
        if block.language == "python":
            compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def commands() -> list[CommandLine]:
    """Every command line of the documentation."""
    return [line for block in all_blocks() for line in command_lines(block)]


def test_commands_are_taken() -> None:
    """Each ``ondemand …`` in a console block names a subcommand and options that exist."""
    told = [f"{line}: {error}" for line in commands() if (error := check_command(line.words))]
    assert not told, "\n".join(told)


def test_make_targets_exist() -> None:
    """Each ``make …`` in a console block, or as `make …` in the text, names a target."""
    named = {
        line.words[1] for line in commands() if line.words[0] == "make" and len(line.words) > 1
    }
    for path in DOCUMENTS:
        spans = (code.split() for _, code in inline_code(path.read_text("utf-8")))
        named |= {words[1] for words in spans if len(words) > 1 and words[0] == "make"}
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text("utf-8")))
    assert not (missing := named - targets), f"the Makefile has no target {sorted(missing)}"


def test_the_makefile_is_told_about() -> None:
    """Every target of the Makefile is named in README.md or CONTRIBUTING.md."""
    told = (ROOT / "README.md").read_text("utf-8") + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    public = set(_TARGET.findall((ROOT / "Makefile").read_text("utf-8")))
    missing = sorted(name for name in public if f"make {name}" not in told)
    assert not missing, f"nobody is told about `make` {missing}: describe them or delete them"


def glossary() -> list[str]:
    """The terms that docs/glossary.md defines, as its headings and bold words name them."""
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    return re.findall(r"^\*\*(.+?)\*\*", text, flags=re.MULTILINE)


def test_the_glossary_is_sorted_and_says_each_word_once() -> None:
    """A term is found by its first letter, and has one meaning."""
    terms = [term.lower() for term in glossary()]
    assert terms
    assert terms == sorted(set(terms))


def test_the_glossary_has_no_dead_words() -> None:
    """A word that the code does not use is not defined: one concept, one word, in use."""
    code = "\n".join(
        path.read_text("utf-8").lower()
        for path in repository_files()
        if path.is_relative_to(PACKAGE) and path.suffix == ".py"
    )
    dead = [
        term
        for term in glossary()
        if not re.search(re.escape(term.lower()).replace(r"\ ", r"[\s_-]"), code)
    ]
    assert not dead, f"the code never says {dead}: delete them, or use the word in the code"


def test_the_glossary_knows_the_modules_of_the_data_flow() -> None:
    """The words of the data flow are the modules: each step of the processor is explained."""
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8").lower()
    steps = ["decode", "micro-batch", "infer", "encode", "ledger", "correlation", "manifest"]
    assert not (missing := [step for step in steps if step not in text]), missing


def test_every_decision_has_its_measurement_and_its_alternatives() -> None:
    """A decision that does not say what else was possible, or how it was found, is an opinion."""
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    wanted = ("## Decision", "## Measured", "## Alternatives", "**Not doing it")
    told = [
        f"{page.name}: no {part!r}"
        for page in pages
        for part in wanted
        if part not in page.read_text("utf-8")
    ]
    assert pages
    assert not told, "\n".join(told)


def test_blocks_are_read_as_described() -> None:
    """Markers count only right before a fence, longer fences hold shorter ones."""
    text = "<!-- run -->\n```python\nx = 1\n```\n\n````text\n```\n````\n"
    first, second = blocks(ROOT / "README.md", text)
    assert (first.marker, first.language, first.text, first.line) == ("run", "python", "x = 1\n", 3)
    assert (second.marker, second.text) == (None, "```\n")
    with pytest.raises(ValueError, match="never closed"):
        list(blocks(ROOT / "README.md", "```python\nx = 1\n"))


def test_commands_are_read_as_described() -> None:
    """Assignments, pipes and redirections are no part of a command; output is no command."""
    text = "$ ONDEMAND_KAFKA=127.0.0.1:1 ondemand predict digits a.npy > out | head  # note\n7\n"
    block = Block(path=ROOT / "README.md", line=1, language="console", marker=None, text=text)
    words = [line.words for line in command_lines(block)]
    assert words == [("ondemand", "predict", "digits", "a.npy"), ("head",)]


@pytest.mark.parametrize("wrong", ["wroker run x", "worker rnu x", "worker check --no-such x"])
def test_a_false_command_is_told(wrong: str) -> None:
    """A subcommand or an option that does not exist is found."""
    assert check_command(["ondemand", *wrong.split()])
    assert not check_command(["ondemand", "worker", "check", "workers/digits"])
