"""Rules of style as functions: a source in, complaints out, each saying what to do instead."""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
LINE_LENGTH_MAX = 100
NESTING_MAX = 3
POSITIONAL_MAX = 5

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
_WALL_CLOCKS = {
    "time.time",
    "time.time_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "date.today",
    "datetime.date.today",
}


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file: *path* from the repository's root, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, path: str, text: str) -> "Source":
        """Parse *text*."""
        return cls(path=path, text=text, tree=ast.parse(text, filename=path))


@dataclass(frozen=True, slots=True)
class Complaint:
    """Where a rule is broken. *key* names the place without a line number, for the ratchet;
    *measure* is what the ratchet compares, 1 for rules that measure nothing.
    """

    key: str
    line: int
    text: str
    measure: int = 1

    def __str__(self) -> str:
        return f"{self.key}, line {self.line}: {self.text}"


Rule = Callable[[Source], Iterator[Complaint]]


def functions(source: Source) -> Iterator[tuple[str, FunctionNode]]:
    """Every function and method, with its qualified name."""
    yield from _functions(source.tree.body, "")


def _functions(body: Sequence[ast.AST], prefix: str) -> Iterator[tuple[str, FunctionNode]]:
    for node in body:
        if isinstance(node, FunctionNode):
            name = f"{prefix}{node.name}"
            yield name, node
            yield from _functions(node.body, f"{name}.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{prefix}{node.name}.")
        else:
            yield from _functions(list(ast.iter_child_nodes(node)), prefix)


def short_functions(source: Source) -> Iterator[Complaint]:
    """A function fits one screen."""
    for name, node in functions(source):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
        if lines > FUNCTION_LINES_MAX:
            text = (
                f"{lines} lines without the docstring, at most {FUNCTION_LINES_MAX}. "
                "Give its steps names: one function for each."
            )
            yield Complaint(f"{source.path}:{name}", node.lineno, text, lines)


def _docstring_lines(node: FunctionNode) -> int:
    """How many lines the docstring takes."""
    if ast.get_docstring(node, clean=False) is None:
        return 0
    return (node.body[0].end_lineno or node.body[0].lineno) - node.body[0].lineno + 1


def short_modules(source: Source) -> Iterator[Complaint]:
    """A module is read in one sitting."""
    lines = source.text.count("\n")
    if lines > MODULE_LINES_MAX:
        text = (
            f"{lines} lines, at most {MODULE_LINES_MAX}. Split it along its nouns: "
            "one concept, one module."
        )
        yield Complaint(source.path, 1, text, lines)


