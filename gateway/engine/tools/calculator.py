"""Arithmetic that is right: exact where numbers allow it, and bounded whatever is asked.

An expression is read by the small grammar below and computed on the way; nothing is ever handed to
Python's own compiler. Whole numbers and decimals are fractions, so that 0.1 + 0.2 is 0.3; what has
no exact answer (sin, most roots) continues as a float.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import TypeAlias

from gateway.engine.tools.tool import ToolContext, ToolFailed
from gateway.events import Json

Number: TypeAlias = Fraction | float

MAX_LENGTH = 1_000
MAX_DEPTH = 50
MAX_BITS = 10_000
"""Of a numerator or denominator: about 3,000 digits. With the length, this bounds the time."""
MAX_FACTORIAL = 1_000

_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "expression": {
            "type": "string",
            "description": "Such as '17 * 23', '15% of 80', 'sqrt(2) ^ 3', 'round(10 / 3, 2)'.",
        }
    },
    "required": ["expression"],
    "additionalProperties": False,
}


class Calculator:
    """The tool `calculator`."""

    name = "calculator"
    description = (
        "Computes an arithmetic expression exactly. Operators: + - * / // mod ^ ** ! and % as in "
        "'15% of 80'. Functions: sqrt, cbrt, abs, round, floor, ceil, min, max, sum, mean, gcd, lcm, "
        "comb, perm, factorial, exp, ln, log(x, base), log10, log2, sin, cos, tan and their inverses "
        "in radians, degrees, radians, hypot. Constants: pi, e, tau."
    )
    parameters: Json = _PARAMETERS

    def __init__(self, *, timeout: float = 2.0) -> None:
        self.timeout = timeout

    async def run(self, arguments: Mapping[str, object], context: ToolContext, /) -> str:
        expression = arguments.get("expression")
        if not isinstance(expression, str):
            raise ToolFailed("expression has to be text, like '17 * 23'.")
        return compute(expression)


def compute(expression: str) -> str:
    """The value as text: all digits where it is exact, 15 significant ones where it is not."""
    if len(expression) > MAX_LENGTH:
        raise ToolFailed(f"The expression is longer than {MAX_LENGTH} characters.")
    try:
        return _write(_Reader(_tokens(expression)).whole())
    except ZeroDivisionError as error:
        raise ToolFailed("That divides by zero.") from error
    except OverflowError as error:
        raise ToolFailed("That is too large to compute.") from error
    except ValueError as error:  # of the math module: outside a function's domain
        raise ToolFailed("That has no real value.") from error


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """`number`, `name`, `(`, `)`, `,`, an operator, or `end`."""
    text: str = ""


# Thousands separators belong to the number; between the arguments of a function a comma separates.
_NUMBER = re.compile(r"(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_GROUPED = re.compile(
    r"\d{1,3}(?:(?:,\d{3})+|(?:[\u00a0\u2009\u202f']\d{3})+)(?!\d)(?:\.\d+)?(?![\d,.])"
)
_NAME = re.compile(r"[^\W\d_]\w*")
_OPERATOR = re.compile(r"\*\*|//|[-+*/%^!°√(),]")
_SAME: Mapping[str, str] = {
    "**": "^",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∙": "*",
    "÷": "/",
    "∕": "/",
    "−": "-",
    "–": "-",
    "²": "^2",
    "³": "^3",
    "[": "(",
    "]": ")",
}
_WORDS = {"x": "*", "times": "*", "plus": "+", "minus": "-", "mod": "mod", "of": "of"}


def _tokens(text: str) -> Sequence[_Token]:
    text = text.strip().rstrip("=? ").removeprefix("=")
    text = "".join(_SAME.get(char, char) for char in text)
    tokens: list[_Token] = []
    inside_call: list[bool] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        grouped = None if inside_call and inside_call[-1] else _GROUPED.match(text, position)
        if match := grouped or _NUMBER.match(text, position):
            digits = re.sub(r"[,_'\s]", "", match[0])
            tokens.append(_Token("number", digits))
        elif match := _NAME.match(text, position):
            word = match[0].casefold()
            after_value = bool(tokens) and tokens[-1].kind in ("number", ")", "%", "!", "°", "name")
            kind = _WORDS.get(word) if after_value else None
            tokens.append(_Token(kind or "name", word))
        elif match := _OPERATOR.match(text, position):
            sign = _SAME.get(match[0], match[0])
            if sign == "(":
                inside_call.append(bool(tokens) and tokens[-1].text in _FUNCTIONS)
            elif sign == ")" and inside_call:
                inside_call.pop()
            tokens.append(_Token(sign, sign))
        else:
            raise ToolFailed(f"I do not understand {text[position]!r} in an expression.")
        position = match.end()
    return tokens


class _Reader:
    """Reads by precedence and computes on the way. Every value is checked for its size."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def whole(self) -> Number:
        if not self._tokens:
            raise ToolFailed("The expression is empty.")
        value = self._sum()
        if self._next.kind != "end":
            raise ToolFailed(f"I do not understand {self._next.text!r} at that place.")
        return value

    @property
    def _next(self) -> _Token:
        return self._peek(0)

    def _peek(self, ahead: int) -> _Token:
        index = self._position + ahead
        return self._tokens[index] if index < len(self._tokens) else _Token("end")

    def _take(self, *kinds: str) -> str | None:
        kind = self._next.kind
        if kind not in kinds:
            return None
        self._position += 1
        return kind

    def _sum(self) -> Number:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ToolFailed(f"The expression is nested more than {MAX_DEPTH} deep.")
        start = self._position
        value = self._product()
        relative = not self._is_percent(start)
        while sign := self._take("+", "-"):
            start = self._position
            right = self._product()
            if relative and self._is_percent(start):
                right = _multiply(value, right)  # 200 + 10% means 10% of 200
            value = _bounded(value + right if sign == "+" else value - right)
        self._depth -= 1
        return value

    def _is_percent(self, start: int) -> bool:
        """Whether what was read since `start` is a percentage and nothing else."""
        return self._position - start == 2 and self._tokens[start + 1].kind == "%"

    def _product(self) -> Number:
        value = self._signed()
        while True:
            sign = self._take("*", "of", "/", "//", "mod")
            if sign is None and self._next.kind == "%":
                self._position += 1
                sign = "mod"  # a percent sign with nothing after it was taken by the number
            if sign is None and self._next.kind in ("name", "(", "√"):
                sign = "*"  # 2pi, 2(3 + 4)
            if sign is None:
                return value
            value = _bounded(_OPERATORS[sign](value, self._signed()))

    def _signed(self) -> Number:
        negative = False
        while sign := self._take("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return -value if negative else value

    def _power(self) -> Number:
        base = self._postfix()
        if not self._take("^"):
            return base
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ToolFailed(f"The expression is nested more than {MAX_DEPTH} deep.")
        exponent = self._signed()  # to the right first: 2^3^2 is 2^9
        self._depth -= 1
        return _bounded(_raise(base, exponent))

    def _postfix(self) -> Number:
        value = self._atom()
        while True:
            if self._take("!"):
                value = _factorial(value)
            elif self._take("°"):
                value = math.radians(value)
            elif self._next.kind == "%" and not self._starts_operand(self._peek(1)):
                self._position += 1
                value = value / 100
            else:
                return value

    @staticmethod
    def _starts_operand(token: _Token) -> bool:
        return token.kind in ("number", "name", "(", "√")

    def _atom(self) -> Number:
        token = self._next
        self._position += 1
        match token.kind:
            case "number":
                return _bounded(_number(token.text))
            case "(":
                value = self._sum()
                self._close()
                return value
            case "√":
                return _root(self._postfix_of_root())
            case "name" if token.text in _CONSTANTS:
                return _CONSTANTS[token.text]
            case "name" if token.text in _FUNCTIONS:
                return self._call(token.text)
            case "name":
                raise ToolFailed(f"I know no function or constant {token.text[:40]!r}.")
            case "end":
                raise ToolFailed("The expression ends too early.")
            case _:
                raise ToolFailed(f"I do not understand {token.text!r} at that place.")

    def _postfix_of_root(self) -> Number:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ToolFailed(f"The expression is nested more than {MAX_DEPTH} deep.")
        value = self._atom()
        self._depth -= 1
        return value

    def _call(self, name: str) -> Number:
        if not self._take("("):
            raise ToolFailed(f"{name} needs its argument in parentheses.")
        values: list[Number] = []
        if self._next.kind != ")":
            values.append(self._sum())
            while self._take(","):
                values.append(self._sum())
        self._close()
        fewest, most, function = _FUNCTIONS[name]
        if not fewest <= len(values) <= most:
            wanted = {fewest: f"{fewest}", _MANY: f"{fewest} or more"}.get(
                most, f"{fewest} or {most}"
            )
            raise ToolFailed(f"{name} takes {wanted} numbers, not {len(values)}.")
        return _bounded(function(*values))

    def _close(self) -> None:
        if not self._take(")"):
            raise ToolFailed("A closing parenthesis is missing.")


def _number(text: str) -> Fraction:
    exponent = re.search(r"e[+-]?(\d+)$", text, re.I)
    if exponent and (len(exponent[1]) > 4 or int(exponent[1]) > 1_000):
        raise OverflowError
    return Fraction(text)


def _bounded(value: Number) -> Number:
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("not a number")
        if math.isinf(value):
            raise OverflowError
    elif max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise OverflowError
    return value


def _multiply(left: Number, right: Number) -> Number:
    return left * right


def _divide(left: Number, right: Number) -> Number:
    return left / right


def _floor_divide(left: Number, right: Number) -> Number:
    result = left // right
    return Fraction(result) if isinstance(result, int) else result


def _modulo(left: Number, right: Number) -> Number:
    return left % right


def _raise(base: Number, exponent: Number) -> Number:
    if isinstance(base, float) or isinstance(exponent, float):
        return _real_power(float(base), float(exponent))
    if exponent.denominator != 1:
        if (root := _exact_root(base, exponent.denominator)) is None:
            return _real_power(float(base), float(exponent))
        base, exponent = root, Fraction(exponent.numerator)
    if base in (0, 1, -1):
        if base == 0 and exponent < 0:
            raise ZeroDivisionError
        odd = exponent.numerator % 2 == 1
        return base if odd else Fraction(int(base != 0 or exponent == 0))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) - 1
    if bits * abs(exponent.numerator) > MAX_BITS or abs(exponent.numerator) > MAX_BITS:
        if base.denominator == 1 and exponent > 0:
            raise OverflowError  # digits would be lost without a word
        return _real_power(float(base), float(exponent))
    return Fraction(base**exponent.numerator)


