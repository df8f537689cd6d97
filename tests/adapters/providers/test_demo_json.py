import json
from collections.abc import Mapping

import pytest
from jsonschema import Draft202012Validator

from adapters.providers.demo_json import TooMuch, fill

STRING = {"type": "string"}


def form(**properties: object) -> dict[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TREE = {
    **form(root={"$ref": "#/$defs/node"}),
    "$defs": {
        "node": form(
            value={"type": "integer"},
            next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            children={"type": "array", "items": {"$ref": "#/$defs/node"}},
        )
    },
}

SCHEMAS: Mapping[str, object] = {
    "nothing": {},
    "anything": True,
    "string": form(a=STRING),
    "lengths": form(a={**STRING, "minLength": 50}, b={**STRING, "maxLength": 2}),
    "pattern": form(a={**STRING, "pattern": r"^\d{3}-\d{4}$"}),
    "pattern with length": form(a={**STRING, "pattern": "^[A-Z]{2}[^a-z]*$", "minLength": 9}),
    "pattern of alternatives": form(a={**STRING, "pattern": r"^(?:foo|bar)\.(?P<x>x|y)?[+\-]$"}),
    "formats": form(
        **{
            name.replace("-", "_"): {**STRING, "format": name}
            for name in ("date", "date-time", "time", "email", "uuid", "uri", "ipv4", "ipv6")
        }
    ),
    "enum": form(a={"enum": ["x", 1, None]}, b={**STRING, "enum": ["y"]}),
    "const": form(a={"const": {"b": 1}}),
    "numbers": form(
        a={"type": "integer", "minimum": 7, "maximum": 9},
        b={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
        c={"type": "integer", "multipleOf": 7, "minimum": 10},
        d={"type": "integer", "exclusiveMaximum": -3},
    ),
    "boolean and null": form(a={"type": "boolean"}, b={"type": "null"}),
    "several types": form(a={"type": ["null", "integer"]}, b={"type": ["string", "null"]}),
    "arrays": form(
        a={"type": "array", "items": STRING, "minItems": 3},
        b={"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
        c={"type": "array", "prefixItems": [STRING, {"type": "integer"}], "items": False},
        d={"type": "array", "items": form(e=STRING), "maxItems": 1},
        e={"type": "array", "items": {"enum": ["p", "q", "r"]}, "minItems": 3, "uniqueItems": True},
        f={"type": "array", "maxItems": 0, "items": STRING},
    ),
    "nested": form(a=form(b=form(c=form(d={"type": "array", "items": form(e=STRING)})))),
    "any of": form(a={"anyOf": [{"type": "null"}, form(b=STRING)]}, c={"oneOf": [STRING]}),
    "all of": {"allOf": [form(a=STRING), {"properties": {"a": {"minLength": 40}}}]},
    "references": {
        **form(a={"$ref": "#/$defs/n", "minimum": 4}),
        "$defs": {"n": {"type": "integer"}},
    },
    "root reference": {"$defs": TREE["$defs"], "$ref": "#/$defs/node"},
    "recursion": TREE,
    "free members": {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "minProperties": 2,
    },
    "required but not described": {"type": "object", "required": ["x"]},
    "wide recursion": {
        "$ref": "#/$defs/n",
        "$defs": {
            "n": {
                "type": "object",
                "properties": {f"p{i}": {"$ref": "#/$defs/n"} for i in range(30)},
            }
        },
    },
}


@pytest.mark.parametrize("every", [True, False], ids=["all members", "needed members"])
@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize(
    "text", ["", "Book 99.5 of the Grand Hotel in Oslo for Ada, not x!", "“quoted” 'y' -4 1e9"]
)
def test_what_is_filled_in_fits(name: str, text: str, every: bool) -> None:
    schema = SCHEMAS[name]
    made = fill(schema, text, "The answer is 42.", every=every)
    Draft202012Validator(schema).validate(made)  # type: ignore[arg-type]  # booleans are schemas


def test_what_demands_itself_without_end_still_ends() -> None:
    endless = {**form(a={"$ref": "#"})}
    assert fill(endless, "hello")


@pytest.mark.parametrize(
    ("schema", "text", "made"),
    [
        (
            form(name=STRING, date=STRING, participants={"type": "array", "items": STRING}),
            "Alice and Bob are going to a science fair on Friday.",
            {"name": "Alice", "date": "Friday", "participants": ["Alice", "Bob"]},
        ),
        (
            form(origin=STRING, destination=STRING, passengers={"type": "integer"}),
            "Book a flight from Oslo to New York for 2 people",
            {"origin": "Oslo", "destination": "New York", "passengers": 2},
        ),
        (
            form(title=STRING, email=STRING, url=STRING, date={**STRING, "format": "date"}),
            'Send "Quarterly report" to ada@lovelace.org by 2026-05-01, see https://a.example/x',
            {
                "title": "Quarterly report",
                "email": "ada@lovelace.org",
                "url": "https://a.example/x",
                "date": "2026-05-01",
            },
        ),
        (
            form(location=STRING, unit={"enum": ["celsius", "fahrenheit"]}),
            "What's the weather in São Paulo in Fahrenheit?",
            {"location": "São Paulo", "unit": "fahrenheit"},
        ),
        (form(on={"type": "boolean"}), "Do not turn it on", {"on": False}),
        (form(query=STRING), "cheap flights", {"query": "cheap flights"}),
        (
            form(answer=STRING, result={"type": "number"}),
            "sum?",
            {"answer": "It is 4.5.", "result": 4.5},
        ),
    ],
)
def test_values_come_from_the_text(schema: object, text: str, made: object) -> None:
    assert fill(schema, text, "It is 4.5." if text == "sum?" else "") == made


def test_optional_members_are_left_out_unless_spoken_of() -> None:
    schema = {**form(location=STRING, days={"type": "integer"}, unit={"enum": ["c", "f"]})}
    schema["required"] = ["location"]
    assert fill(schema, "Weather in Oslo", every=False) == {"location": "Oslo"}
    assert fill(schema, "Weather in Oslo, 3 days", every=False) == {"location": "Oslo", "days": 3}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (form(a={**STRING, "pattern": "^(a+)+$"}), 'say "' + "a" * 60 + '!"'),
        (form(a={**STRING, "pattern": "(" * 5_000 + ")" * 5_000}), ""),
        (form(a={**STRING, "pattern": "^a{99999999999999999999}$"}), ""),
        (form(a={**STRING, "pattern": "^((b{9999}){9999}){9999}$"}), ""),
        (form(a={**STRING, "pattern": "^((((((((a+)+)+)+)+)+)+)+)+$", "minLength": 1e308}), ""),
        (form(a={**STRING, "pattern": "["}), ""),
        (form(a={**STRING, "minLength": 1e308}), ""),
        (form(a={**STRING, "maxLength": -5}), ""),
        (form(a={"type": "integer", "minimum": 1e308, "multipleOf": 5e-324}), ""),
        (form(a={"type": "number", "minimum": 1.5e308, "multipleOf": 1.1e308}), ""),
        (form(a={"type": "integer", "exclusiveMinimum": 1.7e308}), ""),
        (form(answer={"type": "number"}), "9" * 4_000),
        (form(a={"type": "array", "minItems": 1e308, "items": {"type": "null"}}), ""),
        (form(a={"enum": [{}, [], None]}, b={"type": [{}, []]}, c={"format": []}), ""),
        ({"allOf": [{"required": [{}, [], 1]}, {"required": ["a"]}]}, ""),
        (form(**{f"email_{i}": STRING for i in range(500)}), "a" * 4_000 + "a@" * 1_000),
    ],
)
def test_what_nothing_can_fit_is_answered_all_the_same(schema: object, text: str) -> None:
    made = json.dumps(fill(schema, text), allow_nan=False)
    assert len(made) < 200_000


@pytest.mark.parametrize(
    "schema",
    [
        form(**{f"k{i}": {**STRING, "minLength": 100_000} for i in range(1_000)}),
        form(**{f"k{i}": {"$ref": "#"} for i in range(10)}),
        {"type": "object", "minProperties": 1e308, "additionalProperties": {"minLength": 1_000}},
        {"allOf": [{"properties": {f"k{i}": {}}} for i in range(20_000)]},
        {"type": "array", "prefixItems": [{"prefixItems": [{}] * 3_000}] * 50},
        form(a={"enum": ["x" * 100 for _ in range(100_000)]}),
        form(
            a={
                "type": "array",
                "minItems": 1_000,
                "items": {
                    "type": "array",
                    "uniqueItems": True,
                    "minItems": 1_000,
                    "items": {"type": "integer"},
                },
            }
        ),
    ],
    ids=["long texts", "itself tenfold", "members", "parts", "items", "options", "distinct items"],
)
def test_a_schema_that_asks_for_too_much_is_refused(schema: object) -> None:
    with pytest.raises(TooMuch):
        fill(schema, "hello")
