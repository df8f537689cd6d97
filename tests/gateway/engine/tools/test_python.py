import asyncio
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from gateway.engine.tools import ToolContext, ToolFailed
from gateway.engine.tools.python import PythonTool

CONTEXT = ToolContext("request", "call", "ada@example.com", lambda *_: None)


class Address(BaseModel):
    street: str
    city: str = "Oslo"


async def find_order(
    number: str,
    context: ToolContext,
    kind: Literal["open", "sent"] | None = None,
    most: Annotated[int, Field(ge=1, le=20)] = 10,
) -> str:
    """Finds an order by its number.

    Looks at those of this year only.

    Args:
        number: As on the invoice,
            like A-1021.
        kind (str, optional): Only these.

    Returns:
        What is of no use to a model.
    """
    return f"{number} {kind} {most} {context.email}"


def test_the_signature_and_the_docstring_are_what_models_are_told() -> None:
    tool = PythonTool("find_order", find_order, {})
    assert tool.name == "find_order"
    assert tool.description == (
        "Finds an order by its number.\n\nLooks at those of this year only."
    )
    assert tool.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["number"],
        "properties": {
            "number": {"type": "string", "description": "As on the invoice, like A-1021."},
            "kind": {
                "anyOf": [{"enum": ["open", "sent"], "type": "string"}, {"type": "null"}],
                "default": None,
                "description": "Only these.",
            },
            "most": {"type": "integer", "minimum": 1, "maximum": 20, "default": 10},
        },
    }


def test_parameters_described_in_sphinx_style_are_told_too() -> None:
    def ring(bell: str, times: int = 1) -> None:
        """Rings a bell.

        :param bell: Which one,
            by its name.
        :param int times: How often.
        :returns: nothing
        """

    tool = PythonTool("ring", ring, {})
    assert tool.description == "Rings a bell."
    properties = tool.parameters["properties"]
    assert isinstance(properties, dict)
    assert properties["bell"] == {"type": "string", "description": "Which one, by its name."}
    assert properties["times"]["description"] == "How often."


def test_the_row_may_say_it_in_other_words() -> None:
    tool = PythonTool("find", find_order, {"description": "Finds it.", "timeout": 3})
    assert (tool.description, tool.timeout) == ("Finds it.", 3.0)


async def test_an_async_function_gets_its_arguments_and_the_context() -> None:
    tool = PythonTool("find_order", find_order, {})
    assert await tool.run({"number": "A-1"}, CONTEXT) == "A-1 None 10 ada@example.com"
    # What a model often writes: a number as text.
    given = {"number": "A-1", "kind": "open", "most": "3"}
    assert await tool.run(given, CONTEXT) == "A-1 open 3 ada@example.com"


async def test_arguments_come_as_the_types_that_the_function_asks_for() -> None:
    seen: list[object] = []

    async def deliver(to: Address, on: date, json: bool = False) -> None:
        """Delivers."""
        seen.extend((to, on, json))

    tool = PythonTool("deliver", deliver, {})
    given = {"to": {"street": "Karl Johans gate 1"}, "on": "2026-03-09", "json": True}
    assert await tool.run(given, CONTEXT) == "Done."
    assert seen == [Address(street="Karl Johans gate 1"), date(2026, 3, 9), True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, ["number: missing."]),
        ({"number": 3}, ["number: Input should be a valid string, not 3."]),
        ({"number": "A", "most": 21}, ["most: Input should be less than or equal to 20, not 21."]),
        ({"number": "A", "kind": "lost"}, ["kind: Input should be 'open' or 'sent', not 'lost'."]),
        ({"number": "A", "context": {}}, ["context: there is no such argument."]),
        ({"nummer": "A"}, ["number: missing.", "nummer: there is no such argument."]),
    ],
)
async def test_arguments_that_do_not_fit_are_told_to_the_model(
    arguments: dict[str, object], words: list[str]
) -> None:
    tool = PythonTool("find_order", find_order, {})
    with pytest.raises(ToolFailed) as failed:
        await tool.run(arguments, CONTEXT)
    assert str(failed.value).splitlines() == ["The arguments do not fit.", *words]


async def test_a_flood_of_misfits_is_bounded() -> None:
    tool = PythonTool("find_order", find_order, {})
    with pytest.raises(ToolFailed, match=r"And 93 more\.$"):
        await tool.run({f"x{number}": "y" * 10_000 for number in range(100)}, CONTEXT)


