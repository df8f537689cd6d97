from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.records import Detail, Dialect
from gateway.server.assembly import assemble
from gateway.server.settings import (
    BreakerRow,
    Config,
    LoopRow,
    PriceRow,
    ProviderRow,
    Settings,
    SettingsError,
    TimeoutRow,
)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a file of settings."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file = folder / "sluice.yaml"
    file.write_text(text, "utf-8")
    return Settings.load({**(environ or {}), "SLUICE_CONFIG": str(file)})


@pytest.mark.usefixtures("nowhere")
def test_nothing_has_to_be_set() -> None:
    settings = Settings.load({})
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)
    assert settings.ledger_url == "sqlite:///data/sluice.db"
    assert settings.notifications is Dialect.NAMED
    assert settings.notification_detail is Detail.RESULTS
    assert settings.file == Config()
    assert settings.file.providers is None


@pytest.mark.usefixtures("nowhere")
def test_every_setting_is_read_from_its_variable() -> None:
    settings = Settings.load(
        {
            "SLUICE_HOST": "0.0.0.0",
            "SLUICE_PORT": "0",
            "SLUICE_DATA_DIR": "/var/lib/sluice",
            "SLUICE_WIRES": "openai_chat, native,",
            "SLUICE_CORS_ORIGINS": "https://a.example,https://b.example",
            "SLUICE_LOG_LEVEL": "debug",
            "SLUICE_NOTIFICATIONS": "off",
            "SLUICE_NOTIFICATION_DETAIL": "Names",
            "SLUICE_HEARTBEAT": "2.5",
            "OPENAI_API_KEY": "sk-x",
        }
    )
    assert settings.host == "0.0.0.0"
    assert settings.port == 0
    assert settings.ledger_url == "sqlite:////var/lib/sluice/sluice.db"
    assert settings.wires == ("openai_chat", "native")
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.log_level == "debug"
    assert settings.notifications is Dialect.OFF
    assert settings.notification_detail is Detail.NAMES
    assert settings.heartbeat == 2.5
    assert settings.environ["OPENAI_API_KEY"] == "sk-x"


@pytest.mark.usefixtures("nowhere")
def test_an_empty_variable_is_as_none() -> None:
    assert Settings.load({"SLUICE_PORT": "", "SLUICE_LEDGER": "", "SLUICE_CONFIG": ""}).port == 3000


