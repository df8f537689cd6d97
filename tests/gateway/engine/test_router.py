from dataclasses import replace

import pytest

from gateway.engine.router import Route, Router, Target, Upstream
from gateway.errors import UnknownModel
from tests.samples import a_request
from tests.scripted_model import ScriptedModel

ACME = Upstream(provider=ScriptedModel(name="acme"))
FAST = Route(name="fast", targets=(Target(ACME, "acme-mini"),))
SLASHED = Route(name="acme/pinned", targets=(Target(ACME, "acme-2"),))


def _router(*, virtual_only: bool = False) -> Router:
    return Router({"acme": ACME}, [FAST, SLASHED], virtual_only=virtual_only)


def test_a_name_of_the_settings_is_its_route() -> None:
    assert _router().resolve("fast", "default") is FAST


def test_a_name_of_the_settings_stands_before_a_providers_model() -> None:
    assert _router().resolve("acme/pinned", "default") is SLASHED


@pytest.mark.parametrize("model", ["acme-3", "org/acme-3", "acme-3:free", "with space"])
def test_provider_and_model_need_no_line_in_the_settings(model: str) -> None:
    route = _router().resolve(f"acme/{model}", "default")
    assert route.targets == (Target(ACME, model),)
    assert (route.name, route.owner) == (f"acme/{model}", "acme")


@pytest.mark.parametrize("name", ["", "acme", "acme/", "/acme-3", "other/acme-3", "Fast", "fast "])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        _router().resolve(name, "default")
    assert (caught.value.status, caught.value.param) == (404, "model")
    assert caught.value.code == "model_not_found"


def test_only_names_of_the_settings_count_if_they_say_so() -> None:
    router = _router(virtual_only=True)
    assert router.resolve("fast", "default") is FAST
    with pytest.raises(UnknownModel):
        router.resolve("acme/acme-3", "default")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(
            "fsat",
            "The model 'fsat' does not exist or you do not have access to it. Did you mean 'fast'?",
            id="nearly",
        ),
        pytest.param(
            "gpt-9",
            "The model 'gpt-9' does not exist or you do not have access to it."
            " GET /v1/models lists what there is.",
            id="not nearly",
        ),
    ],
)
def test_the_error_says_what_to_do(name: str, message: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        _router().resolve(name, "default")
    assert caught.value.message == message


def test_a_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(UnknownModel) as caught:
        _router().resolve("x" * 5000, "default")
    assert len(caught.value.message) < 250


GOLD = Route(name="gold", targets=(Target(ACME, "acme-xl"),), tiers=frozenset({"gold", "staff"}))
PINNED = Route(name="acme/acme-9", targets=(Target(ACME, "acme-9"),), tiers=frozenset({"gold"}))


def test_a_name_is_there_only_for_the_tiers_it_is_for() -> None:
    router = Router({"acme": ACME}, [FAST, GOLD, PINNED])
    assert router.resolve("gold", "gold") is router.resolve("gold", "staff") is GOLD
    assert router.resolve("fast", "gold") is FAST
    for name in ("gold", "acme/acme-9", "golde"):
        with pytest.raises(UnknownModel, match="do not have access") as caught:
            router.resolve(name, "default")
        assert "mean" not in caught.value.message, "a name that is not for them is not hinted at"


@pytest.mark.parametrize(
    ("asked", "defaults", "caps", "sent"),
    [
        pytest.param({}, {}, {}, {}, id="nothing"),
        pytest.param({}, {"temperature": 0.2}, {}, {"temperature": 0.2}, id="a default"),
        pytest.param(
            {"temperature": 1}, {"temperature": 0}, {}, {"temperature": 1}, id="not needed"
        ),
        pytest.param({"temperature": 2}, {}, {"temperature": 1}, {"temperature": 1}, id="too hot"),
        pytest.param({"temperature": 0.5}, {}, {"temperature": 1}, {"temperature": 0.5}, id="cool"),
        pytest.param({}, {}, {"temperature": 1}, {}, id="a cap is no default"),
        pytest.param({}, {}, {"max_tokens": 9}, {"max_tokens": 9}, id="but of the length it is"),
        pytest.param(
            {"max_completion_tokens": 99},
            {"max_tokens": 5},
            {"max_tokens": 9},
            {"max_completion_tokens": 9},
            id="either word for the length",
        ),
        pytest.param(
            {"max_tokens": 3}, {}, {"max_completion_tokens": 9}, {"max_tokens": 3}, id="short"
        ),
        pytest.param(
            {"max_tokens": None}, {}, {"max_tokens": 9}, {"max_tokens": 9}, id="null is no length"
        ),
        pytest.param({}, {"max_tokens": 50}, {"max_tokens": 9}, {"max_tokens": 9}, id="both"),
        pytest.param({"seed": "x"}, {}, {"seed": 1}, {"seed": "x"}, id="not a number"),
        pytest.param({"flag": True}, {}, {"flag": 0.5}, {"flag": True}, id="true is no number"),
    ],
)
def test_a_name_fills_in_options_and_bounds_them(
    asked: dict[str, object],
    defaults: dict[str, object],
    caps: dict[str, float],
    sent: dict[str, object],
) -> None:
    route = Route(name="m", targets=(Target(ACME, "m"),), defaults=defaults, caps=caps)
    before = dict(asked)
    assert route.adapt(replace(a_request(), options=asked)).options == sent
    assert asked == before
