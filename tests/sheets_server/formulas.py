"""Formulas: rewritten when rows move, and computed as far as the product's own tabs need it.

Computed: literals, `+ - * / ^ & %`, comparisons, references to cells and ranges (other tabs, open
ranges and named ranges included) and the functions in `_FUNCTIONS`. A name that is none of these is
`#NAME?` if Google has no such function either, and `Loading...` (error type LOADING) for those that
are only known by name here, such as QUERY: a test that needs one of them fails visibly. Nothing spills
into neighbouring cells.
"""

import calendar
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from typing import TYPE_CHECKING, Any

from tests.sheets_server import a1, formats
from tests.sheets_server.a1 import Area

if TYPE_CHECKING:
    from tests.sheets_server.book import Book

Now = Callable[[], datetime]
EPOCH = datetime(1899, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error value."""

    type: str
    message: str = ""

    @property
    def text(self) -> str:
        return {
            "DIVIDE_BY_ZERO": "#DIV/0!",
            "N_A": "#N/A",
            "NAME": "#NAME?",
            "NUM": "#NUM!",
            "REF": "#REF!",
            "VALUE": "#VALUE!",
            "NULL_VALUE": "#NULL!",
            "LOADING": "Loading...",
        }.get(self.type, "#ERROR!")


Scalar = None | bool | float | str | Failure
Array = list[list[Scalar]]
Value = Scalar | Array
Node = tuple[Any, ...]

_KNOWN_ELSEWHERE = frozenset(
    re.findall(
        r"\w+",
        """QUERY FILTER SORT SORTN UNIQUE ARRAYFORMULA SPARKLINE IMPORTRANGE INDIRECT OFFSET LET LAMBDA
        MAP BYROW REDUCE SEQUENCE TRANSPOSE REGEXMATCH REGEXEXTRACT REGEXREPLACE SPLIT GOOGLEFINANCE
        IMPORTDATA IMPORTXML HYPERLINK IMAGE SUBTOTAL SUMPRODUCT RANK PERCENTILE MEDIAN""",
    )
)

_REFERENCE = (
    r"(?P<sheet>(?:'(?:[^']|'')+'|[A-Za-z_][A-Za-z0-9_.]*)!)?"
    r"(?P<ref>\$?[A-Za-z]{1,3}\$?[1-9]\d*(?::\$?[A-Za-z]{1,3}(?:\$?[1-9]\d*)?)?"
    r"|\$?[A-Za-z]{1,3}:\$?[A-Za-z]{1,3}(?:\$?[1-9]\d*)?|\$?[1-9]\d*:\$?[1-9]\d*)(?![\w(!])"
)
_TOKEN = re.compile(
    r"\s*(?:"
    r'(?P<text>"(?:[^"]|"")*")'
    r"|(?P<error>#(?:REF!|N/A|DIV/0!|VALUE!|NAME\?|NUM!|NULL!))"
    rf"|{_REFERENCE}"
    r"|(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<op><=|>=|<>|[-+*/^&=<>%(),;{}])"
    r")"
)
_PIECES = re.compile(rf'(?P<text>"(?:[^"]|"")*")|(?<![\w.]){_REFERENCE}')
_HALF = re.compile(r"(\$?)([A-Za-z]{0,3})(\$?)(\d*)")


# ---------------------------------------------------------------- rewriting


def rewrite(formula: str, change: Callable[[str | None, str], str | None]) -> str:
    """`change(tab's title or None, reference)` gives the whole new reference, None for no change."""

    def replacement(match: re.Match[str]) -> str:
        if match["text"] is not None:
            return match[0]
        title = None if match["sheet"] is None else a1.split(match["sheet"] + "A1")[0]
        return change(title, match["ref"]) or match[0]

    return _PIECES.sub(replacement, formula)


def prefix(title: str | None) -> str:
    return "" if title is None else a1.quoted(title) + "!"


def moved(formula: str, rows: int, columns: int = 0) -> str:
    """As copied `rows` rows down and `columns` to the right: what has no dollar moves along."""

    def half(text: str) -> str:
        dollar, column, fixed, row = _halves(text)
        if column and not dollar:
            column = a1.letters(max(0, a1.number(column) + columns))
        if row and not fixed:
            row = str(max(1, int(row) + rows))
        return f"{dollar}{column}{fixed}{row}"

    def change(title: str | None, reference: str) -> str:
        return prefix(title) + ":".join(map(half, reference.split(":")))

    return rewrite(formula, change) if rows or columns else formula


def shifted(reference: str, rows: bool, start: int, count: int) -> str | None:
    """The reference after `count` rows or columns came at `start` (or went, if negative).

    None: what it referred to is gone.
    """
    halves = [_halves(half) for half in reference.split(":")]
    places = [_place(half, rows) for half in halves]
    if all(place is None for place in places):
        return reference
    first = places[0]
    last = places[-1] if places[-1] is not None else None
    span = _span(first or 0, None if last is None else last + 1, start, count)
    if span is None:
        return None
    top, bottom = span
    new = [None if first is None else top]
    if len(halves) > 1:
        new.append(None if last is None or bottom is None else bottom - 1)
    return ":".join(_spelled(half, place, rows) for half, place in zip(halves, new, strict=True))


def span(first: int, last: int | None, start: int, count: int) -> tuple[int, int | None] | None:
    """A half-open stretch after an insertion or deletion; None if nothing of it is left."""
    return _span(first, last, start, count)


def _span(first: int, last: int | None, start: int, count: int) -> tuple[int, int | None] | None:
    if count >= 0:
        return (
            first + count if first >= start else first,
            None if last is None else last + count if last > start else last,
        )
    end = start - count

    def place(at: int) -> int:
        return at if at <= start else start if at <= end else at + count

    new_first, new_last = place(first), None if last is None else place(last)
    if new_last is not None and new_last <= new_first:
        return None
    return new_first, new_last


def _halves(half: str) -> tuple[str, str, str, str]:
    match = _HALF.fullmatch(half)
    if match is None:
        raise ValueError(half)
    dollar, column, fixed, row = match.groups()
    if not column and dollar and not fixed:  # $5
        return "", "", dollar, row
    return dollar, column, fixed, row


def _place(half: tuple[str, str, str, str], rows: bool) -> int | None:
    _, column, _, row = half
    if rows:
        return int(row) - 1 if row else None
    return a1.number(column) if column else None


def _spelled(half: tuple[str, str, str, str], place: int | None, rows: bool) -> str:
    dollar, column, fixed, row = half
    if place is not None:
        if rows:
            row = str(place + 1)
        else:
            column = a1.letters(place)
    return f"{dollar}{column}{fixed}{row}"


# ---------------------------------------------------------------- parsing


class _Broken(Exception):
    """No formula."""


@lru_cache(maxsize=4096)
def _parse(formula: str) -> Node:
    tokens: list[tuple[str, str]] = []
    at, text = 0, formula.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _Broken(formula)
        at = match.end()
        if match["ref"] is not None:
            tokens.append(("ref", (match["sheet"] or "") + match["ref"]))
        else:
            kind = match.lastgroup or ""
            tokens.append((kind, match[kind]))
    parser = _Parser(tokens)
    node = parser.compare()
    if parser.tokens:
        raise _Broken(formula)
    return node


def well_formed(formula: str) -> bool:
    """Whether it can be read; not whether its functions exist."""
    try:
        _parse(formula.removeprefix("="))
    except _Broken:
        return False
    return True


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens[::-1]

    def peek(self) -> str:
        return self.tokens[-1][1] if self.tokens and self.tokens[-1][0] == "op" else ""

    def take(self, *expected: str) -> str:
        if not self.tokens or (expected and self.peek() not in expected):
            raise _Broken
        return self.tokens.pop()[1]

    def binary(self, operators: tuple[str, ...], below: Callable[[], Node]) -> Node:
        node = below()
        while self.peek() in operators:
            node = ("op", self.take(), node, below())
        return node

    def compare(self) -> Node:
        return self.binary(("=", "<>", "<", ">", "<=", ">="), self.join)

    def join(self) -> Node:
        return self.binary(("&",), self.sum)

    def sum(self) -> Node:
        return self.binary(("+", "-"), self.product)

    def product(self) -> Node:
        return self.binary(("*", "/"), self.power)

    def power(self) -> Node:
        return self.binary(("^",), self.sign)

    def sign(self) -> Node:
        if self.peek() in ("-", "+"):
            return ("sign", self.take(), self.sign())
        node = self.atom()
        while self.peek() == "%":
            self.take()
            node = ("op", "/", node, ("value", 100.0))
        return node

    def atom(self) -> Node:
        if not self.tokens:
            raise _Broken
        kind, text = self.tokens.pop()
        match kind:
            case "text":
                return ("value", text[1:-1].replace('""', '"'))
            case "number":
                return ("value", float(text))
            case "error":
                types = {"#REF!": "REF", "#N/A": "N_A", "#DIV/0!": "DIVIDE_BY_ZERO"}
                return ("value", Failure(types.get(text, "VALUE")))
            case "ref":
                title, rest = a1.split(text)
                return ("ref", title, a1.area(rest.replace("$", "")))
            case "name" if self.peek() == "(":
                self.take("(")
                return ("call", text.upper(), self.arguments(")"))
            case "name" if text.upper() in ("TRUE", "FALSE"):
                return ("value", text.upper() == "TRUE")
            case "name":
                return ("name", text)
        if text == "(":
            node = self.compare()
            self.take(")")
            return node
        if text == "{":
            while self.peek() != "}":
                self.take()
            self.take("}")
            return ("call", "ARRAYFORMULA", [])
        raise _Broken

    def arguments(self, end: str) -> list[Node]:
        arguments: list[Node] = []
        while self.peek() != end:
            if self.peek() == ",":
                arguments.append(("value", None))
            else:
                arguments.append(self.compare())
            if self.peek() != end:
                self.take(",")
                if self.peek() == end:
                    arguments.append(("value", None))
        self.take(end)
        return arguments


# ---------------------------------------------------------------- computing


@dataclass(frozen=True, slots=True)
class _Range:
    sheet: int
    area: Area


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Calculator:
    """The values of one version of a spreadsheet, computed when asked."""

    def __init__(self, book: "Book", now: Now) -> None:
        self._tabs = {tab.id: tab for tab in book.tabs}
        self._titles = {tab.title.lower(): tab.id for tab in book.tabs}
        self._named = {item["name"].lower(): item["range"] for item in book.named_ranges}
        self._now = now()
        self._known: dict[tuple[int, int, int], Scalar] = {}
        self._columns: dict[_Range, list[Scalar]] = {}
        self._index: dict[_Range, dict[object, list[int]]] = {}

    def cell(self, sheet: int, row: int, column: int) -> Scalar:
        tab = self._tabs[sheet]
        if row >= len(tab.rows):
            return None
        entered = tab.rows[row].get(column, {}).get("userEnteredValue")
        if not entered:
            return None
        ((kind, value),) = entered.items()
        match kind:
            case "numberValue":
                return float(value)
            case "formulaValue":
                pass
            case "errorValue":
                return Failure(value.get("type", "ERROR"))
            case _:
                return value  # type: ignore[no-any-return]  # a bool or a text
        key = (sheet, row, column)
        if key not in self._known:
            self._known[key] = Failure("REF", "Circular dependency detected.")
            self._known[key] = self._compute(str(value), sheet)
        return self._known[key]

    def _compute(self, formula: str, sheet: int) -> Scalar:
        try:
            result = self._evaluate(_parse(formula[1:]), sheet)
            if isinstance(result, _Range):
                result = self._array(result)
            while isinstance(result, list):
                result = result[0][0] if result and result[0] else None
        except _Failed as error:
            return error.failure
        except _Broken:
            return Failure("ERROR", "Formula parse error.")
        except RecursionError:
            return Failure("ERROR", "Too deep.")
        return 0.0 if result is None else result

    def _evaluate(self, node: Node, sheet: int) -> Value | _Range:
        match node:
            case ("value", value):
                return value  # type: ignore[no-any-return]  # a scalar
            case ("ref", title, area):
                target = sheet if title is None else self._titles.get(title.lower())
                if target is None:
                    return Failure("REF", f"Unresolved sheet name '{title}'.")
                return _Range(target, area)
            case ("name", name):
                named = self._named.get(name.lower())
                if named is None:
                    return Failure("NAME", f"Unknown range name: '{name.upper()}'.")
                return _Range(
                    int(named.get("sheetId", 0)),
                    Area(
                        named.get("startRowIndex", 0),
                        named.get("startColumnIndex", 0),
                        named.get("endRowIndex"),
                        named.get("endColumnIndex"),
                    ),
                )
            case ("sign", sign, inner):
                number = _number(self._scalar(inner, sheet))
                return -number if sign == "-" else number
            case ("op", operator, left, right):
                return _operate(operator, self._scalar(left, sheet), self._scalar(right, sheet))
            case ("call", name, arguments):
                return self._call(name, arguments, sheet)
        raise _Broken

    def _scalar(self, node: Node, sheet: int) -> Scalar:
        value = self._evaluate(node, sheet)
        if isinstance(value, _Range):
            area = self._closed(value)
            return self.cell(value.sheet, area.top, area.left)
        while isinstance(value, list):
            value = value[0][0] if value and value[0] else None
        return value

    def _closed(self, range: _Range) -> Area:
        tab = self._tabs.get(range.sheet)
        if tab is None:
            raise _Failed(Failure("REF"))
        return range.area.within(tab.row_count, tab.column_count)

    def _array(self, value: Value | _Range) -> Array:
        if isinstance(value, _Range):
            area = self._closed(value)
            rows = min(area.bottom or 0, len(self._tabs[value.sheet].rows))
            return [
                [
                    self.cell(value.sheet, row, column)
                    for column in range(area.left, area.right or 0)
                ]
                for row in range(area.top, rows)
            ]
        return value if isinstance(value, list) else [[value]]

    def _flat(self, value: Value | _Range) -> list[Scalar]:
        """All cells in order; those of a range are remembered."""
        if not isinstance(value, _Range):
            return [item for row in self._array(value) for item in row]
        if value not in self._columns:
            self._columns[value] = [item for row in self._array(value) for item in row]
        return self._columns[value]

    def _call(self, name: str, arguments: list[Node], sheet: int) -> Value | _Range:
        match name:
            case "IF":
                test = _truth(self._scalar(arguments[0], sheet))
                chosen = arguments[1:2] if test else arguments[2:3]
                return self._evaluate(chosen[0], sheet) if chosen else test
            case "IFERROR" | "IFNA":
                try:
                    value = self._scalar(arguments[0], sheet)
                except _Failed as error:
                    value = error.failure
                failed = isinstance(value, Failure) and (name == "IFERROR" or value.type == "N_A")
                if isinstance(value, Failure) and value.type == "LOADING":
                    return value
                if not failed:
                    return value
                return self._evaluate(arguments[1], sheet) if len(arguments) > 1 else ""
        function = _FUNCTIONS.get(name)
        if function is None:
            if name in _KNOWN_ELSEWHERE:
                raise _Failed(Failure("LOADING", f"{name} is not computed here."))
            raise _Failed(Failure("NAME", f"Unknown function: '{name}'."))
        evaluated = [self._evaluate(argument, sheet) for argument in arguments]
        for argument in evaluated:
            if isinstance(argument, Failure):
                raise _Failed(argument)
        try:
            return function(self, evaluated)
        except (IndexError, OverflowError, TypeError, ValueError):
            raise _Failed(Failure("N_A", "Wrong number of arguments")) from None

    def one(self, value: Value | _Range) -> Scalar:
        """A single value of an argument."""
        if isinstance(value, _Range):
            area = self._closed(value)
            return self.cell(value.sheet, area.top, area.left)
        while isinstance(value, list):
            value = value[0][0] if value and value[0] else None
        if isinstance(value, Failure):
            raise _Failed(value)
        return value

    def matching(self, arguments: list[Value | _Range]) -> list[int]:
        """Which places of the ranges fit: `range, criterion, range, criterion, …`."""
        found: set[int] | None = None
        for where, criterion in zip(arguments[::2], arguments[1::2], strict=True):
            places = self._places(where, self.one(criterion))
            found = places if found is None else found & places
        return sorted(found or ())

    def _places(self, where: Value | _Range, criterion: Scalar) -> set[int]:
        cells = self._flat(where)
        if isinstance(where, _Range):
            plain = _plain(criterion)
            if plain is not None:
                if where not in self._index:
                    index: dict[object, list[int]] = {}
                    for place, cell in enumerate(cells):
                        index.setdefault(_folded(cell), []).append(place)
                    self._index[where] = index
                return {place for value in plain for place in self._index[where].get(value, ())}
        fits = _criterion(criterion)
        return {place for place, cell in enumerate(cells) if fits(cell)}

    @property
    def today(self) -> float:
        return float(int(serial(self._now)))

    @property
    def moment(self) -> float:
        return serial(self._now)


def serial(moment: datetime) -> float:
    """Days since 1899-12-30, of the spreadsheet's clock, which is UTC here."""
    return (moment - EPOCH) / timedelta(days=1)


def shown(value: Scalar) -> object:
    """As `UNFORMATTED_VALUE` has it."""
    match value:
        case Failure():
            return value.text
        case float() if value.is_integer() and abs(value) < 1e15:
            return int(value)
        case _:
            return value


def _number(value: Scalar) -> float:
    match value:
        case None:
            return 0.0
        case Failure():
            raise _Failed(value)
        case bool() | float() | int():
            return float(value)
        case str():
            try:
                return float(value)
            except ValueError:
                raise _Failed(
                    Failure("VALUE", f"'{value}' is a text and cannot be coerced to a number.")
                ) from None


def _truth(value: Scalar) -> bool:
    match value:
        case str() if value.upper() in ("TRUE", "FALSE"):
            return value.upper() == "TRUE"
        case str() if not value:
            return False
    return _number(value) != 0


def _text(value: Scalar) -> str:
    match value:
        case None:
            return ""
        case Failure():
            raise _Failed(value)
        case bool():
            return "TRUE" if value else "FALSE"
        case float() | int():
            return formats.general(float(value))
        case str():
            return value


def _rank(value: Scalar) -> tuple[int, float | str]:
    match value:
        case bool():
            return (2, float(value))
        case str():
            return (1, value.lower())
        case _:
            return (0, _number(value))


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": eq,
    "<>": ne,
    "<": lt,
    ">": gt,
    "<=": le,
    ">=": ge,
}


