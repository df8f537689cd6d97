"""From settings to the parts that serve: plug-ins made, names resolved, mistakes told in one line."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, cast

from gateway.engine.breaker import Breaker, BreakerRules
from gateway.engine.limits import LoopLimits, TimeLimits
from gateway.engine.loop import ToolLoop
from gateway.engine.router import Route, Router, Target, Upstream
from gateway.engine.several import Several
from gateway.engine.switch import Switch, stand_in
from gateway.engine.tools.tool import Source, Tool, Toolbox
from gateway.engine.turns import Turns
from gateway.errors import UnknownModel
from gateway.ports import Engine, Interceptor, Provider, Wire
from gateway.server import agents, plugins, toolbox
from gateway.server.archives import open_archive
from gateway.server.calls import Calls
from gateway.server.conversations import Conversations
from gateway.server.ledgers import open_ledger
from gateway.server.mirrors import open_mirror
from gateway.server.models import Models
from gateway.server.pipeline import guard
from gateway.server.prices import Prices
from gateway.server.service import Service
from gateway.server.settings import ModelRow, ProviderRow, Settings, SettingsError

T = TypeVar("T")

_DEMO_MODELS = (
    "demo",
    "demo-fast",
    "demo-slow",
    "demo-long",
    "demo-echo",
    "demo-fail",
    "demo-limit",
    "demo-break",
    "demo-cut",
    "demo-hang",
    "demo-embed",
)

# Providers that need no line in a file when the environment holds their key.
_KNOWN: Mapping[str, tuple[str, str, str]] = {
    "openai": ("openai", "OPENAI_API_KEY", "https://api.openai.com/v1"),
    "anthropic": ("anthropic", "ANTHROPIC_API_KEY", "https://api.anthropic.com"),
    "groq": ("openai", "GROQ_API_KEY", "https://api.groq.com/openai/v1"),
    "deepseek": ("openai", "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1"),
    "mistral": ("openai", "MISTRAL_API_KEY", "https://api.mistral.ai/v1"),
    "openrouter": ("openai", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
    "xai": ("openai", "XAI_API_KEY", "https://api.x.ai/v1"),
}


def assemble(settings: Settings) -> Service:
    """Raises `SettingsError` or `PluginError`. Does no I/O on the network; the ledger is not started."""
    config, place = settings.file, str(settings.config)
    plugins.look_in(settings.config.parent)
    tools = toolbox.make(settings)
    upstreams = {
        name: _upstream(name, row, tools, place) for name, row in _provider_rows(settings).items()
    }
    router = Router(
        upstreams,
        _routes(settings, upstreams, tools, place),
        virtual_only=config.expose == "virtual",
    )
    _check_tiers(settings, router, place)
    limits = LoopLimits(**config.loop.model_dump())
    ledger, archive = open_ledger(settings), open_archive(settings)
    return Service(
        settings=settings,
        ledger=ledger,
        mirror=open_mirror(settings, ledger),
        archive=archive,
        conversations=None if archive is None else Conversations(archive, settings.window),
        router=router,
        models=Models(router),
        engine=Several(Switch(router, ToolLoop(router, Turns(), limits))),
        prices=Prices(config.prices, config.tool_prices),
        calls=Calls(),
        tools=list(tools.values()),
        interceptors=[
            _interceptor(name, f"{place}: interceptors.{index}")
            for index, name in enumerate(config.interceptors)
        ],
    )


def _interceptor(name: str, field: str) -> Interceptor:
    try:
        return guard(cast(Interceptor, plugins.load("gateway.interceptors", name)))
    except plugins.PluginError as error:
        raise SettingsError(f"{field}: {error}") from None


def wires(settings: Settings) -> list[Wire]:
    """Raises `SettingsError` or `PluginError`."""
    names = settings.wires or plugins.names("gateway.wires")
    for name in settings.file.wires:
        _pick(f"{settings.config}: wires", dict.fromkeys(names), [name])
    return [_wire(name, settings) for name in names]


def _wire(name: str, settings: Settings) -> Wire:
    make = cast(Callable[..., Wire], plugins.load("gateway.wires", name))
    options = settings.file.wires.get(name)
    try:
        return make(options) if options else make()
    except TypeError:
        raise SettingsError(f"{settings.config}: wires.{name}: it takes no options") from None
    except ValueError as error:
        raise SettingsError(f"{settings.config}: wires.{name}: {error}") from None


def _provider_rows(settings: Settings) -> dict[str, ProviderRow]:
    if settings.file.providers is not None:
        return settings.file.providers
    every_tool = tuple(toolbox.rows(settings))
    rows = {"demo": ProviderRow(type="demo", models=_DEMO_MODELS, tools=every_tool)}
    for name, (kind, variable, url) in _KNOWN.items():
        if key := settings.environ.get(variable):
            base_url = settings.environ.get(f"{name.upper()}_BASE_URL") or url
            rows[name] = ProviderRow.model_validate(
                {"type": kind, "api_key": key, "base_url": base_url, "tools": every_tool}
            )
    return rows


def _upstream(
    name: str, row: ProviderRow, tools: Mapping[str, Tool | Toolbox], place: str
) -> Upstream:
    field = f"{place}: providers.{name}"
    try:
        make = cast(
            Callable[[str, Mapping[str, object]], Provider],
            plugins.load("gateway.providers", row.type),
        )
    except plugins.PluginError as error:
        raise SettingsError(f"{field}.type: {error}") from None
    try:
        provider = make(name, row.own())
    except ValueError as error:
        raise SettingsError(f"{field}: {error}") from None
    plain, sources = _offered(f"{field}.tools", tools, row.tools)
    return Upstream(
        provider=provider,
        limits=TimeLimits(**row.timeout.model_dump()),
        asks_whole=getattr(provider, "asks_whole", False),
        retries=getattr(provider, "retries", 1) if row.retries is None else row.retries,
        breaker=BreakerRules(**row.breaker.model_dump()) if row.breaker is not None else None,
        tools=plain,
        sources=sources,
    )


def _routes(
    settings: Settings,
    upstreams: Mapping[str, Upstream],
    tools: Mapping[str, Tool | Toolbox],
    place: str,
) -> list[Route]:
    config = settings.file
    targets: dict[str, Target] = {}
    tiers = {"default": None, **config.tiers}
    for name, model in config.models.items():
        _pick(f"{place}: models.{name}.tiers", tiers, model.tiers or ())
    if any(model.engine for model in config.models.values()):
        agents.lend(settings.environ)
    routes = {
        name: _route(name, row, upstreams, targets, tools, place)
        for name, row in config.models.items()
    }
    if config.expose == "all":
        for name, row in _provider_rows(settings).items():
            upstream = upstreams[name]
            for bare in row.models:
                target = (Target(upstream, bare),)
                route = Route(
                    name=bare,
                    targets=target,
                    tools=upstream.tools,
                    sources=upstream.sources,
                    owner=name,
                )
                routes.setdefault(bare, route)
    return list(routes.values())


def _check_tiers(settings: Settings, router: Router, place: str) -> None:
    for name, row in settings.file.tiers.items():
        if row.task_model is not None:
            try:
                router.resolve(row.task_model, name)
            except UnknownModel as error:
                raise SettingsError(f"{place}: tiers.{name}.task_model: {error}") from None
        if row.jwt_secret is not None and not row.trust:
            raise SettingsError(f"{place}: tiers.{name}.jwt_secret: is for a tier with trust: true")


def _route(
    name: str,
    row: ModelRow,
    upstreams: Mapping[str, Upstream],
    targets: dict[str, Target],
    tools: Mapping[str, Tool | Toolbox],
    place: str,
) -> Route:
    """`targets` has those made before: what one name finds out about a target, others know as well."""
    for index, target in enumerate(row.targets):
        if target not in targets:
            provider, _, model = target.partition("/")
            field = f"{place}: models.{name}.targets.{index}"
            upstream = _pick(field, upstreams, [provider])[0]
            breaker = None if upstream.breaker is None else Breaker(upstream.breaker)
            targets[target] = Target(upstream, model, breaker)
    engine = None
    own = tuple(targets[target] for target in row.targets)
    if row.engine is not None:
        engine, kind = _engine(name, row.engine, place)
        own = (stand_in(name, kind, row.timeout),)
    plain, sources = _offered(f"{place}: models.{name}.tools", tools, row.tools)
    return Route(
        name=name,
        targets=own,
        engine=engine,
        tools=plain,
        sources=sources,
        system=row.system,
        dialect=row.notifications,
        title=row.name,
        tiers=None if row.tiers is None else frozenset(row.tiers),
        defaults=row.defaults,
        caps=row.caps,
    )


def _engine(name: str, spec: str, place: str) -> tuple[Engine, str]:
    try:
        return agents.load(spec, name)
    except plugins.PluginError as error:
        raise SettingsError(f"{place}: models.{name}.engine: {error}") from None


def _offered(
    field: str, there: Mapping[str, Tool | Toolbox], names: Iterable[str]
) -> tuple[tuple[Tool, ...], tuple[Source, ...]]:
    """Tools by their names, and boxes of them, or single tools of these, that are there at times."""
    plain: list[Tool] = []
    sources: list[Source] = []
    for name in names:
        single = None if name in there else toolbox.single(name, there)
        found = single or _pick(field, there, [name])[0]
        if isinstance(found, Toolbox | toolbox.Single):
            sources.append(found)
        else:
            plain.append(found)
    return tuple(plain), tuple(sources)


def _pick(field: str, there: Mapping[str, T], names: Iterable[str]) -> list[T]:
    for name in names:
        if name not in there:
            close = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(there)}"
            raise SettingsError(f"{field}: there is no {name!r}; {hint}")
    return [there[name] for name in names]