def short_lines(source: Source) -> Iterator[Complaint]:
    """A line fits beside another file."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        length = len(_PRAGMA.sub("", line))
        if length > LINE_LENGTH_MAX:
            text = f"{length} characters, at most {LINE_LENGTH_MAX}. Break the line."
            yield Complaint(source.path, number, text, length)


def flat_functions(source: Source) -> Iterator[Complaint]:
    """Conditions and loops do not pile up."""
    for name, node in functions(source):
        depth = max((_depth(child) for child in node.body), default=0)
        if depth > NESTING_MAX:
            text = (
                f"{depth} blocks inside each other, at most {NESTING_MAX}. "
                "Return early, or give the inner block a name of its own."
            )
            yield Complaint(f"{source.path}:{name}", node.lineno, text, depth)


def _depth(node: ast.AST) -> int:
    """How deep blocks lie in *node*. An ``elif`` is no deeper than its ``if``; functions and
    classes inside are measured by themselves.
    """
    if isinstance(node, _FUNCTIONS_AND_CLASSES):
        return 0
    own = 1 if isinstance(node, _BLOCKS) else 0
    inner = 0
    for child in ast.iter_child_nodes(node):
        depth = _depth(child)
        if isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If):
            depth -= 1
        inner = max(inner, depth)
    return own + inner


_FUNCTIONS_AND_CLASSES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def few_positional(source: Source) -> Iterator[Complaint]:
    """A call is readable without the signature at hand."""
    for name, node in functions(source):
        arguments = [*node.args.posonlyargs, *node.args.args]
        if arguments and arguments[0].arg in {"self", "cls"}:
            arguments = arguments[1:]
        is_test = node.name.startswith("test_") or _is_fixture(node)
        if len(arguments) > POSITIONAL_MAX and not is_test:
            text = (
                f"{len(arguments)} positional parameters, at most {POSITIONAL_MAX}. "
                "Put `*` before the rest, or pass one value that holds them."
            )
            yield Complaint(f"{source.path}:{name}", node.lineno, text, len(arguments))


def _is_fixture(node: FunctionNode) -> bool:
    """Whether pytest passes the arguments, by name."""
    return any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)


def no_positional_booleans(source: Source) -> Iterator[Complaint]:
    """``f(x, True)`` says nothing."""
    for name, node in functions(source):
        arguments = [*node.args.posonlyargs, *node.args.args]
        for argument, default in zip(
            arguments[len(arguments) - len(node.args.defaults) :], node.args.defaults, strict=True
        ):
            if isinstance(default, ast.Constant) and isinstance(default.value, bool):
                text = (
                    f"`{argument.arg}` is a positional boolean. Make it keyword-only; "
                    "if it selects a mode, write two functions."
                )
                yield Complaint(f"{source.path}:{name}", node.lineno, text)


def docstrings(source: Source) -> Iterator[Complaint]:
    """Every module, public class and public function says what it is for; every test, what must
    hold. (Methods are checked by ruff.)
    """
    if ast.get_docstring(source.tree) is None:
        text = "no module docstring. Say in one line what belongs here."
        yield Complaint(source.path, 1, text)
    is_test_file = source.path.startswith("tests/")
    for node in source.tree.body:
        public = isinstance(node, _FUNCTIONS_AND_CLASSES) and not node.name.startswith("_")
        if public and ast.get_docstring(node) is None and not is_test_file:
            text = "no docstring. Say shapes, units and the errors it raises."
            yield Complaint(f"{source.path}:{node.name}", node.lineno, text)
    for name, node in functions(source):
        if is_test_file and node.name.startswith("test_") and ast.get_docstring(node) is None:
            text = "no docstring. State the rule that the test checks."
            yield Complaint(f"{source.path}:{name}", node.lineno, text)


def no_wall_clock(source: Source) -> Iterator[Complaint]:
    """The time of day is read at the edges only, and handed on."""
    for node in ast.walk(source.tree):
        if _wall_clock(node):
            text = (
                f"`{ast.unparse(node)}` outside the edges. Take the time as an argument; "
                "for durations use `time.monotonic()` where the waiting is done."
            )
            yield Complaint(source.path, getattr(node, "lineno", 1), text)


def _wall_clock(node: ast.AST) -> bool:
    """Whether *node* names a clock that tells the time of day, to call it or to hand it on."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "time" and any(
            name.name in {"time", "time_ns"} for name in node.names
        )
    return isinstance(node, ast.Attribute) and ast.unparse(node) in _WALL_CLOCKS


def no_print(source: Source) -> Iterator[Complaint]:
    """Only the command line talks to people."""
    for node in ast.walk(source.tree):
        is_print = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
        if is_print:
            text = "`print`. Return the text and let the command line show it, or log an event."
            yield Complaint(source.path, node.lineno, text)


_PRAGMA = re.compile(r"\s*# (?:noqa|type: ignore|fmt:).*$")
_LEFTOVER = re.compile(r"\b(T[O]DO|FIX[M]E|XX[X])\b")


def no_leftovers(source: Source) -> Iterator[Complaint]:
    """What is left to do is not kept in the code."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        found = _LEFTOVER.search(line)
        if found:
            text = f"`{found[0]}`. Do it now, or file it where work is planned and delete it here."
            yield Complaint(source.path, number, text)
