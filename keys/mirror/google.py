"""The connection to one spreadsheet: signed calls within a budget, and Google's errors in words."""

import copy
import json
import logging
import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import orjson
import requests
from google.auth.exceptions import GoogleAuthError, RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.service_account import Credentials
from gspread.http_client import FileType, HTTPClient, ParamsType
from requests import Response
from requests.structures import CaseInsensitiveDict

logger = logging.getLogger(__name__)

SCOPE = "https://www.googleapis.com/auth/spreadsheets"
READS = WRITES = 45
"""Calls a minute. Google takes 60 of each: what is left is for commands beside a gateway."""
_MINUTE = 60.0
_TIMEOUTS = (5.0, 60.0)
"""Seconds to connect, and to wait for an answer."""
_SPEED = 40_000
"""Bytes of a body for which Google gets another second."""
_TOKEN_TIMEOUT = 20

Json = dict[str, object]


class SheetError(OSError):
    """What is wrong with the spreadsheet, and what the operator may do about it."""

    def __init__(self, what: str, todo: str = "") -> None:
        super().__init__(f"{what}; {todo}" if todo else what)
        self.what = what
        self.todo = todo


class SheetUnreachable(SheetError):
    """Google did not answer, or not now. It passes. What was sent may have been applied or not, unless
    `refused`."""

    def __init__(
        self, what: str, *, refused: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(what, "it is tried again")
        self.refused = refused
        self.retry_after = retry_after


class BudgetSpent(SheetUnreachable):
    """The call was not made: it would be one too many for this minute."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            "the calls of this minute are used up", refused=True, retry_after=retry_after
        )


class SheetRefused(SheetError):
    """Google says that the request itself is wrong (400). Nothing of it was applied by this answer."""


class SheetLost(SheetError):
    """Nothing can be read or written until the operator has done something."""


@dataclass(frozen=True, slots=True)
class SheetConfig:
    """Which spreadsheet, and as whom."""

    sheet_id: str
    account: Mapping[str, object] = field(repr=False)
    """The service account's JSON."""
    api_base: str = "https://sheets.googleapis.com"
    further: tuple[str, ...] = ()
    """Spreadsheets that usage rows go to when those before are full."""

    @classmethod
    def read(cls, config: Mapping[str, str | None]) -> "SheetConfig":
        """From `sheet_id` (or an address; several with commas), `credentials` (JSON or a path) and
        `api_base`.

        Raises `ValueError` in one line.
        """
        first, *further = map(spreadsheet_id, (config.get("sheet_id") or "").strip(", ").split(","))
        if len({first, *further}) <= len(further):
            raise ValueError("SLUICE_SHEET_ID names a spreadsheet twice")
        return cls(
            sheet_id=first,
            further=tuple(further),
            account=_account(config.get("credentials") or ""),
            api_base=(config.get("api_base") or "https://sheets.googleapis.com").rstrip("/"),
        )


def spreadsheet_id(text: str) -> str:
    """From an id or from the address that a browser shows. Raises `ValueError`."""
    text = text.strip()
    if "/d/e/" in text:
        raise ValueError(
            "SLUICE_SHEET_ID is the address of a published copy;"
            " expected that of the spreadsheet itself, as the browser shows it while you edit"
        )
    if match := re.search(r"/spreadsheets/(?:u/\d+/)?d/([\w-]+)", text):
        return match[1]
    if re.fullmatch(r"[\w-]+", text, re.ASCII):
        return text
    raise ValueError(
        "SLUICE_SHEET_ID: expected the id of a spreadsheet or its address,"
        f" https://docs.google.com/spreadsheets/d/…, got {text[:80]!r}"
    )


def _account(text: str) -> Mapping[str, object]:
    name = "SLUICE_GOOGLE_CREDENTIALS"
    text = text.strip()
    if not text:
        raise ValueError(
            f"{name}: missing; with SLUICE_SHEET_ID it has to hold a service account's key,"
            " as JSON or as the path of a file (GOOGLE_APPLICATION_CREDENTIALS does as well)"
        )
    if not text.startswith("{"):
        path = Path(text).expanduser()
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{name}: {path} cannot be read: {getattr(error, 'strerror', None) or 'no text'}"
            ) from None
    try:
        account = json.loads(text)
    except ValueError:
        raise ValueError(f"{name}: not JSON; expected a service account's key file") from None
    if not isinstance(account, dict) or account.get("type") != "service_account":
        kind = account.get("type") if isinstance(account, dict) else None
        raise ValueError(
            f"{name}: expected the key of a service account, got "
            + ("the file of an OAuth client" if kind is None else repr(str(kind)[:40]))
        )
    return account