def _operate(operator: str, left: Scalar, right: Scalar) -> Scalar:
    for side in (left, right):
        if isinstance(side, Failure):
            raise _Failed(side)
    match operator:
        case "&":
            return _text(left) + _text(right)
        case "+":
            return _number(left) + _number(right)
        case "-":
            return _number(left) - _number(right)
        case "*":
            return _number(left) * _number(right)
        case "/":
            if not _number(right):
                raise _Failed(
                    Failure("DIVIDE_BY_ZERO", "Function DIVIDE parameter 2 cannot be zero.")
                )
            return _number(left) / _number(right)
        case "^":
            return float(_number(left) ** _number(right))
    if left is None and isinstance(right, str):
        left = ""
    if right is None and isinstance(left, str):
        right = ""
    a, b = _rank(left), _rank(right)
    return _COMPARE[operator](a, b)


def _folded(cell: Scalar) -> object:
    match cell:
        case bool():
            return ("bool", cell)
        case float() | int():
            return float(cell)
        case str():
            return cell.lower()
        case _:
            return cell


def _plain(criterion: Scalar) -> list[object] | None:
    """What a criterion that is plain equality finds in an index; None for any other."""
    match criterion:
        case bool():
            return [("bool", criterion)]
        case float() | int():
            return [float(criterion), formats.general(float(criterion))]
        case str() if (
            criterion and criterion[0] not in "<>=" and not any(c in criterion for c in "*?~")
        ):
            try:
                return [float(criterion), criterion.lower()]
            except ValueError:
                return [criterion.lower()]
    return None


