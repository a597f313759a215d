"""The files of this repository, and the modules of the package with what they import."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ondemand"


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that git has, or would take: what is ignored is no part of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - any git
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    names = sorted({name for name in listed.split("\0") if name})
    return tuple(ROOT / name for name in names if (ROOT / name).is_file())


def python_files() -> tuple[Path, ...]:
    """Every Python file of the repository: package, workers, tests, benchmarks."""
    return tuple(path for path in repository_files() if path.suffix == ".py")


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of *path*."""
    return ast.parse(path.read_text("utf-8"), filename=str(path))


@cache
def modules() -> dict[str, Path]:
    """The package's modules by dotted name."""
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(path: Path) -> str:
    """``src/ondemand/contract/codec.py`` is ``ondemand.contract.codec``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the full dotted name of everything imported anywhere in *path*.

    ``from a import b`` gives ``a.b``: whether *b* is a module is the reader's question. Relative
    imports are resolved for modules of the package.
    """
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(path, node)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    """The dotted name that an ``import from`` starts at."""
    if not node.level:
        return node.module or ""
    package = module_name(path).split(".")
    kept = len(package) - node.level + (1 if path.name == "__init__.py" else 0)
    return ".".join([*package[:kept], *([node.module] if node.module else [])])


@cache
def own_imports(module: str) -> frozenset[str]:
    """The package's modules that *module* imports, or names in a string (lazy commands,
    ``python -m``). Importing a module runs the packages above it too.
    """
    path = modules()[module]
    named = {name for _, name in imported_names(path)}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.add(node.value.partition(":")[0])
    direct = {found for name in named if (found := _module_of(name))}
    return frozenset(direct - {module})


def _module_of(name: str) -> str | None:
    """The module that an imported name belongs to: itself, or the one that defines it."""
    if name in modules():
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in modules() else None


def with_parents(module: str) -> Iterator[str]:
    """*module* and the packages above it, which are imported before it."""
    while module:
        yield module
        module = module.rpartition(".")[0]


def reachable(entries: set[str]) -> set[str]:
    """Every module that is imported, directly or not, by one of *entries*."""
    seen: set[str] = set()
    waiting = list(entries)
    while waiting:
        for module in with_parents(waiting.pop()):
            if module not in seen:
                seen.add(module)
                waiting.extend(own_imports(module))
    return seen