@pytest.mark.usefixtures("nowhere")
def test_variables_of_others_are_left_alone() -> None:
    Settings.load({"SLUICE_UI_THEME": "dark", "SLUICEPORT": "1", "PORT": "1"})


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SLUICE_PORT": "http"}, "SLUICE_PORT: expected a whole number, got 'http'"),
        ({"SLUICE_PORT": "80.5"}, "SLUICE_PORT: expected a whole number, got '80.5'"),
        (
            {"SLUICE_PORT": "70000"},
            "SLUICE_PORT: expected less than or equal to 65535, got '70000'",
        ),
        ({"SLUICE_HEARTBEAT": "soon"}, "SLUICE_HEARTBEAT: expected a number, got 'soon'"),
        ({"SLUICE_HEARTBEAT": "0"}, "SLUICE_HEARTBEAT: expected greater than 0, got '0'"),
        ({"SLUICE_DRAIN": "inf"}, "SLUICE_DRAIN: expected a finite number, got 'inf'"),
        ({"SLUICE_DRAIN": "-1"}, "SLUICE_DRAIN: expected greater than 0, got '-1'"),
        (
            {"SLUICE_LOG_LEVEL": "loud"},
            "SLUICE_LOG_LEVEL: expected 'debug', 'info', 'warning' or 'error', got 'loud'",
        ),
        (
            {"SLUICE_NOTIFICATIONS": "loud"},
            "SLUICE_NOTIFICATIONS: expected 'named', 'inline', 'openwebui', 'bare' or 'off',"
            " got 'loud'",
        ),
        (
            {"SLUICE_NOTIFICATION_DETAIL": "all"},
            "SLUICE_NOTIFICATION_DETAIL: expected off, names, arguments or results, got 'all'",
        ),
        ({"SLUICE_PROT": "3000"}, "SLUICE_PROT: no such setting; did you mean SLUICE_PORT?"),
        (
            {"SLUICE_NOTIFICATION": "off"},
            "SLUICE_NOTIFICATION: no such setting; did you mean SLUICE_NOTIFICATIONS?",
        ),
        ({"SLUICE_CONFIG": "none.yaml"}, "SLUICE_CONFIG: no file 'none.yaml'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
@pytest.mark.usefixtures("nowhere")
def test_a_mistake_in_the_environment_is_one_line(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ)
    assert str(caught.value) == message


def test_the_file_says_the_rest(tmp_path: Path) -> None:
    file = _load(
        tmp_path,
        """
        providers:
          acme:
            type: openai
            base_url: ${ACME_URL}/v1
            headers: {x-team: "a-${TEAM}-b-${TEAM}"}
            timeout: {idle: 20}
            models: [acme-mini]
        models:
          fast: {targets: [acme/acme-mini, acme/org/model], system: Be brief., notifications: bare}
        tiers:
          default: {detail: names}
        prices:
          fast: {input: 1, output: 2.5}
        expose: virtual
        loop: {rounds: 3}
        """,
        {"ACME_URL": "http://acme.example", "TEAM": "x"},
    ).file
    assert file.providers is not None
    acme = file.providers["acme"]
    assert acme.timeout == TimeoutRow(idle=20)
    assert acme.breaker == BreakerRow()
    assert acme.own() == {
        "base_url": "http://acme.example/v1",
        "headers": {"x-team": "a-x-b-x"},
        "connect_timeout": acme.timeout.connect,
    }
    assert acme.models == ("acme-mini",)
    assert file.models["fast"].targets == ("acme/acme-mini", "acme/org/model")
    assert file.models["fast"].notifications is Dialect.BARE
    assert file.tiers["default"].detail is Detail.NAMES
    assert file.prices["fast"] == PriceRow(input=1, output=2.5)
    assert file.loop == LoopRow(rounds=3)
    assert file.expose == "virtual"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_a_file_may_be_empty(tmp_path: Path, text: str) -> None:
    assert _load(tmp_path, text).file == Config()


ROW = "providers: {acme: {type: openai, "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "provider: {}", "provider: no such setting; did you mean providers?", id="top"
        ),
        pytest.param(
            "loop: {round: 3}", "loop.round: no such setting; did you mean rounds?", id="a row"
        ),
        pytest.param(
            "models: {fast: {targets: [a/b], sistem: x}}",
            "models.fast.sistem: no such setting; did you mean system?",
            id="a row by name",
        ),
        pytest.param(
            ROW + "timeout: {first: 3}}}",
            "providers.acme.timeout.first: no such setting; did you mean first_event?",
            id="a row in a row",
        ),
        pytest.param(
            "tiers: {default: {wanted: 1}}",
            "tiers.default.wanted: no such setting; expected one of detail, jwt_secret,"
            " notifications, task_model, trust",
            id="nothing like it",
        ),
        pytest.param(
            "providers: {acme: {base_url: x}}",
            "providers.acme.type: missing; expected the kind of provider or tool",
            id="missing type",
        ),
        pytest.param(
            "models: {fast: {system: x}}",
            "models.fast: expected either targets (a list of provider/model) or engine"
            " (module:attribute)",
            id="missing targets",
        ),
        pytest.param(
            "models: {fast: {targets: [a/b], engine: 'a:b'}}",
            "models.fast: expected either targets (a list of provider/model) or engine"
            " (module:attribute)",
            id="targets and engine",
        ),
        pytest.param(
            "models: {fast: {targets: [a/b], caps: {max_tokens: lots}}}",
            "models.fast.caps.max_tokens: expected a number greater than 0, got 'lots'",
            id="a cap that is no number",
        ),
        pytest.param(
            "models: {fast: {targets: [a/b], caps: {max_tokens: 0}}}",
            "models.fast.caps.max_tokens: expected a number greater than 0, got 0",
            id="a cap of nothing",
        ),
        pytest.param(
            "tiers: {public: {detail: on}}",
            "tiers.public.detail: expected off, names, arguments or results, got True",
            id="a detail that YAML takes for true",
        ),
        pytest.param(
            "models: {fast: {engine: 'a:b', tools: [calculator]}}",
            "models.fast: 'tools' is an engine's own",
            id="tools of an engine",
        ),
        pytest.param(
            "models: {fast: {targets: [a/b], timeout: 3}}",
            "models.fast: 'timeout' is for an engine only",
            id="timeout of targets",
        ),
        pytest.param(
            "models: {fast: {targets: []}}",
            "models.fast.targets: expected at least one",
            id="no targets",
        ),
        pytest.param(
            "models: {fast: {targets: [acme]}}",
            "models.fast.targets: expected provider/model, got 'acme'",
            id="half a target",
        ),
        pytest.param(
            "models: {fast: {targets: acme/x}}",
            "models.fast.targets: expected a list, got 'acme/x'",
            id="no list",
        ),
        pytest.param(
            "models: {fast: {targets: [3]}}",
            "models.fast.targets.0: expected text, got 3",
            id="no text",
        ),
        pytest.param("models: [fast]", "models: expected a mapping", id="no mapping"),
        pytest.param("models: fast", "models: expected a mapping, got 'fast'", id="a word"),
        pytest.param("models: {fast: 3}", "models.fast: expected a mapping, got 3", id="no row"),
        pytest.param(
            'providers: {"a/b": {type: openai}}',
            "providers: a provider's name has no slash, got 'a/b'",
            id="a slash in a provider's name",
        ),
        pytest.param(
            ROW + "retries: many}}",
            "providers.acme.retries: expected a whole number, got 'many'",
            id="no number",
        ),
        pytest.param(
            ROW + "retries: 11}}",
            "providers.acme.retries: expected less than or equal to 10, got 11",
            id="too many",
        ),
        pytest.param(
            ROW + "timeout: {idle: 0}}}",
            "providers.acme.timeout.idle: expected greater than 0, got 0",
            id="too little",
        ),
        pytest.param(
            "prices: {x: {input: free, output: 1}}",
            "prices.x.input: expected a number, got 'free'",
            id="no price",
        ),
        pytest.param(
            "expose: some", "expose: expected 'all' or 'virtual', got 'some'", id="a choice"
        ),
        pytest.param(
            "tiers: {default: {detail: all}}",
            "tiers.default.detail: expected off, names, arguments or results, got 'all'",
            id="a detail",
        ),
        pytest.param(
            ROW + "api_key: '${ACME_KEY}'}}",
            "providers.acme.api_key: the variable 'ACME_KEY' is not set;"
            " expected it in the environment or in .env",
            id="a variable that is not set",
        ),
        pytest.param(
            "interceptors: ['${}']",
            "interceptors.0: the variable '' is not set; expected it in the environment or in .env",
            id="a variable without a name",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'sluice.yaml'}: {message}"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param("a: [", "not YAML: while parsing a flow node", id="not YAML"),
        pytest.param("a: !!python/object:os.system x", "not YAML: could not", id="a tag"),
        pytest.param("[1, 2]", "expected a mapping of settings, got [1, 2]", id="a list"),
        pytest.param("words", "expected a mapping of settings, got 'words'", id="words"),
        pytest.param("prices: &a {x: *a}", "an alias (*) stands within", id="an endless alias"),
        pytest.param("a: " + "[" * 3_000, "nested too deeply", id="deep"),
        pytest.param("a: 0000-00-00", "not YAML: ", id="no date"),
    ],
)
def test_a_file_that_is_no_mapping_is_one_line(tmp_path: Path, text: str, start: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'sluice.yaml'}: {start}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_or_no_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path):
        with pytest.raises(SettingsError, match="cannot be read") as caught:
            Settings.load({"SLUICE_CONFIG": str(path)})
        assert "\n" not in str(caught.value)