def _criterion(criterion: Scalar) -> Callable[[Scalar], bool]:
    match = re.fullmatch(r"(<=|>=|<>|<|>|=)?(.*)", _text(criterion), re.DOTALL)
    operator, wanted = (match[1] or "=", match[2]) if match else ("=", "")
    try:
        number: float | None = float(wanted)
    except ValueError:
        number = None
    if number is not None and operator not in ("=", "<>"):
        limit = number
        compare: dict[str, Callable[[float], bool]] = {
            "<": lambda cell: cell < limit,
            ">": lambda cell: cell > limit,
            "<=": lambda cell: cell <= limit,
            ">=": lambda cell: cell >= limit,
        }
        return lambda cell: (
            isinstance(cell, float) and not isinstance(cell, bool) and compare[operator](cell)
        )
    if operator in ("<", ">", "<=", ">="):
        return lambda cell: isinstance(cell, str) and bool(_operate(operator, cell, wanted))
    pattern = re.compile(
        "".join(
            {"*": ".*", "?": "."}.get(piece, re.escape(piece.removeprefix("~")))
            for piece in re.findall(r"~[*?~]|.", wanted, re.DOTALL)
        ),
        re.IGNORECASE | re.DOTALL,
    )

    def equal(cell: Scalar) -> bool:
        match cell:
            case None:
                return not wanted and operator == "<>"
            case bool():
                return wanted.upper() == _text(cell)
            case float() | int():
                return number is not None and float(cell) == number
            case str():
                return bool(pattern.fullmatch(cell))
            case _:
                return False

    if not wanted and operator == "=":
        return lambda cell: cell is None or cell == ""
    if operator == "<>":
        return (lambda cell: cell is not None) if not wanted else (lambda cell: not equal(cell))
    return equal


