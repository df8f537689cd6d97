"""Every setting, read once: the environment, `.env`, and `sluice.yaml`.

`Settings.load(environ)` is called at start (and by tests, with a plain dict); from then on settings
are values that are handed to whoever needs them. A wrong one raises `SettingsError` with one line
that names the place, the field and what is expected.
"""

import difflib
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from gateway.engine.breaker import BreakerRules
from gateway.engine.limits import LoopLimits, TimeLimits
from gateway.records import Detail, Dialect

PREFIX = "SLUICE_"


class SettingsError(Exception):
    """One line for the operator."""


def _split(value: object) -> object:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _spell_off(value: object) -> object:
    """`off`, which YAML takes for false."""
    return "off" if value is False else value


def _name_detail(value: object) -> object:
    value = _spell_off(value)
    if isinstance(value, str) and value.upper() in Detail.__members__:
        return Detail[value.upper()]
    if isinstance(value, Detail):
        return value
    raise ValueError("expected off, names, arguments or results")


DetailName = Annotated[Detail, BeforeValidator(_name_detail)]
DialectName = Annotated[Dialect, BeforeValidator(_spell_off)]


LevelName = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]


def _in_one_word(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """What both kinds of number say of a value that is neither."""
    try:
        return check(value)
    except ValidationError:
        raise ValueError("expected a number greater than 0") from None


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_TIME, _LOOP, _BREAKER = TimeLimits(), LoopLimits(), BreakerRules()


class TimeoutRow(_Row):
    """`timeout` of a provider, in seconds (see `TimeLimits`)."""

    connect: PositiveFloat = _TIME.connect
    first_event: PositiveFloat = _TIME.first_event
    idle: PositiveFloat = _TIME.idle
    total: PositiveFloat = _TIME.total


class BreakerRow(_Row):
    """`breaker` of a provider (see `BreakerRules`)."""

    failures: int = Field(default=_BREAKER.failures, ge=2, le=1000)
    window: PositiveFloat = _BREAKER.window
    pause: PositiveFloat = _BREAKER.pause


def _off(value: object) -> object:
    """`breaker: off`, which YAML takes for false."""
    return None if value is False else value


class LoopRow(_Row):
    """`loop`: what one answer may use up (see `LoopLimits`)."""

    rounds: PositiveInt = _LOOP.rounds
    parallel_calls: PositiveInt = _LOOP.parallel_calls
    calls: PositiveInt = _LOOP.calls
    result_bytes: PositiveInt = _LOOP.result_bytes


class ProviderRow(_Row):
    """A row of `providers`. What is not named here is the adapter's own to check."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    type: str
    retries: int | None = Field(default=None, ge=0, le=10)
    """None for what the provider itself has as `retries`, else once."""
    timeout: TimeoutRow = TimeoutRow()
    breaker: Annotated[BreakerRow | None, BeforeValidator(_off)] = BreakerRow()
    models: tuple[str, ...] = ()
    """Names that need no `provider/` before them, and are listed."""
    tools: tuple[str, ...] = ()
    """Tools that all its models are offered, but those under `models`, which have their own."""

    def own(self) -> dict[str, object]:
        """The adapter's part of the row."""
        return {**(self.model_extra or {}), "connect_timeout": self.timeout.connect}


_NO_OPTIONS = frozenset({"model", "messages", "tools", "n", "stream", "stream_options"})
"""What a client decides, and only a client."""


class ModelRow(_Row):
    """A row of `models`: a name that clients use, of a list of targets or of an engine."""

    targets: tuple[str, ...] = Field(default=(), min_length=1)
    engine: str | None = None
    """An agent, or another engine that is not ours, as `module:attribute`."""
    timeout: PositiveFloat = 600.0
    """Seconds that an engine may take for an answer. Targets have those of their providers."""
    tools: tuple[str, ...] = ()
    system: str | None = None
    notifications: DialectName | None = None
    name: str = ""
    """What people call it, where a client shows names."""
    tiers: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Whose keys may use it. Default: all."""
    defaults: dict[str, object] = {}
    """Options of requests that do not have them."""
    caps: dict[str, Annotated[PositiveInt | PositiveFloat, WrapValidator(_in_one_word)]] = {}
    """The most that an option may be; a higher one is lowered to it."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "ModelRow":
        if (self.engine is None) == (not self.targets):
            raise ValueError(
                "expected either targets (a list of provider/model) or engine (module:attribute)"
            )
        foreign = {"tools"} if self.engine is not None else {"timeout"}
        for name in foreign & self.model_fields_set:
            owner = "an engine's own" if self.engine is not None else "for an engine only"
            raise ValueError(f"{name!r} is {owner}")
        return self

    @field_validator("defaults", "caps")
    @classmethod
    def _optional(cls, options: dict[str, object]) -> dict[str, object]:
        for name in options:
            if name in _NO_OPTIONS:
                raise ValueError(f"{name!r} is no option of a model")
        return options

    @field_validator("targets")
    @classmethod
    def _named(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for target in targets:
            provider, slash, model = target.partition("/")
            if not (provider and slash and model):
                raise ValueError(f"expected provider/model, got {target!r}")
        return targets


class ToolRow(_Row):
    """A row of `tools`. What is not named here is the tool's own to check."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    type: str

    def own(self) -> dict[str, object]:
        return dict(self.model_extra or {})


class TierRow(_Row):
    """A row of `tiers`: what the keys of a tier are given, beside the model's answer."""

    notifications: DialectName | None = None
    detail: DetailName | None = None
    trust: bool = False
    """Whether its keys belong to an Open WebUI, whose headers say who is asking."""
    jwt_secret: str | None = Field(default=None, min_length=1, repr=False)
    """With which that Open WebUI signs who is asking; unsigned headers are not believed then."""
    task_model: str | None = None
    """Which model does chores such as the title of a chat. Default: the one that was asked for."""


class PriceRow(_Row):
    """A row of `prices`, US dollars for a million tokens; it stands before the built-in list."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)


class Config(_Row):
    """The whole of `sluice.yaml`. All of it is optional."""

    providers: dict[str, ProviderRow] | None = None
    models: dict[str, ModelRow] = {}
    tools: dict[str, ToolRow] = {}
    tiers: dict[str, TierRow] = {}
    prices: dict[str, PriceRow] = {}
    tool_prices: dict[str, Annotated[float, Field(ge=0)]] = {}
    """US dollars for a call, by the name of the tool."""
    interceptors: tuple[str, ...] = ()
    """`module:attribute` each; the first is the nearest to the client."""
    expose: Literal["all", "virtual"] = "all"
    """`virtual`: only the names under `models` can be asked for."""
    loop: LoopRow = LoopRow()
    wires: dict[str, dict[str, object]] = {}
    """Options of wires, by their names; which ones there are is the wire's own to check."""

    @field_validator("tools")
    @classmethod
    def _callable_names(cls, rows: dict[str, ToolRow]) -> dict[str, ToolRow]:
        for name in rows:
            if not re.fullmatch("[a-zA-Z0-9_-]{1,64}", name):
                raise ValueError(f"a tool's name has only letters, digits, _ and -, got {name!r}")
        return rows

    @field_validator("providers")
    @classmethod
    def _no_slash(cls, rows: dict[str, ProviderRow] | None) -> dict[str, ProviderRow] | None:
        for name in rows or ():
            if "/" in name or not name:
                raise ValueError(f"a provider's name has no slash, got {name!r}")
        return rows


class Settings(_Row):
    """What the environment says. Each field is read from `SLUICE_` and its name in capitals."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 to be reached from other machines."""
    port: int = Field(default=3000, ge=0, le=65535)
    """Port to listen on; 0 takes any free one."""
    data_dir: Path = Path("data")
    """Folder for the database."""
    config: Path = Path("sluice.yaml")
    """Providers, models, tools, tiers and prices. Need not exist."""
    ledger: str = ""
    """Where keys and usage rows are kept, as a URL. Default: sqlite in the data folder."""
    archive: str = ""
    """Where answers and conversations are kept, as a URL. Default: sqlite in the data folder."""
    retention: float = Field(default=30.0, ge=0)
    """Days for which answers and conversations are kept after their last change; 0 keeps none."""
    window: int = Field(default=20, ge=0)
    """Messages of a conversation that a model is shown at once; 0 for all."""
    wires: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Wires to serve, comma separated. Default: all that are installed."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    """Web pages that may call from a browser, comma separated; * for all. Default: none."""
    log_level: LevelName = "info"
    """Least level of log lines."""
    log_format: Literal["json", "text"] = "json"
    """One JSON object per line (json), or text for people (text)."""
    notifications: Dialect = Dialect.NAMED
    """Dialect of tool_notification where nothing else decides: named, inline, openwebui, bare or off."""
    notification_detail: DetailName = Detail.RESULTS
    """How much of a tool call callers see: off, names, arguments or results."""
    heartbeat: PositiveFloat = 15.0
    """Seconds of silence in a stream after which a comment keeps the line open."""
    first_event_wait: PositiveFloat = 10.0
    """Seconds a stream's status waits for the first event, so that an early failure has a true status."""
    send_timeout: PositiveFloat = 120.0
    """Seconds without progress after which a client that does not read is dropped."""
    body_timeout: PositiveFloat = 30.0
    """Seconds a client has to send its request."""
    drain: PositiveFloat = 25.0
    """Seconds that open streams may go on after SIGTERM before they are ended with an error."""
    max_body: PositiveInt = 10 << 20
    """Bytes of a request's body."""
    searxng_url: str = ""
    """Base URL of a SearxNG server; makes web_search available without a line in sluice.yaml."""
    brave_api_key: str = Field(default="", repr=False)
    """Key of the Brave Search API; the same, if there is no SearxNG."""
    sheet_id: str = ""
    """Id or address of the Google spreadsheet that mirrors keys and usage; further ones after commas."""
    sheet_full: float = Field(default=0.8, gt=0, le=1)
    """Share of its 10,000,000 cells at which a spreadsheet is full, and usage rows go on in the next one."""
    google_credentials: str = Field(default="", repr=False)
    """Service account for it: the JSON itself, or a path. Default: GOOGLE_APPLICATION_CREDENTIALS."""
    google_api_base: str = "https://sheets.googleapis.com"
    """Address of the Sheets API; another one for a proxy or a test server."""

    file: Config = Field(default=Config(), exclude=True)
    environ: Mapping[str, str] = Field(default={}, exclude=True, repr=False)
    """The environment, for provider keys that have names of their own."""

    @property
    def ledger_url(self) -> str:
        return self.ledger or f"sqlite:///{self.data_dir / 'sluice.db'}"

    @property
    def archive_url(self) -> str:
        return self.archive or f"sqlite:///{self.data_dir / 'archive.db'}"

    def url(self, port: int) -> str:
        """Where a client on this machine finds a gateway that listens on `port`."""
        host = "localhost" if self.host in _ANYWHERE else self.host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "Settings":
        """Reads the file that `SLUICE_CONFIG` names. Raises `SettingsError`."""
        names = {PREFIX + name.upper(): name for name in cls.model_fields if name not in _OWN}
        for variable in environ:
            if variable.startswith(PREFIX) and variable not in names:
                # A name that resembles none is taken for somebody else's, not for a slip.
                close = difflib.get_close_matches(variable, names, n=1, cutoff=0.8)
                if close:
                    raise SettingsError(f"{variable}: no such setting; did you mean {close[0]}?")
        values = {
            name: environ[variable] for variable, name in names.items() if environ.get(variable)
        }
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_first(error, lambda path: PREFIX + path.upper())) from None
        file = _read(settings.config, environ, required="config" in values)
        return settings.model_copy(update={"file": file, "environ": environ})


_OWN = {"file", "environ"}


class _Loader(yaml.SafeLoader):
    """Refuses a name that stands twice, of which YAML would silently keep the last."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"{name!r} stands twice, the second time in line {line}")
            seen.add(name)
        return super().construct_mapping(node, deep)


_ANYWHERE = {"127.0.0.1", "0.0.0.0", "::"}


def _read(path: Path, environ: Mapping[str, str], *, required: bool) -> Config:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        if required:
            raise SettingsError(f"{PREFIX}CONFIG: no file {str(path)!r}") from None
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from None
    try:
        tree = yaml.load(text, _Loader) or {}
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is no error of theirs
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: expected a mapping of settings, got {tree!r:.60}")
    try:
        return Config.model_validate(_fill(tree, environ, str(path), ()))
    except RecursionError:
        raise SettingsError(f"{path}: an alias (*) stands within what it is for") from None
    except ValidationError as error:
        raise SettingsError(_first(error, lambda field: f"{path}: {field}", Config)) from None


_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def _fill(value: object, environ: Mapping[str, str], file: str, place: tuple[str, ...]) -> object:
    """Put the environment's values where `${NAME}` stands."""

    def find(match: re.Match[str]) -> str:
        name = match[1]
        if not environ.get(name):
            raise SettingsError(
                f"{file}: {'.'.join(place)}: the variable {name!r} is not set;"
                " expected it in the environment or in .env"
            )
        return environ[name]

    match value:
        case str():
            return _VARIABLE.sub(find, value)
        case dict():
            return {
                str(key): _fill(item, environ, file, (*place, str(key)))
                for key, item in value.items()
            }
        case list():
            return [
                _fill(item, environ, file, (*place, str(index))) for index, item in enumerate(value)
            ]
        case _:
            return value


def _first(
    error: ValidationError,
    name: Callable[[str], str],
    model: type[BaseModel] | None = None,
) -> str:
    """The first error in one line: place, what was expected, what was there."""
    detail = error.errors(include_url=False)[0]
    path = [str(part) for part in detail["loc"]]
    place = name(".".join(path))
    if detail["type"] == "extra_forbidden":
        return f"{place}: no such setting{_suggest(path[-1], _siblings(model, path))}"
    if detail["type"] == "missing":
        return f"{place}: missing; expected {_expected(model, path)}"
    message = _WORDS.get(detail["type"]) or detail["msg"].removeprefix("Value error, ").replace(
        "Input should be", "expected"
    )
    value = detail["input"]
    # A whole row may hold keys, put in by then for their variables.
    hidden = "got " in message or _secret(path[-1]) or isinstance(value, dict | list)
    shown = "" if hidden else f", got {value!r:.80}"
    return f"{place}: {message}{shown}"


_WORDS = {
    "tuple_type": "expected a list",
    "too_short": "expected at least one",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "string_type": "expected text",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
}


def _secret(field: str) -> bool:
    return bool(re.search("key|token(?!s)|secret|password", field, re.IGNORECASE))


def _suggest(name: str, known: Sequence[str] | Mapping[str, str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; expected one of {', '.join(sorted(known))}" if known else ""


def _siblings(model: type[BaseModel] | None, path: Sequence[str]) -> list[str]:
    """The fields there are where `path` ends."""
    owner = model
    for part in path[:-1]:
        owner = _ROWS.get(part, owner)
    return list(owner.model_fields) if owner is not None else []


def _expected(model: type[BaseModel] | None, path: Sequence[str]) -> str:
    words = {"type": "the kind of provider or tool"}
    return words.get(path[-1], f"a value for {path[-1]!r}")


_ROWS: Mapping[str, type[BaseModel]] = {
    "providers": ProviderRow,
    "timeout": TimeoutRow,
    "breaker": BreakerRow,
    "models": ModelRow,
    "tools": ToolRow,
    "tiers": TierRow,
    "prices": PriceRow,
    "loop": LoopRow,
}