@dataclass
class Row:
    number: str
    on: date


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("as it is", "as it is"),
        (None, "Done."),
        (3, "3"),
        ({"a": [1, True, None]}, '{"a":[1,true,null]}'),
        (Address(street="A"), '{"street":"A","city":"Oslo"}'),
        ([Row("A-1", date(2026, 3, 9))], '[{"number":"A-1","on":"2026-03-09"}]'),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_a_function_returns_becomes_text(result: object, text: str) -> None:
    async def answer() -> object:
        """Answers."""
        return result

    assert await PythonTool("answer", answer, {}).run({}, CONTEXT) == text


async def test_a_result_without_json_is_a_fault_of_the_function() -> None:
    def answer() -> object:
        """Answers."""
        return object()

    with pytest.raises(ValueError, match="serialize"):
        await PythonTool("answer", answer, {}).run({}, CONTEXT)


async def test_a_blocking_function_does_not_block_the_gateway() -> None:
    begun = threading.Event()
    let_go = threading.Event()

    def wait() -> str:
        """Waits."""
        begun.set()
        let_go.wait(30)
        return threading.current_thread().name

    tool = PythonTool("wait", wait, {})
    running = asyncio.create_task(tool.run({}, CONTEXT))
    assert await asyncio.to_thread(begun.wait, 30)
    let_go.set()
    assert (await running).startswith("tool wait")
    await tool.aclose()


async def test_progress_is_reported_from_a_thread_too() -> None:
    heard: list[tuple[object, ...]] = []
    thread = threading.get_ident()

    def report(message: str, progress: float | None = None, total: float | None = None) -> None:
        assert threading.get_ident() == thread
        heard.append((message, progress, total))

    def walk(context: ToolContext | None = None) -> None:
        """Walks."""
        assert context is not None
        context.report("half way", 1, 2)
        context.report("there")
        time.sleep(0.01)

    tool = PythonTool("walk", walk, {})
    await tool.run({}, replace(CONTEXT, report=report))
    assert heard == [("half way", 1, 2), ("there", None, None)]


async def test_an_object_that_can_be_called_will_do() -> None:
    class Greeter:
        """Greets."""

        async def __call__(self, name: str) -> str:
            return f"Hello {name}"

    tool = PythonTool("greet", Greeter(), {})
    assert tool.description == "Greets."
    assert await tool.run({"name": "Ada"}, CONTEXT) == "Hello Ada"


async def test_a_decorated_function_keeps_its_signature() -> None:
    def logged(function: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(function)
        def call(*args: object, **kwargs: object) -> object:
            return function(*args, **kwargs)

        return call

    @logged
    async def greet(name: str) -> str:
        """Greets."""
        return f"Hello {name}"

    assert await PythonTool("greet", greet, {}).run({"name": "Ada"}, CONTEXT) == "Hello Ada"


async def test_what_a_function_raises_for_the_model_reaches_it() -> None:
    async def fail() -> None:
        """Fails."""
        raise ToolFailed("There is none.")

    with pytest.raises(ToolFailed, match=r"There is none\."):
        await PythonTool("fail", fail, {}).run({}, CONTEXT)


class Opaque:
    pass


def _starred(*names: str) -> None:
    """Takes many."""


def _positional(name: str, /) -> None:
    """Takes one."""


def _untyped(name) -> None:  # type: ignore[no-untyped-def]  # that is what it is for
    """Takes one."""


def _opaque(thing: Opaque) -> None:
    """Takes one."""


def _called(back: Callable[[], None]) -> None:
    """Takes a function, which can be checked, but not told."""


def _unknown(thing: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821 # that is what it is for
    """Takes one."""


def _wordless(name: str) -> None:
    pass


@pytest.mark.parametrize(
    ("function", "config", "message"),
    [
        (_starred, {}, r"its parameter \*names cannot be told to a model; name each one"),
        (_positional, {}, "its parameter 'name' is positional only"),
        (_untyped, {}, "its parameter 'name' has no type; write name: str"),
        (_opaque, {}, "its parameters cannot be told to a model: Unable to generate"),
        (_called, {}, "its parameters cannot be told to a model: Cannot generate"),
        (_unknown, {}, "its signature cannot be read: name 'Missing' is not defined"),
        (_wordless, {}, "description: expected a docstring of the function, or words here"),
        (find_order, {"timeout": 0}, "timeout: expected more than 0"),
        (find_order, {"timout": 1}, "timout: no such field; did you mean 'timeout'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_told_to_a_model_is_said_in_one_line(
    function: Callable[..., object], config: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as wrong:
        PythonTool("tool", function, config)
    assert "\n" not in str(wrong.value)