_Arguments = list[Value | _Range]


def _numbers(calculator: Calculator, arguments: _Arguments) -> Iterator[float]:
    """The numbers of the arguments; text in a range is skipped, an error is the result."""
    for argument in arguments:
        for cell in calculator._flat(argument):
            match cell:
                case Failure():
                    raise _Failed(cell)
                case bool():
                    continue
                case float() | int():
                    yield float(cell)


def _chosen(calculator: Calculator, arguments: _Arguments) -> list[float]:
    """`values, range, criterion, …`: the numbers of the places that fit."""
    cells = calculator._flat(arguments[0])
    found = []
    for place in calculator.matching(arguments[1:]):
        cell = cells[place] if place < len(cells) else None
        if isinstance(cell, Failure):
            raise _Failed(cell)
        if isinstance(cell, float):
            found.append(cell)
    return found


def _mean(numbers: list[float]) -> float:
    if not numbers:
        raise _Failed(
            Failure("DIVIDE_BY_ZERO", "Evaluation of function AVERAGE caused a divide by zero.")
        )
    return math.fsum(numbers) / len(numbers)


def _date(year: float, month: float, day: float) -> float:
    months = int(year) * 12 + int(month) - 1
    first = datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    return serial(first) + int(day) - 1


def _day(number: float) -> date:
    return (EPOCH + timedelta(days=math.floor(number))).date()


