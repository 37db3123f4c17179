"""The house rules that a reader of the code relies on: who may import whom, what stays in which room, how long is long."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "ihe", "atna", "consent", "wire", "registry", "repository", "gateway", "dossier")
RECORD_REPOSITORY = "atna.record_repository"

# Which packages of the house each may import, beside itself. Only leftwards.
MAY_IMPORT = {
    "schemas": set(),
    "ihe": {"schemas"},
    "atna": {"schemas", "ihe"},
    "consent": {"schemas", "ihe"},
    "wire": {"schemas", "ihe", "atna", "consent"},
    "registry": {"schemas", "ihe", "atna", "consent", "wire"},
    "repository": {"schemas", "ihe", "atna", "consent", "wire"},
    "gateway": {"schemas", "ihe", "atna", "consent", "wire"},
    RECORD_REPOSITORY: {"schemas", "ihe", "atna", "consent", "wire"},
    "dossier": {"schemas", "ihe", "atna", "consent", "wire", "registry", "repository", "gateway", RECORD_REPOSITORY},
}
LIBRARY_LIVES_IN = {
    "spyne": ("wire",),
    "uvicorn": ("wire",),
    "starlette": ("wire",),
    "httptools": ("wire",),
    "httpx2": ("wire",),
    "httpcore2": ("wire",),
    "uvloop": ("wire",),
    "OpenSSL": ("wire",),
    "sqlalchemy": ("*.store",),
    "alembic": ("*.store",),
    "psycopg": ("*.store",),
    "sqlite3": ("*.store",),
    "minio": ("*.store",),
    "urllib3": ("*.store",),
    "typer": ("dossier",),
    "rich": ("dossier",),
    "pydantic_settings": ("dossier",),
    "filetype": ("repository",),
    "jinja2": ("atna",),
    "babel": ("atna",),
}
# ihe is pure: bytes and values in, values out.
IMPURE = {"socket", "ssl", "asyncio", "threading", "subprocess", "logging", "structlog", "time", "random", "os", "http"}
LXML_PARSING = {"fromstring", "parse", "XMLParser", "XML", "iterparse", "XMLPullParser", "HTMLParser", "HTML"}
LONGEST_FUNCTION = 60
LONGEST_FILE = 600


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        """The first part of the name; the audit service is a room of its own within atna."""
        return RECORD_REPOSITORY if self.name.startswith(RECORD_REPOSITORY) else self.name.partition(".")[0]

    def imports(self) -> Iterator[tuple[str, int]]:
        """(dotted name, line) of everything imported, ``from a import b`` as ``a.b`` when that is a module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: import packages by their full name"
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    yield (full if full in names() else node.module or "", node.lineno)


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            found.append(Module(name, path, ast.parse(text, str(path)), text.count("\n")))
    return tuple(found)


@cache
def names() -> frozenset[str]:
    return frozenset(
        ".".join((*path.relative_to(ROOT).parts[:-1], path.stem)).removesuffix(".__init__")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    )


def room_of(name: str) -> str:
    return RECORD_REPOSITORY if name.startswith(RECORD_REPOSITORY) else name.partition(".")[0]


def where(module: Module, line: int) -> str:
    return f"{module.path.relative_to(ROOT)}:{line}"


def test_imports_go_only_leftwards():
    wrong = [
        f"{where(module, line)} imports {name}"
        for module in modules()
        for name, line in module.imports()
        if room_of(name) in {*PACKAGES, RECORD_REPOSITORY}
        and room_of(name) != module.room
        and not (module.room == RECORD_REPOSITORY and room_of(name) == "atna")
        and room_of(name) not in MAY_IMPORT[module.room]
    ]
    assert not wrong


def test_there_are_no_cycles():
    graph = {
        module.name: {name for name, _line in module.imports() if name in names() and name != module.name}
        for module in modules()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def test_libraries_stay_where_they_belong():
    def lives_here(module: Module, places: tuple[str, ...]) -> bool:
        return any(
            ".store." in f"{module.name}." if place == "*.store" else module.name.partition(".")[0] == place
            for place in places
        )

    wrong = [
        f"{where(module, line)} imports {name}"
        for module in modules()
        for name, line in module.imports()
        for library, places in LIBRARY_LIVES_IN.items()
        if name.partition(".")[0] == library and not lives_here(module, places)
    ]
    assert not wrong


def test_spyne_is_imported_by_one_module():
    users = {m.name for m in modules() for name, _line in m.imports() if name.partition(".")[0] == "spyne"}
    assert users <= {"wire.spyne_cage"}


def test_the_shared_language_is_pure():
    wrong = [
        f"{where(module, line)} imports {name}"
        for module in modules()
        if module.room == "ihe"
        for name, line in module.imports()
        if name.partition(".")[0] in IMPURE
    ]
    assert not wrong


def test_xml_is_parsed_only_by_the_hardened_parser():
    wrong = []
    for module in modules():
        if module.room == "schemas":
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr in LXML_PARSING and _is_etree(node.value):
                wrong.append(f"{where(module, node.lineno)} uses etree.{node.attr}")
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lxml"):
                wrong += [
                    f"{where(module, node.lineno)} imports {a.name}" for a in node.names if a.name in LXML_PARSING
                ]
        wrong += [
            f"{where(module, line)} imports {name}"
            for name, line in module.imports()
            if name.startswith(("xml.etree", "xml.dom", "xml.parsers", "defusedxml"))
            or (name.startswith("xml.sax") and not name.startswith("xml.sax.saxutils"))
        ]
    assert not wrong


def _is_etree(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id in {"etree", "objectify", "html"}) or (
        isinstance(node, ast.Attribute) and node.attr in {"etree", "objectify", "html"}
    )


def test_actors_see_a_store_only_through_its_protocol():
    """An ``itiNN_*`` file knows what is promised, never how: SQL and files are picked in ``app``."""
    wrong = [
        f"{where(module, line)} imports {name}"
        for module in modules()
        if module.name.rpartition(".")[2].startswith("iti") and module.room in {"registry", "repository"}
        for name, line in module.imports()
        if ".store." in name and not name.endswith(("protocol", ".store.memory"))
    ]
    assert not wrong


def test_no_function_is_longer_than_a_page():
    long = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{where(module, node.lineno)} {node.name}: {length} lines")
    assert not long


def test_no_file_is_longer_than_a_chapter():
    long = [
        f"{module.path.relative_to(ROOT)}: {module.lines} lines" for module in modules() if module.lines > LONGEST_FILE
    ]
    assert not long


def test_every_module_says_what_it_is():
    silent = [
        str(module.path.relative_to(ROOT))
        for module in modules()
        if module.lines and not ast.get_docstring(module.tree)
    ]
    assert not silent


def test_the_wheel_has_every_package():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert sorted(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(PACKAGES)