def _real_power(base: float, exponent: float) -> float:
    return math.pow(base, exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The root if it is rational. Only the small degrees that people mean."""
    if value < 0 or degree > 10:
        return None
    parts = []
    for part in (value.numerator, value.denominator):
        guess = math.isqrt(part) if degree == 2 else _whole_root(part, degree)
        if guess**degree != part:
            return None
        parts.append(guess)
    return Fraction(parts[0], parts[1])


def _whole_root(value: int, degree: int) -> int:
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle - 1)
    return low


def _root(value: Number) -> Number:
    return _raise(value, Fraction(1, 2)) if value >= 0 else math.sqrt(value)


def _cube_root(value: Number) -> Number:
    size = _raise(-value if value < 0 else value, Fraction(1, 3))
    return -size if value < 0 else size


def _factorial(value: Number) -> Number:
    number = _whole(value)
    if number > MAX_FACTORIAL:
        raise ToolFailed(f"Factorials go up to {MAX_FACTORIAL}.")
    return Fraction(math.factorial(number))


def _whole(value: Number) -> int:
    if value != int(value):
        raise ToolFailed("A whole number is needed there.")
    return int(value)


def _round(value: Number, digits: Number = Fraction(0)) -> Number:
    """Half away from zero, as people round."""
    places = _whole(digits)
    if abs(places) > 1_000:
        raise ToolFailed("round goes up to 1000 digits.")
    scale = Fraction(10) ** places
    scaled = abs(Fraction(value)) * scale
    rounded = Fraction(math.floor(scaled + Fraction(1, 2))) / scale
    return -rounded if value < 0 else rounded


def _whole_result(function: Callable[[Number], int]) -> Callable[[Number], Number]:
    return lambda value: Fraction(function(value))


def _real(function: Callable[[float], float]) -> Callable[[Number], Number]:
    return lambda value: function(float(value))


def _wave(function: Callable[[float], float]) -> Callable[[Number], Number]:
    """sin(pi) is 0, not the 1.2e-16 that a float makes of it."""
    return lambda value: round(function(float(value)), 15)


def _tan(value: Number) -> Number:
    if round(math.cos(float(value)), 15) == 0:
        raise ValueError("no tangent there")
    return round(math.tan(float(value)), 15)


def _log(value: Number, base: Number | None = None) -> Number:
    if base is None:
        return _ln(value)
    if base == 1:
        raise ValueError("no logarithm has base 1")
    return _snap(_ln(value) / _ln(base))


def _ln(value: Number) -> float:
    # The logarithm of a fraction works for numbers far too large for a float.
    if isinstance(value, Fraction) and value > 0:
        return math.log(value.numerator) - math.log(value.denominator)
    return math.log(value)


def _snap(value: float) -> Number:
    """log(1000, 10) is 3: a float within rounding of a whole number is that number."""
    whole = round(value)
    return Fraction(whole) if math.isclose(value, whole, rel_tol=1e-14, abs_tol=1e-14) else value


def _comb(n: Number, k: Number) -> Number:
    return Fraction(math.comb(*_small(n, k)))


def _perm(n: Number, k: Number) -> Number:
    return Fraction(math.perm(*_small(n, k)))


def _small(n: Number, k: Number) -> tuple[int, int]:
    if max(n, k) > MAX_FACTORIAL:
        raise ToolFailed(f"Combinations go up to {MAX_FACTORIAL}.")
    return _whole(n), _whole(k)


def _hypot(*values: Number) -> Number:
    return _root(_total(*(_raise(value, Fraction(2)) for value in values)))


def _total(*values: Number) -> Number:
    total: Number = Fraction(0)
    for value in values:
        total = _bounded(total + value)
    return total


def _mean(*values: Number) -> Number:
    return _total(*values) / len(values)


_OPERATORS: Mapping[str, Callable[[Number, Number], Number]] = {
    "*": _multiply,
    "of": _multiply,
    "/": _divide,
    "//": _floor_divide,
    "mod": _modulo,
}
_CONSTANTS: Mapping[str, float] = {"pi": math.pi, "π": math.pi, "e": math.e, "tau": math.tau}
_MANY = MAX_LENGTH
_FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Number]]] = {
    "abs": (1, 1, abs),
    "acos": (1, 1, _real(math.acos)),
    "asin": (1, 1, _real(math.asin)),
    "atan": (1, 1, _real(math.atan)),
    "atan2": (2, 2, lambda y, x: math.atan2(y, x)),
    "avg": (1, _MANY, _mean),
    "cbrt": (1, 1, _cube_root),
    "ceil": (1, 1, _whole_result(math.ceil)),
    "comb": (2, 2, _comb),
    "cos": (1, 1, _wave(math.cos)),
    "cosh": (1, 1, _real(math.cosh)),
    "degrees": (1, 1, _real(math.degrees)),
    "exp": (1, 1, _real(math.exp)),
    "factorial": (1, 1, _factorial),
    "floor": (1, 1, _whole_result(math.floor)),
    "gcd": (1, _MANY, lambda *values: Fraction(math.gcd(*map(_whole, values)))),
    "hypot": (1, _MANY, _hypot),
    "lcm": (1, _MANY, lambda *values: Fraction(_lcm(*map(_whole, values)))),
    "ln": (1, 1, _log),
    "log": (1, 2, _log),
    "log10": (1, 1, lambda value: _log(value, Fraction(10))),
    "log2": (1, 1, lambda value: _log(value, Fraction(2))),
    "max": (1, _MANY, lambda *values: max(values)),
    "mean": (1, _MANY, _mean),
    "min": (1, _MANY, lambda *values: min(values)),
    "perm": (2, 2, _perm),
    "pow": (2, 2, _raise),
    "radians": (1, 1, _real(math.radians)),
    "round": (1, 2, _round),
    "sin": (1, 1, _wave(math.sin)),
    "sinh": (1, 1, _real(math.sinh)),
    "sqrt": (1, 1, _root),
    "sum": (1, _MANY, _total),
    "tan": (1, 1, _tan),
    "tanh": (1, 1, _real(math.tanh)),
    "trunc": (1, 1, _whole_result(math.trunc)),
}


def _lcm(*values: int) -> int:
    total = 1
    for value in values:
        total = math.lcm(total, value)
        _bounded(Fraction(total))
    return total


def _write(value: Number) -> str:
    if isinstance(value, float):
        return _digits(value)
    if value.denominator == 1:
        return str(value.numerator)
    return _decimal(value) or _digits(value)


def _decimal(value: Fraction) -> str | None:
    """All digits of a fraction that ends within 30 decimals."""
    places = 0
    denominator = value.denominator
    while denominator % 10 == 0:
        denominator, places = denominator // 10, places + 1
    for factor in (2, 5):
        while denominator % factor == 0:
            denominator, places = denominator // factor, places + 1
    if denominator != 1 or places > 30:
        return None
    scaled = abs(value.numerator) * 10**places // value.denominator
    whole, rest = divmod(scaled, 10**places)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{rest:0{places}}".rstrip("0")


def _digits(value: Number) -> str:
    # Through Decimal, whose range is that of the fractions here.
    if isinstance(value, float):
        exact = Decimal(value)
    else:
        exact = _ROUNDED.divide(Decimal(value.numerator), Decimal(value.denominator))
    mantissa, _, exponent = f"{exact:.15g}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    if mantissa in ("-0", "0"):
        return "0"
    return f"{mantissa}e{exponent}" if exponent else mantissa


_ROUNDED = Context(prec=30)