def _months_later(number: float, months: float, *, end: bool) -> float:
    day = _day(number)
    count = day.year * 12 + day.month - 1 + int(months)
    year, month = count // 12, count % 12 + 1
    last = calendar.monthrange(year, month)[1]
    return _date(year, month, last if end else min(day.day, last))


def _round(calculator: Calculator, arguments: _Arguments) -> float:
    number = _number(calculator.one(arguments[0]))
    places = 10 ** int(_number(calculator.one(arguments[1])) if len(arguments) > 1 else 0)
    return math.copysign(math.floor(abs(number) * places + 0.5) / places, number)


def _index(calculator: Calculator, arguments: _Arguments) -> Value:
    array = calculator._array(arguments[0])
    row = int(_number(calculator.one(arguments[1]))) if len(arguments) > 1 else 1
    column = int(_number(calculator.one(arguments[2]))) if len(arguments) > 2 else 0
    if len(arguments) == 2 and len(array) == 1:
        row, column = 1, row
    if row > len(array):
        return None
    cells = array[max(row, 1) - 1]
    return cells[max(column, 1) - 1] if column <= len(cells) else None


def _match(calculator: Calculator, arguments: _Arguments) -> float:
    wanted = calculator.one(arguments[0])
    cells = calculator._flat(arguments[1])
    how = int(_number(calculator.one(arguments[2]))) if len(arguments) > 2 else 1
    found = None
    for place, cell in enumerate(cells):
        if how == 0:
            if _folded(cell) == _folded(wanted):
                return place + 1.0
        elif cell is not None and bool(_operate("<=" if how > 0 else ">=", cell, wanted)):
            found = place
    if found is None:
        raise _Failed(Failure("N_A", f"Did not find value '{_text(wanted)}' in MATCH evaluation."))
    return found + 1.0


