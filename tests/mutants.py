"""What a test suite must notice: every row of the tables, every check, every branch of a judge, every error code, changed.

A mutant is made in memory alone: a table is patched, or a function gets the code of its own source with one thing
changed. Nothing is written to a file.
"""

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import CodeType, FunctionType
from unittest import mock

from sqlalchemy import true

from ihe import association_rules, findings, row_engine, rules, structure_rules
from ihe.rule_rows import OPAQUE, TEXT, Place
from registry import actor, query_parameters, stored_queries
from registry import iti18_registry_stored_query as iti18
from registry import iti42_register_document_set_b as iti42
from registry.store import conditions, query_sql
from repository import iti41_provide_and_register_document_set_b as iti41
from repository import iti43_retrieve_document_set as iti43
from repository import iti86_remove_documents as iti86
from repository import registration, retention

__all__ = ["GROUPS", "Mutant", "mutants"]

RULES, REGISTRY, REPOSITORY = "rules", "registry", "repository"
GROUPS = {
    RULES: tuple(
        f"tests/ihe/test_{name}.py"
        for name in ("rules", "rule_rows", "row_engine", "structure_rules", "association_rules", "findings")
    ),
    REGISTRY: (
        "tests/registry/test_query_parameters.py",
        "tests/registry/test_stored_queries.py",
        "tests/registry/test_iti18_registry_stored_query.py",
        "tests/registry/test_iti18_sets_folders_relations.py",
        "tests/registry/test_iti18_parameters.py",
        "tests/registry/test_iti18_versions.py",
        "tests/registry/test_large_answers.py",
        "tests/registry/test_iti51_multi_patient_query.py",
        "tests/registry/test_iti42_register_document_set_b.py",
        "tests/registry/test_iti42_judge.py",
        "tests/registry/test_iti57_update_document_set.py",
        "tests/registry/test_iti61_register_on_demand_document_entry.py",
        "tests/registry/test_iti62_remove_metadata.py",
        "tests/registry/test_iti8_merge.py",
        "tests/registry/test_actor.py",
    ),
    REPOSITORY: (
        "tests/repository/test_iti41_provide_and_register_document_set_b.py",
        "tests/repository/test_iti43_retrieve_document_set.py",
        "tests/repository/test_iti43_many_documents.py",
        "tests/repository/test_iti86_remove_documents.py",
        "tests/repository/test_retention.py",
        "tests/repository/test_registration.py",
    ),
}
"""The tests of each group of mutants."""


@dataclass(frozen=True)
class Mutant:
    """``change`` is entered to make it; ``file`` and ``line`` say what a test must have run, ``hint`` what it may name."""

    name: str
    group: str
    change: Callable[[], AbstractContextManager]
    file: str = ""
    line: int = 0
    hint: str = ""


def mutants() -> list[Mutant]:
    """All of them, in a fixed order; names differ."""
    found = [
        *_rule_rows(),
        *_rule_functions(),
        *_queries(),
        *_conditions(),
        *_changed_code(RULES, structure_rules, ("code", "guard")),
        *_changed_code(RULES, association_rules, ("code", "guard")),
        *_changed_code(RULES, row_engine, ("guard",)),
        *_default_code(),
        *_changed_code(REGISTRY, query_parameters, ("guard",)),
        *_changed_code(REGISTRY, stored_queries, ("code", "guard")),
        *_changed_code(REGISTRY, query_sql, ("guard",), only="_plain_statement"),
        *_changed_code(REGISTRY, iti18, ("code", "guard")),
        *_changed_code(REGISTRY, iti42, ("code", "guard", "check")),
        *_changed_code(REGISTRY, actor, ("code",)),
        *_changed_code(REPOSITORY, iti41, ("code", "guard", "check")),
        *_changed_code(REPOSITORY, iti43, ("code",)),
        *_changed_code(REPOSITORY, iti86, ("code", "guard")),
        *_changed_code(REPOSITORY, retention, ("guard",)),
        *_changed_code(REPOSITORY, registration, ("code",)),
    ]
    return _named_apart(found)


def _named_apart(found: list[Mutant]) -> list[Mutant]:
    seen: dict[str, int] = {}
    out = []
    for one in found:
        seen[one.name] = seen.get(one.name, 0) + 1
        out.append(one if seen[one.name] == 1 else replace(one, name=f"{one.name} ({seen[one.name]})"))
    return out