SECRET = "sk-live-0123456789"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("providers: [{type: openai, api_key: '${KEY}'}]", id="a list of rows"),
        pytest.param("providers: {acme: [{api_key: '${KEY}'}]}", id="a row in a list"),
        pytest.param("models: {fast: {targets: {api_key: '${KEY}'}}}", id="a mapping for a list"),
        pytest.param("models: {fast: {targets: [a/b], api_key: '${KEY}'}}", id="in the wrong row"),
    ],
)
def test_no_mistake_shows_a_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, text, {"KEY": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("nowhere")
def test_settings_can_be_shown_without_their_keys() -> None:
    settings = Settings.load({"SLUICE_BRAVE_API_KEY": SECRET, "OPENAI_API_KEY": SECRET})
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.model_dump(exclude={"brave_api_key"}))


def test_a_providers_own_fields_are_its_own_to_check() -> None:
    row = ProviderRow.model_validate({"type": "x", "anything": [1]})
    assert row.own() == {"anything": [1], "connect_timeout": 5.0}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "providers:\n  a: {type: demo}\n  a: {type: openai}\n",
            "not YAML: 'a' stands twice, the second time in line 3",
        ),
        (
            "tools: {a b: {type: calculator}}",
            "tools: a tool's name has only letters, digits, _ and -, got 'a b'",
        ),
    ],
    ids=["twice", "name"],
)
def test_names_stand_once_and_can_be_called(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "sluice.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load({"SLUICE_CONFIG": str(file)})
    assert str(caught.value) == f"{file}: {line}"


@pytest.mark.parametrize("word", ["off", '"off"'])
def test_notifications_are_off_as_yaml_spells_it(tmp_path: Path, word: str) -> None:
    row = f"{{notifications: {word}, detail: {word}}}"
    models = f"models: {{quiet: {{targets: [demo/demo], notifications: {word}}}}}"
    file = _load(tmp_path, f"tiers: {{public: {row}}}\n{models}").file
    assert file.tiers["public"].notifications is Dialect.OFF
    assert file.tiers["public"].detail is Detail.OFF
    assert file.models["quiet"].notifications is Dialect.OFF


@pytest.mark.parametrize(
    ("text", "breaker"),
    [
        ("off", None),
        ("{failures: 2}", BreakerRow(failures=2)),
        ("{window: 5.5, pause: 1}", BreakerRow(window=5.5, pause=1)),
    ],
)
def test_a_breaker_is_set_or_switched_off(
    tmp_path: Path, text: str, breaker: BreakerRow | None
) -> None:
    file = _load(tmp_path, f"providers: {{acme: {{type: demo, breaker: {text}}}}}").file
    assert file.providers is not None
    assert file.providers["acme"].breaker == breaker


def test_names_with_the_same_target_share_its_breaker(tmp_path: Path) -> None:
    settings = _load(
        tmp_path,
        """
        providers: {a: {type: demo}, b: {type: demo, breaker: off}}
        models: {x: {targets: [a/demo, b/demo]}, y: {targets: [b/demo, a/demo]}}
        """,
        {"SLUICE_DATA_DIR": str(tmp_path)},
    )
    routes = assemble(settings).router.routes
    assert routes["x"].targets[0].breaker is routes["y"].targets[1].breaker is not None
    assert routes["x"].targets[1].breaker is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("tiers: [gold]", "models.x.tiers: there is no 'gold'; expected one of default, public"),
        ("tiers: [publik]", "models.x.tiers: there is no 'publik'; did you mean 'public'?"),
        ("tiers: []", "models.x.tiers: expected at least one"),
        ("defaults: {stream: true}", "models.x.defaults: 'stream' is no option of a model"),
        ("caps: {n: 1}", "models.x.caps: 'n' is no option of a model"),
    ],
)
def test_a_mistake_in_what_a_name_may_do_is_one_line(
    tmp_path: Path, row: str, message: str
) -> None:
    text = f"""
        providers: {{a: {{type: demo}}}}
        tiers: {{public: {{}}}}
        models: {{x: {{targets: [a/demo], {row}}}}}
    """
    with pytest.raises(SettingsError) as caught:
        assemble(_load(tmp_path, text, {"SLUICE_DATA_DIR": str(tmp_path)}))
    assert str(caught.value).endswith(message)