def _vlookup(calculator: Calculator, arguments: _Arguments) -> Scalar:
    wanted = _folded(calculator.one(arguments[0]))
    column = int(_number(calculator.one(arguments[2])))
    for row in calculator._array(arguments[1]):
        if _folded(row[0]) == wanted:
            return row[column - 1]
    raise _Failed(Failure("N_A", "Did not find value in VLOOKUP evaluation."))


def _xlookup(calculator: Calculator, arguments: _Arguments) -> Scalar:
    wanted = _folded(calculator.one(arguments[0]))
    results = calculator._flat(arguments[2])
    for place, cell in enumerate(calculator._flat(arguments[1])):
        if _folded(cell) == wanted:
            return results[place] if place < len(results) else None
    if len(arguments) > 3:
        return calculator.one(arguments[3])
    raise _Failed(Failure("N_A", "Did not find value in XLOOKUP evaluation."))


def _sumif(calculator: Calculator, arguments: _Arguments) -> float:
    values = arguments[2] if len(arguments) > 2 else arguments[0]
    return math.fsum(_chosen(calculator, [values, *arguments[:2]]))


def _large(calculator: Calculator, arguments: _Arguments, *, largest: bool) -> float:
    numbers = sorted(_numbers(calculator, arguments[:1]), reverse=largest)
    place = int(_number(calculator.one(arguments[1])))
    if not 1 <= place <= len(numbers):
        raise _Failed(Failure("NUM", f"Function LARGE parameter 2 value {place} is out of range."))
    return numbers[place - 1]


