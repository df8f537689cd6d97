"""Requests checked against Google's own description of the API, in the words of its JSON parser.

The document is the one that google-api-python-client ships. It does not name enum types; they are
guessed from the field's name (`dimension` is `Dimension`), which only shows in error texts.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from tests.sheets_server import masks
from tests.sheets_server.refusals import Refusal, bad_request

_TYPES = {
    ("integer", "int32"): "TYPE_INT32",
    ("integer", "uint32"): "TYPE_UINT32",
    ("string", "int64"): "TYPE_INT64",
    ("number", "double"): "TYPE_DOUBLE",
    ("number", "float"): "TYPE_FLOAT",
    ("boolean", None): "TYPE_BOOL",
    ("string", None): "TYPE_STRING",
}
_ENUMS = {"majorDimension": "Dimension", "shiftDimension": "Dimension"}
_PACKAGE = "type.googleapis.com/google.apps.sheets.v4."

# Fields of which at most one may be set; the document does not say so, its descriptions do.
_UNIONS: dict[str, tuple[str, frozenset[str] | None]] = {
    "Request": ("kind", None),
    "ExtendedValue": ("value", None),
    "ConditionalFormatRule": ("rule", frozenset({"booleanRule", "gradientRule"})),
    "UpdateCellsRequest": ("area", frozenset({"start", "range"})),
    "ColorStyle": ("kind", None),
    "DataFilter": ("filter", None),
    "DeveloperMetadataLocation": (
        "location",
        frozenset({"spreadsheet", "sheetId", "dimensionRange"}),
    ),
}

Schema = Mapping[str, object]
Violations = list[tuple[str, str]]


@cache
def _document() -> dict[str, object]:
    path = files("googleapiclient") / "discovery_cache" / "documents" / "sheets.v4.json"
    document: dict[str, object] = json.loads(path.read_text("utf-8"))
    return document


def _part(value: object, name: str) -> dict[str, object]:
    part = value.get(name) if isinstance(value, Mapping) else None
    return dict(part) if isinstance(part, Mapping) else {}


@cache
def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name)


@cache
def _fields(schema: str) -> dict[str, Schema]:
    """JSON name and proto name both, as the parser takes both."""
    properties = _part(_part(_part(_document(), "schemas"), schema), "properties")
    names = {name: field for name, field in properties.items() if isinstance(field, Mapping)}
    return {_snake(name): {**field, "json": name} for name, field in names.items()} | names


@cache
def _method(name: str) -> dict[str, object]:
    """`spreadsheets.values.get`."""
    node: object = _document()
    *resources, method = name.split(".")
    for resource in resources:
        node = _part(_part(node, "resources"), resource)
    return _part(_part(node, "methods"), method)


def body(schema: str, value: object, path: str = "") -> dict[str, object]:
    """The body, its names and numbers made uniform; raises what Google would answer."""
    violations: Violations = []
    if not isinstance(value, dict):
        raise bad_request(
            [
                (
                    "",
                    'Invalid JSON payload received. Unknown name "": Root element must be a message.',
                )
            ]
        )
    read = _message(schema, value, path, violations)
    if violations:
        raise bad_request(violations)
    return read


def query(method: str, given: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """The query of a method, typed; repeated parameters are lists."""
    known = _part(_method(method), "parameters")
    common = _part(_document(), "parameters")
    read: dict[str, object] = {}
    violations: Violations = []
    for name, values in given.items():
        camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
        field = known.get(camel) or common.get(name)
        if not isinstance(field, Mapping) or field.get("location") != "query":
            violations.append(
                (
                    "",
                    f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query '
                    f"parameter. Field '{name}' could not be found in request message.",
                )
            )
        elif field.get("repeated"):
            read[camel] = list(values)
        elif camel in known:
            read[camel] = _query_value(camel, field, values[-1], violations)
        else:
            read[name] = values[-1]
    if violations:
        raise bad_request(violations)
    return read


def _query_value(name: str, field: Schema, text: str, violations: Violations) -> object:
    value: object = text
    if field.get("type") == "boolean" and text.lower() in ("true", "false", "1", "0"):
        value = text.lower() in ("true", "1")
    return _scalar(name, field, value, _snake(name), violations)


def response_mask(method: str, text: str) -> masks.Tree:
    """The parameter `fields`; raises where it names what the answer does not have."""
    schema = _part(_method(method), "response").get("$ref")
    try:
        tree = masks.parse(text)
    except masks.MaskError:
        raise Refusal(
            400,
            "Request contains an invalid argument.",
            bad_request([(text, f"Error parsing 'fields' parameter: {text}")]).details,
        ) from None
    unknown = _unknown({"$ref": schema}, tree, "")
    if unknown:
        raise bad_request(
            [
                (
                    unknown,
                    "Error expanding 'fields' parameter. Cannot find matching fields for path "
                    f"'{unknown}'.",
                )
            ],
            "Request contains an invalid argument.",
        )
    return tree


def unknown_field(schema: str, tree: masks.Tree) -> str:
    """The first path of a mask that the schema does not have, or nothing."""
    return _unknown({"$ref": schema}, tree, "")


def _unknown(field: Schema, tree: masks.Tree, path: str) -> str:
    while field.get("type") == "array":
        field = _part(field, "items")
    if field.get("type") == "object" and "additionalProperties" in field:
        return ""
    reference = field.get("$ref")
    for name, below in tree.items():
        if name == "*":
            continue
        here = f"{path}.{name}" if path else name
        inner = _fields(str(reference)).get(name) if reference else None
        if inner is None or "json" in inner:
            return here
        found = _unknown(inner, below, here) if below else ""
        if found:
            return found
    return ""


def _message(
    schema: str, value: Mapping[str, object], path: str, violations: Violations
) -> dict[str, object]:
    fields = _fields(schema)
    union, members = _UNIONS.get(schema, ("", frozenset()))
    taken = False
    read: dict[str, object] = {}
    for name, item in value.items():
        field = fields.get(name)
        where = f"{path}.{_snake(name)}" if path else _snake(name)
        if field is None:
            at = f" at '{path}'" if path else ""
            violations.append(
                (
                    path,
                    f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.',
                )
            )
            continue
        if item is None:
            continue
        json_name = str(field.get("json", name))
        if union and (members is None or json_name in members):
            if taken:
                violations.append(
                    (
                        path,
                        f"Invalid value at '{path}' (oneof), oneof field '{union}' is already "
                        f"set. Cannot set '{name}'",
                    )
                )
            taken = True
        read[json_name] = _value(json_name, field, item, where, violations)
    return read


def _value(name: str, field: Schema, value: object, path: str, violations: Violations) -> object:
    if field.get("type") == "array":
        items = _part(field, "items")
        if not isinstance(value, list):
            return _wrong(name, items, value, path, violations)
        return [
            _value(name, items, item, f"{path}[{index}]", violations)
            for index, item in enumerate(value)
        ]
    if field.get("type") == "any":
        return value
    if isinstance(value, list):
        parent, _, _ = path.rpartition(".")
        at = f" at '{parent}'" if parent else ""
        violations.append(
            (
                parent,
                f'Invalid JSON payload received. Unknown name "{name}"{at}: Proto field is not '
                "repeating, cannot start list.",
            )
        )
        return value
    reference = field.get("$ref")
    if reference:
        if not isinstance(value, dict):
            return _wrong(name, field, value, path, violations)
        return _message(str(reference), value, path, violations)
    if field.get("type") == "object":
        if not isinstance(value, dict):
            return _wrong(name, field, value, path, violations)
        values = _part(field, "additionalProperties")
        return {
            key: _value(key, values, item, f"{path}[{key}]", violations) if values else item
            for key, item in value.items()
        }
    return _scalar(name, field, value, path, violations)


def _scalar(name: str, field: Schema, value: object, path: str, violations: Violations) -> object:
    kind, choices = field.get("type"), field.get("enum")
    if isinstance(choices, list):
        if value in choices:
            return value
        return _wrong(name, field, value, path, violations)
    match kind, value:
        case "boolean", bool():
            return value
        case "string", str():
            return value
        case "integer" | "number", bool():
            pass
        case "number", int() | float():
            return value
        case "integer", int() | float() if value == int(value) and -(2**31) <= value < 2**31:
            return int(value)
        case "integer", str() if re.fullmatch(r"-?\d{1,10}", value):
            return _scalar(name, field, int(value), path, violations)
        case "number", str() if re.fullmatch(r"-?\d+(\.\d*)?([eE][+-]?\d+)?", value):
            return float(value)
        case _:
            pass
    return _wrong(name, field, value, path, violations)


def _wrong(name: str, field: Schema, value: object, path: str, violations: Violations) -> object:
    if field.get("type") in ("array", "any"):  # rows of values
        kind = "type.googleapis.com/google.protobuf.ListValue"
    elif "$ref" in field:
        kind = f"{_PACKAGE}{field['$ref']}"
    elif "enum" in field:
        kind = f"{_PACKAGE}{_ENUMS.get(name, name[0].upper() + name[1:])}"
    elif field.get("format") == "google-fieldmask":
        kind = "type.googleapis.com/google.protobuf.FieldMask"
    else:
        kind = _TYPES.get((str(field.get("type")), _text(field.get("format"))), "TYPE_MESSAGE")
    shown = json.dumps(value, ensure_ascii=False)
    violations.append((path, f"Invalid value at '{path}' ({kind}), {shown}"))
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
