"""The shape of the code base: what may import what, and what a file may be called. DESIGN's four rings, kept by reading imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
MODULES = {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}

RINGS = ("policy", "plan", "enforce", "session", "frontends")  # from the inside out
PURE = ("policy", "plan")
IMPURE = {
    "_io", "_posixsubprocess", "_socket", "asyncio", "concurrent", "ctypes", "_ctypes", "datetime", "fcntl", "glob", "io",
    "locale", "logging", "mmap", "multiprocessing", "nt", "os", "pathlib", "platform", "posix", "pwd", "random", "resource",
    "secrets", "select", "selectors", "shutil", "signal", "_signal", "socket", "sqlite3", "ssl", "subprocess", "sys", "tempfile",
    "threading", "_thread", "time", "urllib", "uuid",
}  # fmt: skip
IMPURE_CALLS = {"open", "input", "print", "__import__", "exec", "eval"}
INNERMOST = {"houseroom", "houseroom.errors", "houseroom.policy.record"}  # any ring may import these
UNTELLING = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
LONGEST = 500


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, at any depth; names taken from a package count as its modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides its ring"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def running_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The same without what stands under ``if TYPE_CHECKING``: that never runs."""

    class WithoutTypes(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return [self.visit(child) for child in node.orelse] or None
            return self.generic_visit(node)

    yield from imports(WithoutTypes().visit(ast.parse(ast.unparse(tree))))


def ring(module: str) -> str:
    """``houseroom/plan/facts.py`` and ``houseroom.plan.facts`` are both in ``plan``; what is in no ring is ''."""
    parts = module.removesuffix(".py").replace("/", ".").split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "houseroom" and parts[1] in RINGS else ""


def outward(module: str, tree: ast.AST) -> list[str]:
    here = ring(module)
    if not here:
        return []
    return [
        f"{module}:{line}: {here} imports {name}"
        for line, name in imports(tree)
        if ring(name) and RINGS.index(ring(name)) > RINGS.index(here)
    ]


def impure(module: str, tree: ast.Module) -> list[str]:
    if ring(module) not in PURE:
        return []
    found = [f"{module}:{line}: imports {name}" for line, name in running_imports(tree) if name.partition(".")[0] in IMPURE]
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    return found + [f"{module}:{node.lineno}: calls {node.func.id}" for node in calls if node.func.id in IMPURE_CALLS]  # type: ignore[attr-defined]


def crossing(module: str, tree: ast.AST) -> list[str]:
    """A backend is a directory in ``enforce``; two of them never meet."""
    parts = module.split("/")
    if parts[:2] != ["houseroom", "enforce"] or len(parts) < 4:
        return []
    backends = {path.name for path in (SOURCE / "houseroom/enforce").iterdir() if path.is_dir() and path.name != "__pycache__"}
    others = backends - {parts[2]}
    return [
        f"{module}:{line}: imports {name}"
        for line, name in imports(tree)
        if name.startswith("houseroom.enforce.") and name.split(".")[2] in others
    ]


def raw_calls(module: str, tree: ast.AST) -> list[str]:
    if module.endswith("_sys.py"):
        return []
    return [
        f"{module}:{line}: imports {name}"
        for line, name in imports(tree)
        if name.partition(".")[0] in {"ctypes", "_ctypes", "cffi", "_cffi_backend"}
    ]


@pytest.mark.parametrize("check", [outward, impure, crossing, raw_calls])
def test_the_code_base_keeps(check) -> None:  # type: ignore[no-untyped-def]
    assert MODULES, f"no module under {SOURCE}"
    assert [finding for module, tree in MODULES.items() for finding in check(module, tree)] == []


@pytest.mark.parametrize(
    ("check", "module", "text"),
    [
        (outward, "houseroom/policy/model.py", "from houseroom.plan import facts"),
        (outward, "houseroom/enforce/linux/mounts.py", "def f():\n    import houseroom.session.life"),
        (outward, "houseroom/plan/steps.py", "from houseroom import enforce"),
        (impure, "houseroom/policy/model.py", "import os.path"),
        (impure, "houseroom/plan/seccomp.py", "def f():\n    from time import time"),
        (impure, "houseroom/policy/parse.py", "text = open('policy.toml')"),
        (crossing, "houseroom/enforce/windows_made_up/x.py", "from houseroom.enforce.linux import mounts"),
        (raw_calls, "houseroom/enforce/linux/mounts.py", "import ctypes.util"),
    ],
)
def test_each_check_finds_its_fault(check, module: str, text: str) -> None:  # type: ignore[no-untyped-def]
    assert check(module, ast.parse(text)) != []


def test_what_only_types_need_is_no_impurity() -> None:
    assert impure("houseroom/plan/x.py", ast.parse("if TYPE_CHECKING:\n    from pathlib import Path")) == []


def test_the_innermost_modules_import_nothing_of_ours_but_each_other() -> None:
    for name in INNERMOST - {"houseroom"}:
        tree = MODULES[name.replace(".", "/") + ".py"]
        ours = {found for _, found in running_imports(tree) if found.startswith("houseroom")}
        assert {
            found for found in ours if not any(found == inner or found.startswith(f"{inner}.") for inner in INNERMOST - {"houseroom"})
        } == set()


def test_no_module_outgrows_its_reader() -> None:
    """More than 500 lines need a line ``# Long because …`` or the same in the docstring, near the top."""
    long = {}
    for module in MODULES:
        lines = (SOURCE / module).read_text(encoding="utf-8").splitlines()
        if len(lines) > LONGEST and not any("long because" in line.lower() for line in lines[:20]):
            long[module] = len(lines)
    assert long == {}


def test_file_names_tell_what_is_inside() -> None:
    words = {module: set(part.removesuffix(".py").split("_")) for module in MODULES for part in module.split("/")}
    assert {module: found for module, parts in words.items() if (found := parts & UNTELLING)} == {}