def _ones(calculator: Calculator, arguments: _Arguments) -> list[float]:
    return [_number(calculator.one(argument)) for argument in arguments]


_FUNCTIONS: dict[str, Callable[[Calculator, _Arguments], Value]] = {
    "SUM": lambda c, a: math.fsum(_numbers(c, a)),
    "COUNT": lambda c, a: float(len(list(_numbers(c, a)))),
    "COUNTA": lambda c, a: float(sum(x is not None for item in a for x in c._flat(item))),
    "COUNTBLANK": lambda c, a: float(sum(x in (None, "") for item in a for x in c._flat(item))),
    "AVERAGE": lambda c, a: _mean(list(_numbers(c, a))),
    "MAX": lambda c, a: max(_numbers(c, a), default=0.0),
    "MIN": lambda c, a: min(_numbers(c, a), default=0.0),
    "LARGE": lambda c, a: _large(c, a, largest=True),
    "SMALL": lambda c, a: _large(c, a, largest=False),
    "SUMIF": _sumif,
    "SUMIFS": lambda c, a: math.fsum(_chosen(c, a)),
    "COUNTIF": lambda c, a: float(len(c.matching(a))),
    "COUNTIFS": lambda c, a: float(len(c.matching(a))),
    "MAXIFS": lambda c, a: max(_chosen(c, a), default=0.0),
    "MINIFS": lambda c, a: min(_chosen(c, a), default=0.0),
    "AVERAGEIFS": lambda c, a: _mean(_chosen(c, a)),
    "AND": lambda c, a: all(_truth(c.one(x)) for x in a),
    "OR": lambda c, a: any(_truth(c.one(x)) for x in a),
    "NOT": lambda c, a: not _truth(c.one(a[0])),
    "ISBLANK": lambda c, a: c.one(a[0]) is None,
    "ISNUMBER": lambda c, a: isinstance(c.one(a[0]), float),
    "TRUE": lambda c, a: True,
    "FALSE": lambda c, a: False,
    "NA": lambda c, a: Failure("N_A"),
    "ROUND": _round,
    "ABS": lambda c, a: abs(_ones(c, a)[0]),
    "INT": lambda c, a: float(math.floor(_ones(c, a)[0])),
    "MOD": lambda c, a: math.fmod(*_ones(c, a)[:2]),
    "N": lambda c, a: _number(c.one(a[0])) if not isinstance(c.one(a[0]), str) else 0.0,
    "DIVIDE": lambda c, a: _operate("/", c.one(a[0]), c.one(a[1])),
    "ROW": lambda c, a: float(a[0].area.top + 1) if isinstance(a[0], _Range) else 1.0,
    "COLUMN": lambda c, a: float(a[0].area.left + 1) if isinstance(a[0], _Range) else 1.0,
    "ROWS": lambda c, a: float(len(c._array(a[0]))),
    "INDEX": _index,
    "MATCH": _match,
    "VLOOKUP": _vlookup,
    "XLOOKUP": _xlookup,
    "TODAY": lambda c, a: c.today,
    "NOW": lambda c, a: c.moment,
    "DATE": lambda c, a: _date(*_ones(c, a)[:3]),
    "YEAR": lambda c, a: float(_day(_ones(c, a)[0]).year),
    "MONTH": lambda c, a: float(_day(_ones(c, a)[0]).month),
    "DAY": lambda c, a: float(_day(_ones(c, a)[0]).day),
    "EDATE": lambda c, a: _months_later(*_ones(c, a)[:2], end=False),
    "EOMONTH": lambda c, a: _months_later(*_ones(c, a)[:2], end=True),
    "TEXT": lambda c, a: formats.shown(_number(c.one(a[0])), _text(c.one(a[1]))),
    "CONCATENATE": lambda c, a: "".join(_text(x) for item in a for x in c._flat(item)),
    "TO_TEXT": lambda c, a: _text(c.one(a[0])),
    "EXACT": lambda c, a: _text(c.one(a[0])) == _text(c.one(a[1])),
    "LEN": lambda c, a: float(len(_text(c.one(a[0])))),
    "LEFT": lambda c, a: _text(c.one(a[0]))[: int(_ones(c, a[1:])[0]) if len(a) > 1 else 1],
    "LOWER": lambda c, a: _text(c.one(a[0])).lower(),
    "UPPER": lambda c, a: _text(c.one(a[0])).upper(),
    "TRIM": lambda c, a: " ".join(_text(c.one(a[0])).split()),
}
