"""Numbers as people see them: `FORMATTED_VALUE`, roughly, for an English spreadsheet."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
_PATTERNS = {
    "NUMBER": "#,##0.00",
    "PERCENT": "0.00%",
    "CURRENCY": "$#,##0.00",
    "DATE": "m/d/yyyy",
    "TIME": "h:mm:ss am/pm",
    "DATE_TIME": "m/d/yyyy h:mm:ss",
    "SCIENTIFIC": "0.00E+00",
}
_DATE_PARTS = re.compile(
    r'"[^"]*"|\\.|yyyy|yy|mmmm|mmm|mm|m|dddd|ddd|dd|d|hh|h|ss|s|\.0+|am/pm|.', re.I
)


def general(number: float) -> str:
    """Without a format: about ten significant digits."""
    if number == int(number) and abs(number) < 1e15:
        return str(int(number))
    text = f"{number:.10g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}E{int(exponent):+03d}"
    return text


def of(value: object, format: Mapping[str, Any] | None) -> str:
    """Any value under a cell's `numberFormat`."""
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | float():
            number_format = format or {}
            kind = number_format.get("type", "")
            pattern = number_format.get("pattern") or _PATTERNS.get(kind, "")
            if kind == "TEXT" or not pattern:
                return general(float(value))
            return shown(float(value), pattern)
        case _:
            return str(value)


def shown(number: float, pattern: str) -> str:
    """A number by a pattern of Google's: a date if it names parts of one."""
    bare = re.sub(r'"[^"]*"|\\.|\[[^\]]*\]', "", pattern)
    if re.search(r"[ymdhs]", bare, re.IGNORECASE):
        return _date(number, pattern)
    return _number(number, pattern)


def _number(number: float, pattern: str) -> str:
    sections = re.sub(r"\[[^\]]*\]", "", pattern).split(";")
    if number < 0 and len(sections) > 1:
        number, pattern, sign = -number, sections[1], ""
    elif not number and len(sections) > 2:
        pattern, sign = sections[2], ""
    else:
        pattern, sign = sections[0], "-" if number < 0 else ""
    digits = re.search(r"[#0,]*[#0](?:\.([#0]*))?|\.[#0]+", pattern)
    if digits is None:
        return sign + _literal(pattern)
    if "%" in pattern:
        number *= 100
    decimals = digits[1] or ""
    text = f"{abs(number):{',' if ',' in digits[0] else ''}.{len(decimals)}f}"
    optional = len(decimals) - len(decimals.rstrip("#"))
    while optional and text.endswith("0"):
        text, optional = text[:-1], optional - 1
    return (
        sign
        + _literal(pattern[: digits.start()])
        + text.rstrip(".")
        + _literal(pattern[digits.end() :])
    )


def _literal(text: str) -> str:
    """What of a pattern is shown as it stands."""
    return re.sub(r'"([^"]*)"|\\(.)', r"\1\2", text)


def _date(number: float, pattern: str) -> str:
    milliseconds = round(number * 86_400_000)
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    noon = "am/pm" in pattern.lower()
    parts = _DATE_PARTS.findall(pattern)
    text = ""
    clock = False  # whether an m now means minutes
    for index, part in enumerate(parts):
        low = part.lower()
        rest = "".join(parts[index + 1 :]).lower()
        if low in ("m", "mm") and (clock or re.match(r"[^a-z]*s", rest)):
            text += f"{moment.minute:02d}" if low == "mm" else str(moment.minute)
            clock = False
            continue
        hour = moment.hour % 12 or 12 if noon else moment.hour
        known = {
            "yyyy": f"{moment.year:04d}",
            "yy": f"{moment.year % 100:02d}",
            "mmmm": moment.strftime("%B"),
            "mmm": moment.strftime("%b"),
            "mm": f"{moment.month:02d}",
            "m": str(moment.month),
            "dddd": moment.strftime("%A"),
            "ddd": moment.strftime("%a"),
            "dd": f"{moment.day:02d}",
            "d": str(moment.day),
            "hh": f"{hour:02d}",
            "h": str(hour),
            "ss": f"{moment.second:02d}",
            "s": str(moment.second),
            "am/pm": "AM" if moment.hour < 12 else "PM",
        }
        if low in known:
            text += known[low]
            clock = low in ("h", "hh")
        elif re.fullmatch(r"\.0+", part):
            text += f".{moment.microsecond:06d}"[: len(part)]
        elif len(part) > 1 and part[0] == '"':
            text += part[1:-1]
        elif part[0] == "\\":
            text += part[1:]
        else:
            text += part
            clock = clock and not part.isalpha()
    return text