# ------------------------------------------------------------------------------------------------ tables of rules


def _book(book: rules.RuleBook) -> AbstractContextManager:
    return mock.patch.dict(rules.check.__kwdefaults__, {"rules": book})


def _rule_rows() -> Iterator[Mutant]:
    book = rules.RULES
    for kind, rows in book.rows.items():
        for row in rows:
            for what, changed in _weakened(row):
                others = tuple(changed if one is row else one for one in rows)
                mutated = replace(book, rows={**book.rows, kind: tuple(filter(None, others))})
                name = f"row {kind}.{row.attribute} {what}"
                yield Mutant(name, RULES, partial(_book, mutated), hint=f"{kind}.{row.attribute}")
    for row in book.author_rows:
        for what, changed in _weakened(row):
            others = tuple(changed if one is row else one for one in book.author_rows)
            mutated = replace(book, author_rows=tuple(filter(None, others)))
            yield Mutant(f"row author {row.attribute} {what}", RULES, partial(_book, mutated), hint=row.attribute)


def _weakened(row):
    yield "is removed", None
    if row.how_often in ("1", "0..1") and row.place not in (Place.XML, Place.NAME):  # those cannot stand twice
        yield "may stand often", replace(row, how_often={"1": "1..*", "0..1": "0..*"}[row.how_often])
    if row.how_often.startswith("1"):
        yield "may be missing", replace(row, how_often={"1": "0..1", "1..*": "0..*"}[row.how_often])
    if row.type is not None and row.type not in (TEXT, OPAQUE):  # these refuse what is empty, which is missing already
        yield "takes any value", replace(row, type=None)
    if row.type is not None and row.type.strict is not None:
        yield "is never strict", replace(row, type=replace(row.type, strict=None))
    if row.longest is not None:
        yield "may be long", replace(row, longest=None)
    if row.on_demand is not None:
        yield "is the same on demand", replace(row, on_demand=None)


def _rule_functions() -> Iterator[Mutant]:
    book = rules.RULES
    for function in book.functions:
        mutated = replace(book, functions=tuple(one for one in book.functions if one is not function))
        name = function.__name__
        yield Mutant(f"rule {name} is removed", RULES, partial(_book, mutated), hint=name)


# ------------------------------------------------------------------------------------------------ tables of queries


def _queries() -> Iterator[Mutant]:
    for row in stored_queries.STORED_QUERIES:
        removed = {key: one for key, one in stored_queries.BY_ID.items() if one is not row}
        change = partial(mock.patch.dict, stored_queries.BY_ID, removed, clear=True)
        yield Mutant(f"query {row.query} is removed", REGISTRY, change, hint=row.query)
        yield _query(row, "single_patient is turned", single_patient=not row.single_patient)
        if row.one_of:
            yield _query(row, "takes any of its alternatives", one_of=())
        if row.some_of:
            yield _query(row, "needs nothing that narrows it", some_of=())
        for parameter in row.parameters:
            yield from _parameter(row, parameter)
    for query in stored_queries._STABLE_BY_DEFAULT:
        change = partial(
            mock.patch.object, stored_queries, "_STABLE_BY_DEFAULT", stored_queries._STABLE_BY_DEFAULT - {query}
        )
        yield Mutant(f"query {query} shows every entry type", REGISTRY, change, hint=query)


def _query(row, what, hint=None, **fields) -> Mutant:
    change = partial(mock.patch.dict, stored_queries.BY_ID, {row.id: replace(row, **fields)})
    return Mutant(f"query {row.query} {what}", REGISTRY, change, hint=hint or row.query)


def _parameter(row, parameter) -> Iterator[Mutant]:
    def others(changed):
        return tuple(filter(None, (changed if one is parameter else one for one in row.parameters)))

    hint = parameter.name.removeprefix("$").removeprefix("XDSDocumentEntry")
    name = parameter.name
    yield _query(row, f"{name} is ignored", hint, parameters=others(None))
    yield _query(
        row, f"{name} required is turned", hint, parameters=others(replace(parameter, required=not parameter.required))
    )
    turned = replace(parameter, repeatable=not parameter.repeatable)
    yield _query(row, f"{name} repeatable is turned", hint, parameters=others(turned))


