"""Field masks: which part of an answer is wanted, which part of an object is written."""

from collections.abc import Mapping
from typing import Any

Tree = dict[str, "Tree"]  # an empty one is everything below


class MaskError(ValueError):
    """The text is no field mask."""


def parse(text: str) -> Tree:
    """`a,b.c,d(e,f/g)` and `*`."""
    tree, at = _list(text, 0)
    if at != len(text):
        raise MaskError(text)
    return tree


def _list(text: str, at: int) -> tuple[Tree, int]:
    tree: Tree = {}
    while True:
        names: list[str] = []
        sub: Tree = {}
        while True:
            start = at
            while at < len(text) and (text[at].isalnum() or text[at] in "_*"):
                at += 1
            if start == at:
                raise MaskError(text)
            names.append(text[start:at])
            if at < len(text) and text[at] in "./":
                at += 1
                continue
            break
        if at < len(text) and text[at] == "(":
            sub, at = _list(text, at + 1)
            if at >= len(text) or text[at] != ")":
                raise MaskError(text)
            at += 1
        _graft(tree, names, sub)
        if at < len(text) and text[at] == ",":
            at += 1
            while at < len(text) and text[at] == " ":
                at += 1
            continue
        return tree, at


def _graft(tree: Tree, names: list[str], sub: Tree) -> None:
    for name in names[:-1]:
        known = name in tree
        below = tree.setdefault(name, {})
        if known and not below:
            return  # all of it is wanted already
        tree = below
    last = names[-1]
    if last in tree and (not tree[last] or not sub):
        tree[last] = {}
    elif last in tree:
        for name, below in sub.items():
            _graft(tree[last], [name], below)
    else:
        tree[last] = sub


def everything(tree: Tree) -> bool:
    return not tree or ("*" in tree and not tree["*"])


def cut(value: object, tree: Tree) -> object:
    """The part of an answer that the mask names."""
    if everything(tree):
        return value
    match value:
        case list():
            return [cut(item, tree) for item in value]
        case dict():
            wanted = tree.get("*")
            return {
                name: cut(item, tree.get(name, wanted or {}))
                for name, item in value.items()
                if name in tree or wanted is not None
            }
        case _:
            return value


def merge(old: Mapping[str, Any], new: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    """`old` with the fields of the mask taken from `new`; one that `new` lacks is cleared."""
    if everything(tree):
        return dict(new)
    merged = dict(old)
    for name, below in tree.items():
        if name not in new and (everything(below) or name not in old):
            merged.pop(name, None)
        elif everything(below):
            merged[name] = new[name]
        else:
            inner, given = merged.get(name, {}), new.get(name, {})
            if isinstance(inner, Mapping) and isinstance(given, Mapping):
                kept = merge(inner, given, below)
                if kept:
                    merged[name] = kept
                else:
                    merged.pop(name, None)
    return merged
