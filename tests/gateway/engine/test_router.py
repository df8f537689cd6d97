import pytest

from gateway.engine.router import Route, Router, Target, Upstream
from gateway.errors import UnknownModel
from tests.scripted_model import ScriptedModel

ACME = Upstream(provider=ScriptedModel(name="acme"))
FAST = Route(name="fast", targets=(Target(ACME, "acme-mini"),))
SLASHED = Route(name="acme/pinned", targets=(Target(ACME, "acme-2"),))


def _router(*, virtual_only: bool = False) -> Router:
    return Router({"acme": ACME}, [FAST, SLASHED], virtual_only=virtual_only)


def test_a_name_of_the_settings_is_its_route() -> None:
    assert _router().resolve("fast") is FAST


def test_a_name_of_the_settings_stands_before_a_providers_model() -> None:
    assert _router().resolve("acme/pinned") is SLASHED


@pytest.mark.parametrize("model", ["acme-3", "org/acme-3", "acme-3:free", "with space"])
def test_provider_and_model_need_no_line_in_the_settings(model: str) -> None:
    route = _router().resolve(f"acme/{model}")
    assert route.targets == (Target(ACME, model),)
    assert (route.name, route.owner) == (f"acme/{model}", "acme")


@pytest.mark.parametrize("name", ["", "acme", "acme/", "/acme-3", "other/acme-3", "Fast", "fast "])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        _router().resolve(name)
    assert (caught.value.status, caught.value.param) == (404, "model")
    assert caught.value.code == "model_not_found"


def test_only_names_of_the_settings_count_if_they_say_so() -> None:
    router = _router(virtual_only=True)
    assert router.resolve("fast") is FAST
    with pytest.raises(UnknownModel):
        router.resolve("acme/acme-3")


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
        _router().resolve(name)
    assert caught.value.message == message


def test_a_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(UnknownModel) as caught:
        _router().resolve("x" * 5000)
    assert len(caught.value.message) < 250