class Budget:
    """Calls that may be made within any minute."""

    def __init__(self, limit: int, now: Callable[[], float], minute: float = _MINUTE) -> None:
        self._limit, self._now, self._minute = limit, now, minute
        self._made: deque[float] = deque()

    @property
    def used(self) -> int:
        self._forget()
        return len(self._made)

    def delay(self, calls: int = 1) -> float:
        """Seconds until that many calls may be made; 0 for now."""
        self._forget()
        excess = len(self._made) + min(calls, self._limit) - self._limit
        if excess <= 0:
            return 0.0
        return max(0.0, self._made[excess - 1] + self._minute - self._now())

    def spend(self) -> None:
        """Counts one call. Raises `BudgetSpent`."""
        if delay := self.delay():
            raise BudgetSpent(delay)
        self._made.append(self._now())

    def _forget(self) -> None:
        since = self._now() - self._minute
        while self._made and self._made[0] <= since:
            self._made.popleft()


class Google:
    """Reads and writes the spreadsheet. For one thread. Nothing is tried twice here.

    Every method raises `SheetError`. Construction does no I/O; it raises `ValueError` for an account
    without a usable key.
    """

    def __init__(
        self,
        config: SheetConfig,
        *,
        now: Callable[[], float] = time.monotonic,
        timeouts: tuple[float, float] = _TIMEOUTS,
        limits: tuple[int, int] = (READS, WRITES),
    ) -> None:
        self.sheet_id = config.sheet_id
        self.reads = Budget(limits[0], now)
        self.writes = Budget(limits[1], now)
        try:
            credentials = Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                config.account, scopes=[SCOPE]
            )
        except (ValueError, GoogleAuthError) as error:
            raise ValueError(
                f"SLUICE_GOOGLE_CREDENTIALS: the key cannot be used: {error}"
            ) from None
        self.email = str(credentials.service_account_email)
        """With whom a person shares the spreadsheet."""
        session = AuthorizedSession(credentials, refresh_timeout=_TOKEN_TIMEOUT)  # type: ignore[no-untyped-call]
        self._client = _Client(session, config.api_base, config.sheet_id, timeouts, self.email)

    def other(self, sheet_id: str) -> "Google":
        """The same connection and budget for another spreadsheet."""
        google = copy.copy(self)
        google.sheet_id = sheet_id
        google._client = self._client.again(sheet_id=sheet_id)
        return google

    def within(self, seconds: float) -> "Google":
        """The same, for who would rather have no answer than a late one."""
        google = copy.copy(self)
        google._client = self._client.again(longest=seconds)
        return google

    def used(self) -> tuple[int, int]:
        """Reads and writes in the last minute."""
        return self.reads.used, self.writes.used

    def delay(self, *, reads: int = 0, writes: int = 0) -> float:
        """Seconds until so many calls may be made; 0 for now."""
        return max(
            self.reads.delay(reads) if reads else 0.0,
            self.writes.delay(writes) if writes else 0.0,
        )

    def metadata(self, fields: str) -> Json:
        """`spreadsheets.get`: one read."""
        self.reads.spend()
        return self._client.ask("get", "", params={"fields": fields})

    def values(self, ranges: Sequence[str]) -> list[list[list[object]]]:
        """Values of each range, rows of cells, without trailing blanks: one read. Dates are numbers."""
        self.reads.spend()
        answer = self._client.ask(
            "get",
            "/values:batchGet",
            params={
                "ranges": list(ranges),
                "valueRenderOption": "UNFORMATTED_VALUE",
                "dateTimeRenderOption": "SERIAL_NUMBER",
            },
        )
        found = answer.get("valueRanges")
        if not isinstance(found, list) or len(found) != len(ranges):
            raise SheetUnreachable("Google answered something else than the ranges asked for")
        return [item.get("values", []) for item in found]

    def update(self, body: bytes) -> Json:
        """`spreadsheets.batchUpdate` with this very body: one write, applied whole or not at all."""
        self.writes.spend()
        return self._client.ask("post", ":batchUpdate", data=body)

    def close(self) -> None:
        self._client.session.close()


