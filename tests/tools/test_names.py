"""One word per idea (ADR 010): nothing is defined under a word that was given up, no class or alias twice."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "hashshield"

_WORDS = """
Search Found _Walk _Advance sure streak looks undone settled exposed _lost _LOST escape escaping
Aim Wanted stack Mark aim_for aim_elsewhere kept ahead spare own others fixed turned
Budget Room lanes PIECE Gate _gathering _averaging _transferring gathered seen hidden toned
apply opaque drawn stored upright Look Viewed looks_of look Tools _Flow aware Reread read_again judge
statement testify here searched already hint asked_for held_back between Strip faults place
kept_photo any_network TURNS Patience UselessSource InterruptedSource bring require strangers meant Begun _Errand
Asked Stage Shelf Pool Shown Judge ASKING VEILS BEFORE INSIDE rival
Sink spread shown closing numbers Service served enter
"""
GIVEN_UP = frozenset(_WORDS.split())
"""The left column of the table of ADR 010's step: words for several ideas, or one of several for the same."""

EXCEPTIONS = frozenset(
    {
        ("checkpoints/card.py", "hidden"),  # a key of checkpoint cards
        ("training/recipe.py", "hidden"),  # a key of recipes
        ("storage/schema.py", "kept"),  # a column of the ledger
    }
)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def definitions(tree: ast.Module) -> Iterator[str]:
    """Yield the names of classes, functions, parameters, fields and of what a module or class defines."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, *_FUNCTIONS)):
            yield node.name
        if isinstance(node, (ast.Lambda, *_FUNCTIONS)):
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            yield from (argument.arg for argument in named if argument is not None)
        if isinstance(node, (ast.Module, ast.ClassDef)):
            yield from assigned(node)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def assigned(scope: ast.Module | ast.ClassDef) -> Iterator[str]:
    for statement in scope.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            for name in ast.walk(target) if target is not None else ():
                if isinstance(name, ast.Name):
                    yield name.id


def aliases(tree: ast.Module) -> Iterator[str]:
    """Yield the type aliases of a module: `Name = Something[...]`, `Name = One | Other`, `Name: TypeAlias = ...`."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation):
            yield ast.unparse(node.target)
        elif isinstance(node, ast.Assign) and isinstance(node.value, (ast.Subscript, ast.BinOp)):
            name = ast.unparse(node.targets[0])
            if name[:1].isupper() and not name.isupper():
                yield name


def modules() -> dict[str, ast.Module]:
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def given_up(trees: dict[str, ast.Module]) -> list[tuple[str, str]]:
    found = [(name, Path(name).stem) for name in trees if Path(name).stem in GIVEN_UP]
    found += [(name, word) for name, tree in trees.items() for word in definitions(tree) if word in GIVEN_UP]
    return sorted(set(found) - EXCEPTIONS)


def twice(names: dict[str, list[str]]) -> dict[str, list[str]]:
    where = defaultdict(list)
    for module, defined in names.items():
        for name in defined:
            where[name].append(module)
    # Private names are a module's own.
    return {name: places for name, places in where.items() if len(places) > 1 and not name.startswith("_")}


def classes(tree: ast.Module) -> list[str]:
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def test_nothing_is_defined_under_a_word_given_up() -> None:
    assert given_up(modules()) == []


def test_no_class_has_the_name_of_another() -> None:
    assert twice({module: classes(tree) for module, tree in modules().items()}) == {}


def test_no_alias_is_defined_twice() -> None:
    assert twice({module: list(aliases(tree)) for module, tree in modules().items()}) == {}


def test_planted_names_are_found() -> None:
    planted = """
class Aim:
    kept: int

    def __init__(self, toned):
        self.opaque = toned


async def judge(*looks, meant=None, **own): ...


Stage = VEILS = 1
Bits = NDArray[np.int8]
view = lambda seen: seen
"""
    trees = {"enter.py": ast.parse(planted), "other.py": ast.parse("class Aim: ...\nBits: TypeAlias = int")}
    assert {word for _, word in given_up(trees)} == {
        "enter", "Aim", "kept", "toned", "opaque", "judge", "looks", "meant", "own", "Stage", "VEILS", "seen",
    }  # fmt: skip
    assert twice({module: classes(tree) for module, tree in trees.items()}) == {"Aim": ["enter.py", "other.py"]}
    assert twice({module: list(aliases(tree)) for module, tree in trees.items()}) == {"Bits": ["enter.py", "other.py"]}


def test_no_exception_is_needless() -> None:
    trees = modules()
    there = {(name, word) for name, tree in trees.items() for word in definitions(tree)}
    assert there >= EXCEPTIONS