def _conditions() -> Iterator[Mutant]:
    for table in ("ENTRY_CONDITIONS", "SUBMISSION_SET_CONDITIONS", "FOLDER_CONDITIONS"):
        known: Mapping = getattr(conditions, table)
        for attribute in known:
            change = partial(mock.patch.dict, known, {attribute: lambda *_: true()})
            yield Mutant(f"{table} {attribute} is always true", REGISTRY, change, hint=attribute.name)


# ------------------------------------------------------------------------------------------------ code


def _default_code() -> Iterator[Mutant]:
    change = partial(mock.patch.dict, findings.finding.__kwdefaults__, {"code": _other("REGISTRY_METADATA")})
    yield Mutant("findings: finding says another code", RULES, change)


def _other(name: str):
    codes = findings.ErrorCode
    return codes.REGISTRY_BUSY if name != "REGISTRY_BUSY" else codes.REPOSITORY_BUSY


def _changed_code(group: str, module, operators, only: str = "") -> Iterator[Mutant]:
    source = inspect.getsource(module)
    short = module.__name__.rpartition(".")[2].partition("_")[0] if "_b" in module.__name__[-2:] else module.__name__
    for function, node in _functions(module, ast.parse(source)):
        if only and function.__qualname__ != only:
            continue
        for number, (what, line) in enumerate(_sites(node, operators)):
            change = partial(_with_code, function, source, node.lineno, operators, number)
            name = f"{short}: {function.__qualname__}: {what}"
            yield Mutant(name, group, change, module.__file__, line, function.__name__)


def _functions(module, tree: ast.Module) -> Iterator[tuple[FunctionType, ast.FunctionDef]]:
    """Functions and methods of a module with their definitions, those inside other functions belong to the outer one."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield inspect.unwrap(getattr(module, node.name)), node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    found = inspect.getattr_static(getattr(module, node.name), inner.name)
                    yield getattr(found, "fget", None) or getattr(found, "__func__", found), inner


class _Changing(ast.NodeTransformer):
    """Makes change ``number`` of those possible, or only lists them (None)."""

    def __init__(self, operators, number: int | None) -> None:
        self.operators, self.number = operators, number
        self.sites: list[tuple[str, int]] = []

    def _chosen(self, what: str, line: int) -> bool:
        self.sites.append((what, line))
        return self.number == len(self.sites) - 1

    def visit_If(self, node):
        if "guard" in self.operators:
            for word, value in (("never", False), ("always", True)):
                if self._chosen(f"{word} if {ast.unparse(node.test)}", node.test.lineno):
                    node.test = ast.copy_location(ast.Constant(value), node.test)
        return self.generic_visit(node)

    def visit_Attribute(self, node):
        is_code = isinstance(node.value, ast.Name) and node.value.id == "ErrorCode"
        if "code" in self.operators and is_code and self._chosen(f"another code than {node.attr}", node.lineno):
            return ast.copy_location(ast.Attribute(node.value, _other(node.attr).name, node.ctx), node)
        return node

    def visit_FunctionDef(self, node):
        check = "check" in self.operators and any(isinstance(one, ast.Yield | ast.YieldFrom) for one in ast.walk(node))
        first = node.body[1 if ast.get_docstring(node) else 0]
        if check and self._chosen("finds nothing", first.lineno):
            nothing = [ast.Return(ast.Constant(None)), ast.Expr(ast.Yield(ast.Constant(None)))]
            node.body = [ast.copy_location(one, node.body[0]) for one in nothing]
            return ast.fix_missing_locations(node)
        return self.generic_visit(node)


def _sites(node: ast.FunctionDef, operators) -> list[tuple[str, int]]:
    changing = _Changing(operators, None)
    changing.visit(node)
    return changing.sites


@contextmanager
def _with_code(function: FunctionType, source: str, line: int, operators, number: int):
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.lineno == line:
            _Changing(operators, number).visit(node)
    code = _code_at(compile(ast.fix_missing_locations(tree), function.__code__.co_filename, "exec"), function.__code__)
    kept = function.__code__
    function.__code__ = code
    try:
        yield
    finally:
        function.__code__ = kept


def _code_at(code: CodeType, wanted: CodeType) -> CodeType:
    todo = [code]
    while todo:
        one = todo.pop()
        if one.co_qualname == wanted.co_qualname and one.co_firstlineno == wanted.co_firstlineno:
            return one
        todo += [inner for inner in one.co_consts if isinstance(inner, CodeType)]
    raise LookupError(wanted.co_qualname)