class _Client(HTTPClient):
    """gspread's client at another address, with timeouts, and with errors in the operator's words."""

    def __init__(
        self,
        session: AuthorizedSession,
        base: str,
        sheet_id: str,
        timeouts: tuple[float, float],
        email: str,
    ) -> None:
        # Not through its own constructor's `auth`: that would make a session that waits for ever.
        super().__init__(auth=None, session=session)  # type: ignore[arg-type]  # as its docstring says
        self.set_timeout(timeouts)
        self._signed = session
        self._base, self._sheet_id, self._email = base, sheet_id, email
        self._timeouts = timeouts
        self._place = f"{base}/v4/spreadsheets/{quote(sheet_id, safe='')}"

    def again(self, sheet_id: str = "", longest: float = math.inf) -> "_Client":
        """The same session for another spreadsheet, or with less patience."""
        connect, answer = self._timeouts
        timeouts = connect, min(answer, longest)
        return _Client(self._signed, self._base, sheet_id or self._sheet_id, timeouts, self._email)

    def ask(
        self, method: str, path: str, *, params: ParamsType | None = None, data: bytes | None = None
    ) -> Json:
        headers = None if data is None else {"Content-Type": "application/json"}
        response = self.request(method, self._place + path, params, data, headers=headers)
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise SheetUnreachable("Google answered with something that is not JSON")
        return answer

    def request(  # type: ignore[override]  # fewer headers' types than theirs
        self,
        method: str,
        endpoint: str,
        params: ParamsType | None = None,
        data: bytes | None = None,
        json: Mapping[str, object] | None = None,
        files: FileType = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        begun = time.monotonic()
        connect, answer = self._timeouts
        timeouts = connect, answer + len(data or b"") / _SPEED
        try:
            response = self.session.request(
                method, endpoint, data=data, headers=headers, params=params, timeout=timeouts
            )
        except RefreshError as error:
            raise _explain_refresh(error, self._email) from error
        except GoogleAuthError as error:
            raise SheetUnreachable("Google's sign-in cannot be reached", refused=True) from error
        except requests.Timeout as error:
            raise SheetUnreachable("Google did not answer in time") from error
        except requests.RequestException as error:
            raise SheetUnreachable(f"Google cannot be reached ({type(error).__name__})") from error
        logger.debug(
            "sheets: %s %d bytes, %d in %.2f s",
            method,
            len(data or b""),
            response.status_code,
            time.monotonic() - begun,
        )
        if response.ok:
            return response
        raise _explain(response, self._email)


def _explain_refresh(error: RefreshError, email: str) -> SheetError:
    """Why there is no token."""
    if error.retryable:
        return SheetUnreachable("Google's sign-in does not answer properly", refused=True)
    detail = " ".join(str(arg) for arg in error.args)
    lowered = detail.lower()
    if "short-lived" in lowered or "reasonable timeframe" in lowered:
        return SheetLost(
            "Google refuses the sign-in: this machine's clock is wrong",
            "set the clock (more than five minutes off is refused)",
        )
    if "invalid_grant" in lowered or "invalid_client" in lowered:
        return SheetLost(
            f"Google refuses the key of {email}: it was deleted, disabled or damaged",
            "make a new key for the service account and put it into SLUICE_GOOGLE_CREDENTIALS",
        )
    return SheetLost(f"Google refuses the sign-in of {email}", "check SLUICE_GOOGLE_CREDENTIALS")


def _explain(response: Response, email: str) -> SheetError:
    status, code, message = response.status_code, "", ""
    try:
        error = orjson.loads(response.content)["error"]
        code, message = str(error.get("status", "")), str(error.get("message", ""))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        # A page of something in between, or another server altogether.
        if status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS:
            return SheetUnreachable(f"something that is not the Sheets API answered {status}")
    if status == HTTPStatus.TOO_MANY_REQUESTS or code == "RESOURCE_EXHAUSTED":
        return SheetUnreachable(
            "Google says that its quota is used up",
            refused=True,
            retry_after=_retry_after(response.headers),
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return SheetUnreachable(
            f"Google has a fault of its own ({status})", retry_after=_retry_after(response.headers)
        )
    share = f"share the spreadsheet with {email} as Editor"
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return SheetLost(
                f"Google does not accept the sign-in of {email}",
                "check that the service account exists and its key is the current one",
            )
        case HTTPStatus.FORBIDDEN if "scope" in message.lower():
            return SheetLost(
                "the token may not be used for spreadsheets",
                "the account's organisation restricts it: allow the scope auth/spreadsheets",
            )
        case HTTPStatus.FORBIDDEN if "SERVICE_DISABLED" in response.text or (
            "has not been used in project" in message or "is disabled" in message
        ):
            return SheetLost(
                "the Google Sheets API is switched off in the service account's project",
                "enable it in the Google Cloud console, under APIs & Services",
            )
        case HTTPStatus.FORBIDDEN if "unregistered callers" in message:
            return SheetLost("the call carried no sign-in", "check SLUICE_GOOGLE_CREDENTIALS")
        case HTTPStatus.FORBIDDEN:
            return SheetLost(f"{email} may not open or change this spreadsheet", share)
        case HTTPStatus.NOT_FOUND:
            return SheetLost(
                "there is no such spreadsheet, or it was deleted",
                f"check SLUICE_SHEET_ID, and {share}",
            )
        case _ if "protected cell or object" in message:
            return SheetLost(
                "somebody protected cells that the gateway writes to",
                f"under Data > Protect sheets and ranges, let {email} edit",
            )
    return SheetRefused(f"Google refuses a request: {message[:300] or status}")


def _retry_after(headers: CaseInsensitiveDict[str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isdigit() else None
