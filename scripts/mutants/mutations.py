"""The mutants of a module: those of Cosmic Ray's operators, and one without each statement."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

OPERATORS = [
    *(
        f"ReplaceComparisonOperator_{replaced}"
        for replaced in (
            *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is", "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt"),
            *("Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
        )
    ),
    *(
        f"ReplaceBinaryOperator_{replaced}"
        for replaced in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "BitOr_BitAnd")
    ),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_USub_UAdd", "AddNot"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop"),
    *("ExceptionReplacer", "NumberReplacer", "RemoveDecorator"),
]
"""Of Cosmic Ray's operators: the boundary and the negation of a comparison, and one replacement of any other operator.
The same tests kill what the others make, so those would cost time and find little."""

OUTPUT = ("log.", "print(")
"""Beginnings of statements that are not changed: output is tested where it matters."""


@dataclass(frozen=True)
class Mutant:
    """source: the whole module. line: of the change. diff: its lines before and after."""

    source: str
    line: int
    diff: str


def mutants_of(source: str) -> list[Mutant]:
    """The mutants of the module's functions and classes by line, each once; without those that differ from it in
    signatures only. Constants of the module are not changed: their values are decisions, and tests refer to them."""
    seen = {_executed(source)}
    lines = _lines(source)
    mutants = []
    for mutated in (*_by_operators(source), *_by_deletion(source)):
        try:
            executed = _executed(mutated)
        except SyntaxError:
            continue
        mutant = _mutant(source, mutated)
        if executed not in seen and mutant.line in lines:
            seen.add(executed)
            mutants.append(mutant)
    return sorted(mutants, key=lambda mutant: mutant.line)


def _by_operators(source: str) -> Iterator[str]:
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        for occurrence in count():
            try:
                mutated = mutate_code(source, operator, occurrence)
            except AttributeError:  # ExceptionReplacer of Cosmic Ray 8.7.0, for `except (a.B, C)`
                continue
            if mutated is None:
                break
            yield mutated


def _by_deletion(source: str) -> Iterator[str]:
    """A forgotten step: each statement once as `pass`, except for those whose absence any test notices. Cosmic Ray has
    no operator for it."""
    text = source.encode()  # the parser counts bytes
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and _is_deletable(node):
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            yield (text[:start] + b"pass" + text[end:]).decode()


def _is_deletable(node: ast.stmt) -> bool:
    match node:
        case ast.Expr():
            return not isinstance(node.value, ast.Constant)  # a docstring
        case ast.Assign():
            return not any(isinstance(target, ast.Name) for target in node.targets)
        case _:
            return isinstance(node, ast.AugAssign | ast.Delete | ast.Raise | ast.Return)


def _lines(source: str) -> set[int]:
    """The lines of functions and classes, with their decorators, without those of output."""
    tree = ast.parse(source)
    lines: set[int] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min(part.lineno for part in (node, *node.decorator_list))
            lines.update(range(first, (node.end_lineno or 0) + 1))
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Expr) and ast.unparse(statement).startswith(OUTPUT):
            lines.difference_update(range(statement.lineno, (statement.end_lineno or 0) + 1))
    return lines


def _executed(source: str) -> str:
    """The syntax tree, without annotations and without kinds of parameters."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.arg():
                node.annotation = None
            case ast.arguments():  # Cosmic Ray takes `*` among the parameters for a multiplication
                node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
                node.defaults = [*node.defaults, *(default for default in node.kw_defaults if default)]
                node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                node.returns = None
            case ast.AnnAssign():
                node.annotation = ast.Constant(None)
    return ast.dump(tree)


def _mutant(source: str, mutated: str) -> Mutant:
    before, after = source.splitlines(), mutated.splitlines()
    line = next((n for n, pair in enumerate(zip(before, after, strict=False), 1) if pair[0] != pair[1]), len(after))
    _, _, *changes = difflib.unified_diff(before, after, n=0, lineterm="")
    return Mutant(mutated, line, "".join(f"{change}\n" for change in changes if not change.startswith("@@")))
