"""The docs say what is so: settings, links, and the configuration they show."""

import re
from pathlib import Path

import pytest
import yaml

from gateway.server.settings import Config, Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FIELDS = {name: field for name, field in Settings.model_fields.items() if not field.exclude}


@pytest.mark.parametrize(
    "page", [ROOT / ".env.example", ROOT / "docs" / "configuration.md"], ids=str
)
def test_every_setting_is_documented_and_nothing_else(page: Path) -> None:
    named = set(re.findall(r"SLUICE_([A-Z_]+)", page.read_text()))
    assert named == {name.upper() for name in FIELDS}


def test_defaults_in_the_example_are_the_defaults() -> None:
    lines = re.findall(
        r"^# SLUICE_([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE
    )
    environ = {f"SLUICE_{name}": value for name, value in lines if name != "CONFIG"}
    assert Settings.load(environ) == Settings.load({}).model_copy(update={"environ": environ})
    assert {name for name, _ in lines} == {name.upper() for name in FIELDS}


def test_settings_say_what_they_are_for() -> None:
    source = (ROOT / "gateway/server/settings.py").read_text()
    source = source[source.index("class Settings(") :]
    page = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", (ROOT / "docs/configuration.md").read_text())
    for name in FIELDS:
        documented = re.search(rf'^    {name}: .*\n    """(.+)"""$', source, re.MULTILINE)
        assert documented, f"{name} has no docstring of one line"
        assert documented[1].rstrip(".").split(";")[0].split(":")[0][:40] in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configuration_in_docs_is_taken(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        environ = {name: "x" for name in re.findall(r"\$\{(\w+)\}", block)}
        settings = Settings.load({**environ, "SLUICE_CONFIG": str(file)})
        assert settings.file != Config()
        assert yaml.safe_load(block).keys() <= Config.model_fields.keys()


def test_modules_that_the_architecture_names_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    names = set(re.findall(r"`(\w+)\.py`", page))
    there = {path.stem for path in (ROOT / "gateway").rglob("*.py")}
    assert names <= there
