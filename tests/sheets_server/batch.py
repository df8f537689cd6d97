"""`spreadsheets.batchUpdate`: each request applied to a draft; one refusal refuses them all.

Where Google's own words for a refusal are not known to us, ours are marked `# our words`.

Assumptions a live spreadsheet has to confirm: titles of tabs are unique without regard to case; a
check box put over a blank cell makes it FALSE, hence data; a named range whose cells were deleted
cannot be seen by the API any more while its name and id stay taken.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.sheets_server import discovery, formulas, masks, shifts
from tests.sheets_server.a1 import Area
from tests.sheets_server.book import (
    CELL_LIMIT,
    OWNER,
    Book,
    Cell,
    Json,
    Tab,
    area_of,
    has_value,
    sheet_of,
)
from tests.sheets_server.refusals import PROTECTED, Refusal, invalid

CHARACTER_LIMIT = 50_000
TOO_LONG = (
    f"Your input contains more than the maximum of {CHARACTER_LIMIT} characters in a single cell."
)
TOO_MANY_CELLS = (
    "This action would increase the number of cells in the workbook above the limit of "
    f"{CELL_LIMIT} cells."
)
NO_FIELDS = "At least one field must be listed in 'fields'. (Use '*' to indicate all fields.)"
_METADATA_LIMIT = 30_000


class _No(Exception):
    """Why a request cannot be applied; the prefix `Invalid requests[3].addSheet: ` is put before it."""


def apply(
    book: Book, requests: Sequence[Mapping[str, Any]], account: str, chance: random.Random
) -> list[Json]:
    """The replies. `account` is who asks: the owner is not stopped by protection."""
    batch = _Batch(book, account, chance)
    replies = []
    for index, request in enumerate(requests):
        if not request:
            raise invalid(f"Invalid requests[{index}]: No request set.")
        ((kind, body),) = request.items()
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise Refusal(501, f"requests[{index}].{kind} is not emulated by this test server.")
        try:
            replies.append(handler(batch, body) or {})
        except _No as no:
            raise invalid(f"Invalid requests[{index}].{kind}: {no}") from None
    return replies


def protected(book: Book, tab: Tab, area: Area, account: str) -> bool:
    """Whether something in the area may not be edited by this account.

    The part of it that is protected must lie in one of the unprotected ranges as a whole.
    """
    if account == OWNER:
        return False
    closed = area.within(tab.row_count, tab.column_count)
    for item in tab.protected_ranges:
        if item.get("warningOnly") or account in item.get("editors", {}).get("users", ()):
            continue
        range = item.get("range", {"sheetId": tab.id})
        if "namedRangeId" in item:
            range = next(
                (
                    n["range"]
                    for n in book.named_ranges
                    if n["namedRangeId"] == item["namedRangeId"]
                ),
                range,
            )
        common = _common(closed, area_of(range), tab)
        if common is None:
            continue
        if not any(
            _common(common, area_of(free), tab) == common
            for free in item.get("unprotectedRanges", ())
        ):
            return True
    return False


def _common(one: Area, other: Area, tab: Tab) -> Area | None:
    a = one.within(tab.row_count, tab.column_count)
    b = other.within(tab.row_count, tab.column_count)
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom, right = min(a.bottom or 0, b.bottom or 0), min(a.right or 0, b.right or 0)
    return Area(top, left, bottom, right) if top < bottom and left < right else None


class _Batch:
    def __init__(self, book: Book, account: str, chance: random.Random) -> None:
        self.book = book
        self.account = account
        self.chance = chance

    # ------------------------------------------------------------ finding

    def sheet(self, id: int) -> Tab:
        tab = self.book.edit(id)
        if tab is None:
            raise _No(f"No sheet with id: {id}")
        return tab

    def grid(self, id: int) -> Tab:
        tab = self.book.edit(id)
        if tab is None:
            raise _No(f"No grid with id: {id}")
        return tab

    def range(self, range: Mapping[str, Any], *, guard: bool = True) -> tuple[Tab, Area]:
        """The tab and the closed area of a GridRange."""
        tab = self.grid(range.get("sheetId", 0))
        area = area_of(range)
        for first, last in ((area.top, area.bottom), (area.left, area.right)):
            if first < 0 or (last is not None and last <= first):
                raise _No("range's end must be after its start.")  # our words
        try:
            self.book.check_grid(tab, area, whole=True)
        except Refusal as refusal:
            raise _No(refusal.message) from None
        closed = area.within(tab.row_count, tab.column_count)
        if guard:
            self.guard(tab, closed)
        return tab, closed

    def guard(self, tab: Tab, area: Area = Area()) -> None:  # noqa: B008  # immutable
        if protected(self.book, tab, area, self.account):
            raise _No(PROTECTED)

    def mask(self, body: Mapping[str, Any], schema: str) -> masks.Tree:
        text = body.get("fields", "")
        if not text:
            raise _No(NO_FIELDS)
        try:
            tree = masks.parse(text)
        except masks.MaskError:
            raise _No(f"Invalid field mask: {text}") from None  # our words
        unknown = discovery.unknown_field(schema, tree)
        if unknown:
            raise _No(f"Invalid field: {unknown}")
        return tree

    def id(self, wanted: int | None, taken: Iterable[int], what: str) -> int:
        known = set(taken)
        if wanted is not None:
            if wanted in known:
                raise _No(f"{what} with ID {wanted} already exists.")  # our words
            return wanted
        while (new := self.chance.randrange(1, 2**31)) in known:
            pass
        return new

    def count(self) -> None:
        if self.book.cells_used > CELL_LIMIT:
            raise _No(TOO_MANY_CELLS)

    # ------------------------------------------------------------ tabs

    def add_sheet(self, body: Json) -> Json:
        given = body.get("properties", {})
        grid = {"rowCount": 1000, "columnCount": 26} | given.get("gridProperties", {})
        if grid["rowCount"] < 1 or grid["columnCount"] < 1:
            raise _No("gridProperties.rowCount and columnCount must be positive.")  # our words
        if grid["columnCount"] > 18_278:
            raise _No("The sheet cannot have more than 18278 columns.")  # our words
        id = self.id(given.get("sheetId"), (tab.id for tab in self.book.tabs), "A sheet")
        title = given.get("title")
        if title is None:
            number = 1
            while self.book.find(title := f"Sheet{number}"):
                number += 1
        self.check_title(title, None)
        properties = {
            **given,
            "sheetId": id,
            "title": title,
            "gridProperties": grid,
        }
        index = properties.pop("index", None)
        tab = Tab(self.book, properties)
        self.check_frozen(tab)
        self.book.add(tab, index)
        self.count()
        return {"addSheet": {"properties": tab.resource(self.book.tabs.index(tab))["properties"]}}

    def check_title(self, title: str, own: Tab | None) -> None:
        if not title:
            raise _No("The sheet name cannot be empty.")  # our words
        if len(title) > 100:
            raise _No("The sheet name cannot be greater than 100 characters.")
        if any(tab is not own and tab.title.lower() == title.lower() for tab in self.book.tabs):
            raise _No(f'A sheet with the name "{title}" already exists. Please enter another name.')

    def check_frozen(self, tab: Tab) -> None:
        grid = tab.properties["gridProperties"]
        if grid.get("frozenRowCount", 0) >= tab.row_count:
            raise _No("You can't freeze all visible rows on the sheet.")
        if grid.get("frozenColumnCount", 0) >= tab.column_count:
            raise _No("You can't freeze all visible columns on the sheet.")

    def update_sheet_properties(self, body: Json) -> None:
        given = body.get("properties", {})
        tab = self.sheet(given.get("sheetId", 0))
        tree = self.mask(body, "SheetProperties")
        self.guard(tab)
        old = tab.properties
        new = masks.merge(old, given, tree)
        new["sheetId"] = old["sheetId"]
        new["gridProperties"] = {
            "rowCount": old["gridProperties"]["rowCount"],
            "columnCount": old["gridProperties"]["columnCount"],
        } | new.get("gridProperties", {})
        index = new.pop("index", None)
        if not new.get("title"):
            new["title"] = "" if "title" in tree else old["title"]
        self.check_title(new["title"], tab)
        sizes = new["gridProperties"]["rowCount"], new["gridProperties"]["columnCount"]
        tab.properties = {
            **new,
            "gridProperties": {
                **new["gridProperties"],
                "rowCount": tab.row_count,
                "columnCount": tab.column_count,
            },
        }
        for rows, size in ((True, sizes[0]), (False, sizes[1])):
            shifts.resize(self.book, tab, rows=rows, size=size)
            self.count()
        self.check_frozen(tab)
        if new["title"] != old["title"]:
            shifts.rename(self.book, old["title"], new["title"])
        if all(other.hidden for other in self.book.tabs):
            raise _No("You can't hide all the sheets in a document.")
        if index is not None:
            self.book.tabs.remove(tab)
            self.book.tabs.insert(index, tab)

    def delete_sheet(self, body: Json) -> None:
        tab = self.sheet(body.get("sheetId", 0))
        self.guard(tab)
        if len(self.book.tabs) == 1:
            raise _No("You can't remove all the sheets in a document.")
        if all(other.hidden for other in self.book.tabs if other is not tab):
            raise _No("You can't remove all the visible sheets in a document.")
        shifts.forget(self.book, tab)

    # ------------------------------------------------------------ cells

    def cells(self, rows: Sequence[Json]) -> Iterator[tuple[int, int, Json]]:
        for index, row in enumerate(rows):
            for column, cell in enumerate(row.get("values", ())):
                yield index, column, cell

    def write(self, tab: Tab, row: int, column: int, cell: Json, tree: masks.Tree) -> None:
        old = tab.cell((row, column))
        new = masks.merge(old, cell, tree)
        tab.put(row, column, self.checked(new))

    def checked(self, cell: Cell) -> Json:
        """As stored: no empty texts and objects, nothing that Google computes itself."""
        kept = {
            name: value
            for name, value in cell.items()
            if value not in ({}, None, "", [])
            and name not in ("effectiveValue", "effectiveFormat", "formattedValue", "hyperlink")
        }
        entered = kept.get("userEnteredValue")
        if entered:
            ((kind, value),) = entered.items()
            if isinstance(value, str) and len(value) > CHARACTER_LIMIT:
                raise _No(TOO_LONG)
            if kind == "errorValue":
                raise _No("errorValue cannot be set.")  # our words
            if kind == "formulaValue" and not value.startswith("="):
                raise _No(f"Invalid formula: {value}")  # our words
            if kind == "stringValue" and not value:
                del kept["userEnteredValue"]
        return kept

    def append_cells(self, body: Json) -> None:
        tab = self.grid(body.get("sheetId", 0))
        tree = self.mask(body, "CellData")
        rows = body.get("rows", [])
        start = tab.last_row()
        for _, column, _ in self.cells(rows):
            if column >= tab.column_count:
                raise _No(
                    f"Attempting to write column: {column}, beyond the last requested column of: "
                    f"{tab.column_count - 1}"
                )
        if start + len(rows) > tab.row_count:
            shifts.resize(self.book, tab, rows=True, size=start + len(rows))
            self.count()
        width = max((len(row.get("values", ())) for row in rows), default=0)
        if rows and width:
            self.guard(tab, Area(start, 0, start + len(rows), width))
        for row, column, cell in self.cells(rows):
            self.write(tab, start + row, column, cell, tree)

    def update_cells(self, body: Json) -> None:
        tree = self.mask(body, "CellData")
        rows = body.get("rows", [])
        if "range" in body:
            tab, area = self.range(body["range"])
        elif "start" in body:
            start = body["start"]
            tab = self.grid(start.get("sheetId", 0))
            top, left = start.get("rowIndex", 0), start.get("columnIndex", 0)
            area = Area(top, left, tab.row_count, tab.column_count)
            width = max((len(row.get("values", ())) for row in rows), default=0)
            self.guard(tab, Area(top, left, top + len(rows), left + width))
        else:
            raise _No("One of start or range must be set.")  # our words
        bottom, right = area.bottom or 0, area.right or 0
        for row, column, _ in self.cells(rows):
            if area.top + row >= bottom:
                raise _No(
                    f"Attempting to write row: {area.top + row}, beyond the last requested row "
                    f"of: {bottom - 1}"
                )
            if area.left + column >= right:
                raise _No(
                    f"Attempting to write column: {area.left + column}, beyond the last requested "
                    f"column of: {right - 1}"
                )
        if "range" in body:
            for row in range(area.top, min(bottom, len(tab.rows))):
                given = (
                    len(rows[row - area.top].get("values", ())) if row - area.top < len(rows) else 0
                )
                for column in [c for c in tab.rows[row] if area.left + given <= c < right]:
                    self.write(tab, row, column, {}, tree)
        for row, column, cell in self.cells(rows):
            self.write(tab, area.top + row, area.left + column, cell, tree)

    def repeat_cell(self, body: Json) -> None:
        tab, area = self.range(body.get("range", {}))
        tree = self.mask(body, "CellData")
        cell = body.get("cell", {})
        formula = cell.get("userEnteredValue", {}).get("formulaValue")
        for row in range(area.top, area.bottom or 0):
            for column in range(area.left, area.right or 0):
                if formula is not None:
                    moved = formulas.moved(formula, row - area.top, column - area.left)
                    cell = shifts.with_formula(cell, moved)
                self.write(tab, row, column, cell, tree)

    def set_data_validation(self, body: Json) -> None:
        tab, area = self.range(body.get("range", {}))
        rule = body.get("rule")
        condition = (rule or {}).get("condition", {})
        if rule is not None:
            self.check_condition(condition, tab, formats=False)
        box = condition.get("type") == "BOOLEAN" and not condition.get("values")
        for row in range(area.top, area.bottom or 0):
            for column in range(area.left, area.right or 0):
                cell = dict(tab.cell((row, column)))
                if rule is None:
                    cell.pop("dataValidation", None)
                else:
                    cell["dataValidation"] = rule
                    if box and not has_value(cell):
                        cell["userEnteredValue"] = {"boolValue": False}
                tab.put(row, column, cell)

    def check_condition(self, condition: Json, tab: Tab, *, formats: bool) -> None:
        kind, values = condition.get("type"), condition.get("values", [])
        if kind in (None, "CONDITION_TYPE_UNSPECIFIED"):
            raise _No("BooleanCondition.type is required.")  # our words
        counts = {
            "CUSTOM_FORMULA": (1, 1),
            "ONE_OF_LIST": (1, 500),
            "ONE_OF_RANGE": (1, 1),
            "NUMBER_BETWEEN": (2, 2),
            "NUMBER_NOT_BETWEEN": (2, 2),
            "DATE_BETWEEN": (2, 2),
            "BOOLEAN": (0, 2),
            "BLANK": (0, 0),
            "NOT_BLANK": (0, 0),
        }
        few, many = counts.get(kind, (0 if kind.startswith("DATE_") else 1, 500))
        if not few <= len(values) <= many:
            raise _No(
                f"Invalid number of values for condition type {kind}: {len(values)}."
            )  # our words
        if formats and kind in ("ONE_OF_LIST", "ONE_OF_RANGE", "BOOLEAN"):
            raise _No(
                f"ConditionType '{kind}' is not supported for conditional formats."
            )  # our words
        if kind == "CUSTOM_FORMULA":
            formula = values[0].get("userEnteredValue", "")
            if not formula.startswith("=") or not formulas.well_formed(formula):
                raise _No(f"Invalid ConditionValue.userEnteredValue: {formula}")
            elsewhere: list[str] = []
            formulas.rewrite(formula, lambda title, reference: elsewhere.append(title or ""))
            if formats and any(title and title.lower() != tab.title.lower() for title in elsewhere):
                raise _No("Conditional format rule cannot reference a different sheet.")

    # ------------------------------------------------------------ ranges with names and guards

    def add_named_range(self, body: Json) -> Json:
        given = body.get("namedRange", {})
        name = given.get("name", "")
        known = self.book.named_ranges + self.book.lost_ranges
        id = given.get("namedRangeId")
        if id is not None and any(item["namedRangeId"] == id for item in known):
            raise _No(f"A named range with ID {id} already exists.")  # our words
        self.check_name(name, None)
        if "range" not in given:
            raise _No("NamedRange.range is required.")  # our words
        self.range(given["range"], guard=False)
        item = {**given, "namedRangeId": id or str(self.chance.randrange(1, 2**31))}
        self.book.named_ranges.append(item)
        return {"addNamedRange": {"namedRange": item}}

    def check_name(self, name: str, own: str | None) -> None:
        if (
            not re.fullmatch(r"[A-Za-z_]\w{0,249}", name)
            or name.lower() in ("true", "false")
            or re.fullmatch(r"[A-Za-z]{1,3}\d+|[rR]\d*[cC]\d*", name)
        ):
            raise _No(f"The name of the named range is not valid: {name}")  # our words
        for item in self.book.named_ranges + self.book.lost_ranges:
            if item["namedRangeId"] != own and item["name"].lower() == name.lower():
                raise _No(f"A named range with the name {name} already exists.")  # our words

    def update_named_range(self, body: Json) -> None:
        given = body.get("namedRange", {})
        tree = self.mask(body, "NamedRange")
        index = self.place(self.book.named_ranges, "namedRangeId", given, "NamedRange")
        new = masks.merge(self.book.named_ranges[index], given, tree)
        new["namedRangeId"] = given["namedRangeId"]
        self.check_name(new.get("name", ""), new["namedRangeId"])
        self.range(new.get("range", {}), guard=False)
        self.book.named_ranges[index] = new

    def delete_named_range(self, body: Json) -> None:
        for items in (self.book.named_ranges, self.book.lost_ranges):
            for item in items:
                if item["namedRangeId"] == body.get("namedRangeId"):
                    items.remove(item)
                    return
        raise _No(f"No NamedRange with id: {body.get('namedRangeId', '')}")

    def place(self, items: Sequence[Json], key: str, given: Json, what: str) -> int:
        for index, item in enumerate(items):
            if item[key] == given.get(key):
                return index
        raise _No(f"No {what} with id: {given.get(key, '')}")

    def add_protected_range(self, body: Json) -> Json:
        given = dict(body.get("protectedRange", {}))
        if given.get("warningOnly") and "editors" in given:
            raise _No("ProtectedRange is warningOnly. Editors cannot be set on it.")
        id = self.id(
            given.get("protectedRangeId"),
            (p["protectedRangeId"] for tab in self.book.tabs for p in tab.protected_ranges),
            "A protected range",
        )
        if "namedRangeId" in given:
            index = self.place(self.book.named_ranges, "namedRangeId", given, "NamedRange")
            given["range"] = self.book.named_ranges[index]["range"]
        if "range" not in given:
            raise _No("ProtectedRange.range is required.")  # our words
        tab, _ = self.range(given["range"], guard=False)
        for free in given.get("unprotectedRanges", ()):
            self.range(free, guard=False)
        item = {**given, "protectedRangeId": id, "requestingUserCanEdit": True}
        if not given.get("warningOnly"):
            item["editors"] = self.editors(given.get("editors", {}))
        tab.protected_ranges.append(item)
        return {"addProtectedRange": {"protectedRange": item}}

    def editors(self, given: Json) -> Json:
        users = list(dict.fromkeys([*given.get("users", []), self.account, OWNER]))
        return {**given, "users": users}

    def protection(self, id: object) -> tuple[Tab, int]:
        for tab in self.book.tabs:
            for index, item in enumerate(tab.protected_ranges):
                if item["protectedRangeId"] == id:
                    return self.grid(tab.id), index
        raise _No(f"No protected range with ID: {id}")  # our words

    def update_protected_range(self, body: Json) -> None:
        given = body.get("protectedRange", {})
        tab, index = self.protection(given.get("protectedRangeId", 0))
        tree = self.mask(body, "ProtectedRange")
        old = tab.protected_ranges[index]
        self.may_change(old)
        new = masks.merge(old, given, tree)
        if new.get("warningOnly"):
            if "editors" in given:
                raise _No("ProtectedRange is warningOnly. Editors cannot be set on it.")
            new.pop("editors", None)
        else:
            new["editors"] = self.editors(new.get("editors", {}))
        new["protectedRangeId"] = old["protectedRangeId"]
        new["requestingUserCanEdit"] = True
        moved, _ = self.range(new.get("range", {}), guard=False)
        del tab.protected_ranges[index]
        moved.protected_ranges.insert(index, new)

    def delete_protected_range(self, body: Json) -> None:
        tab, index = self.protection(body.get("protectedRangeId", 0))
        self.may_change(tab.protected_ranges[index])
        del tab.protected_ranges[index]

    def may_change(self, item: Json) -> None:
        users = item.get("editors", {}).get("users", [])
        if not item.get("warningOnly") and self.account not in (OWNER, *users):
            raise _No(PROTECTED)

    # ------------------------------------------------------------ looks

    def check_rule(self, rule: Json) -> Tab:
        ranges = rule.get("ranges", [])
        if not ranges:
            raise _No("ConditionalFormatRule.ranges is required.")  # our words
        if len({range.get("sheetId", 0) for range in ranges}) > 1:
            raise _No("All ranges must be on the same sheet.")  # our words
        tab = self.grid(ranges[0].get("sheetId", 0))
        for range in ranges:
            self.range(range)
        if "booleanRule" in rule:
            boolean = rule["booleanRule"]
            self.check_condition(boolean.get("condition", {}), tab, formats=True)
            format = boolean.get("format", {})
            allowed = {"textFormat", "backgroundColor", "backgroundColorStyle"}
            text = {
                "bold",
                "italic",
                "strikethrough",
                "underline",
                "foregroundColor",
                "foregroundColorStyle",
            }
            extra = (format.keys() - allowed) | (format.get("textFormat", {}).keys() - text)
            if extra:
                raise _No(f"Unsupported format: {', '.join(sorted(extra))}")  # our words
        elif "gradientRule" in rule:
            for point in ("minpoint", "maxpoint"):
                if "type" not in rule["gradientRule"].get(point, {}):
                    raise _No("No interpolationPointType specified.")
        else:
            raise _No("One of booleanRule or gradientRule must be set.")  # our words
        return tab

    def add_conditional_format_rule(self, body: Json) -> None:
        rule = body.get("rule", {})
        tab = self.check_rule(rule)
        index = body.get("index", 0)
        if not 0 <= index <= len(tab.conditional_formats):
            raise _No(f"Invalid index: {index}")  # our words
        tab.conditional_formats.insert(index, rule)

    def conditional_format(self, sheet: int, index: int) -> Tab:
        tab = self.grid(sheet)
        if not 0 <= index < len(tab.conditional_formats):
            raise _No(f"No conditional format on sheet: {sheet} at index: {index}")
        return tab

    def update_conditional_format_rule(self, body: Json) -> Json:
        index = body.get("index", 0)
        if "rule" in body:
            tab = self.check_rule(body["rule"])
            self.conditional_format(tab.id, index)
            old, tab.conditional_formats[index] = tab.conditional_formats[index], body["rule"]
            answer = {"newRule": body["rule"], "newIndex": index, "oldRule": old}
        else:
            tab = self.conditional_format(body.get("sheetId", 0), index)
            rule = tab.conditional_formats.pop(index)
            tab.conditional_formats.insert(body.get("newIndex", 0), rule)
            answer = {"newRule": rule, "newIndex": body.get("newIndex", 0), "oldIndex": index}
        return {"updateConditionalFormatRule": answer}

    def delete_conditional_format_rule(self, body: Json) -> Json:
        index = body.get("index", 0)
        tab = self.conditional_format(body.get("sheetId", 0), index)
        return {"deleteConditionalFormatRule": {"rule": tab.conditional_formats.pop(index)}}

    def add_filter_view(self, body: Json) -> Json:
        given = body.get("filter", {})
        tab, _ = self.range(given.get("range", {}), guard=False)
        id = self.id(
            given.get("filterViewId"),
            (item["filterViewId"] for tab in self.book.tabs for item in tab.filter_views),
            "A filter view",
        )
        if any(item.get("title") == given.get("title", "") for item in tab.filter_views):
            raise _No(
                f'A filter view with the name "{given.get("title")}" already exists.'
            )  # our words
        item = {**given, "filterViewId": id}
        tab.filter_views.append(item)
        return {"addFilterView": {"filter": item}}

    def filter_view(self, id: object) -> tuple[Tab, int]:
        for tab in self.book.tabs:
            for index, item in enumerate(tab.filter_views):
                if item["filterViewId"] == id:
                    return self.grid(tab.id), index
        raise _No(f"No filter view with id: {id}")  # our words

    def update_filter_view(self, body: Json) -> None:
        given = body.get("filter", {})
        tab, index = self.filter_view(given.get("filterViewId", 0))
        tree = self.mask(body, "FilterView")
        new = masks.merge(tab.filter_views[index], given, tree)
        self.range(new.get("range", {}), guard=False)
        tab.filter_views[index] = {**new, "filterViewId": given["filterViewId"]}

    def delete_filter_view(self, body: Json) -> None:
        tab, index = self.filter_view(body.get("filterId", 0))
        del tab.filter_views[index]

    def set_basic_filter(self, body: Json) -> None:
        given = body.get("filter", {})
        tab, _ = self.range(given.get("range", {}))
        tab.basic_filter = given

    def clear_basic_filter(self, body: Json) -> None:
        tab = self.grid(body.get("sheetId", 0))
        tab.basic_filter = None

    def add_banding(self, body: Json) -> Json:
        given = body.get("bandedRange", {})
        tab, area = self.range(given.get("range", {}))
        id = self.id(
            given.get("bandedRangeId"),
            (item["bandedRangeId"] for tab in self.book.tabs for item in tab.banded_ranges),
            "A banded range",
        )
        if any(_common(area, area_of(item["range"]), tab) for item in tab.banded_ranges):
            raise _No(
                "You cannot add alternating background colors to a range that already has "
                "alternating background colors."
            )
        item = {**given, "bandedRangeId": id}
        tab.banded_ranges.append(item)
        return {"addBanding": {"bandedRange": item}}

    def delete_banding(self, body: Json) -> None:
        id = body.get("bandedRangeId", 0)
        for tab in self.book.tabs:
            if any(item["bandedRangeId"] == id for item in tab.banded_ranges):
                edited = self.grid(tab.id)
                edited.banded_ranges = [b for b in edited.banded_ranges if b["bandedRangeId"] != id]
                return
        raise _No(f"No banded range with id: {id}")  # our words

    def merge_cells(self, body: Json) -> None:
        tab, _ = self.range(body.get("range", {}))
        tab.merges.append(body["range"])

    def unmerge_cells(self, body: Json) -> None:
        tab, area = self.range(body.get("range", {}))
        tab.merges = [item for item in tab.merges if not _common(area, area_of(item), tab)]

    def update_borders(self, body: Json) -> None:
        """Checked and forgotten: nothing looks at borders."""
        self.range(body.get("range", {}))

    # ------------------------------------------------------------ charts

    def add_chart(self, body: Json) -> Json:
        given = body.get("chart", {})
        id = self.id(
            given.get("chartId"),
            (item["chartId"] for tab in self.book.tabs for item in tab.charts),
            "A chart",
        )
        self.check_spec(given.get("spec", {}))
        position = given.get("position", {})
        if "overlayPosition" not in position:
            if not position.get("newSheet") and "sheetId" not in position:
                raise _No("Chart position must be specified.")  # our words
            raise _No("Charts on a sheet of their own are not emulated.")  # our words
        anchor = position["overlayPosition"].get("anchorCell", {})
        tab = self.grid(anchor.get("sheetId", 0))
        self.guard(tab)
        row, column = anchor.get("rowIndex", 0), anchor.get("columnIndex", 0)
        self.range(
            {
                "sheetId": tab.id,
                "startRowIndex": row,
                "endRowIndex": row + 1,
                "startColumnIndex": column,
                "endColumnIndex": column + 1,
            },
            guard=False,
        )
        item = {**given, "chartId": id}
        tab.charts.append(item)
        return {"addChart": {"chart": item}}

    def check_spec(self, spec: Json) -> None:
        kinds = [name for name in spec if name.endswith("Chart")]
        if len(kinds) != 1:
            raise _No("Exactly one type of chart must be set.")  # our words
        chart = spec[kinds[0]]
        if kinds == ["basicChart"]:
            if chart.get("chartType", "BASIC_CHART_TYPE_UNSPECIFIED").endswith("UNSPECIFIED"):
                raise _No("BasicChartSpec.chartType is required.")  # our words
            if not chart.get("series"):
                raise _No("At least one series is required.")  # our words
        for sources in _sources(chart):
            sizes = []
            for source in sources:
                _, area = self.range(source, guard=False)
                sizes.append(((area.bottom or 0) - area.top, (area.right or 0) - area.left))
            if not (
                all(rows == 1 for rows, _ in sizes) or all(columns == 1 for _, columns in sizes)
            ):
                raise _No("A source range must have one dimension of length 1.")  # our words

    def chart(self, id: object) -> tuple[Tab, int]:
        for tab in self.book.tabs:
            for index, item in enumerate(tab.charts):
                if item["chartId"] == id:
                    return self.grid(tab.id), index
        raise _No(f"No chart with id: {id}")  # our words

    def update_chart_spec(self, body: Json) -> None:
        tab, index = self.chart(body.get("chartId", 0))
        self.guard(tab)
        self.check_spec(body.get("spec", {}))
        tab.charts[index] = {**tab.charts[index], "spec": body["spec"]}

    def update_embedded_object_position(self, body: Json) -> Json:
        tab, index = self.chart(body.get("objectId", 0))
        self.guard(tab)
        tree = self.mask(body, "OverlayPosition")
        old = tab.charts[index]["position"]
        given = body.get("newPosition", {}).get("overlayPosition", {})
        new = {**old, "overlayPosition": masks.merge(old["overlayPosition"], given, tree)}
        chart = {**tab.charts.pop(index), "position": new}
        target = self.grid(new["overlayPosition"].get("anchorCell", {}).get("sheetId", 0))
        target.charts.append(chart)
        return {"updateEmbeddedObjectPosition": {"position": new}}

    def delete_embedded_object(self, body: Json) -> None:
        tab, index = self.chart(body.get("objectId", 0))
        self.guard(tab)
        del tab.charts[index]

    # ------------------------------------------------------------ metadata

    def create_developer_metadata(self, body: Json) -> Json:
        given = body.get("developerMetadata", {})
        if not given.get("metadataKey"):
            raise _No("DeveloperMetadata.metadataKey is required.")  # our words
        if given.get("visibility", "").endswith("UNSPECIFIED") or "visibility" not in given:
            raise _No("DeveloperMetadata.visibility is required.")  # our words
        location = given.get("location", {})
        if "sheetId" in location:
            self.sheet(location["sheetId"])
            place = {"locationType": "SHEET", "sheetId": location["sheetId"]}
        elif "dimensionRange" in location:
            _, rows, start, end = self.dimension(location["dimensionRange"])
            if end - start != 1:
                raise _No("The dimension range must be one row or column.")  # our words
            place = {
                "locationType": "ROW" if rows else "COLUMN",
                "dimensionRange": location["dimensionRange"],
            }
        elif location.get("spreadsheet"):
            place = {"locationType": "SPREADSHEET", "spreadsheet": True}
        else:
            raise _No("DeveloperMetadata.location is required.")  # our words
        id = self.id(
            given.get("metadataId"),
            (item["metadataId"] for item in self.book.metadata),
            "Developer metadata",
        )
        item = {**given, "metadataId": id, "location": place}
        self.book.metadata.append(item)
        self.check_metadata()
        return {"createDeveloperMetadata": {"developerMetadata": item}}

    def check_metadata(self) -> None:
        sizes: dict[int | None, int] = {}
        for item in self.book.metadata:
            sheet = sheet_of(item["location"])
            size = len(item["metadataKey"]) + len(item.get("metadataValue", ""))
            sizes[sheet] = sizes.get(sheet, 0) + size
        if any(size > _METADATA_LIMIT for size in sizes.values()):
            raise _No("Developer metadata is over the limit of 30000 characters.")  # our words

    def update_developer_metadata(self, body: Json) -> Json:
        tree = self.mask(body, "DeveloperMetadata")
        given = body.get("developerMetadata", {})
        changed = []
        for index, item in enumerate(self.book.metadata):
            if any(matches(self.book, item, choice) for choice in body.get("dataFilters", ())):
                new = masks.merge(item, given, tree)
                new["metadataId"] = item["metadataId"]
                self.book.metadata[index] = new
                changed.append(new)
        self.check_metadata()
        return {"updateDeveloperMetadata": {"developerMetadata": changed}}

    def delete_developer_metadata(self, body: Json) -> Json:
        choice = body.get("dataFilter", {})
        gone = [item for item in self.book.metadata if matches(self.book, item, choice)]
        self.book.metadata = [item for item in self.book.metadata if item not in gone]
        return {"deleteDeveloperMetadata": {"deletedDeveloperMetadata": gone}}

    # ------------------------------------------------------------ rows and columns

    def dimension(self, range: Json) -> tuple[Tab, bool, int, int]:
        tab = self.grid(range.get("sheetId", 0))
        dimension = range.get("dimension", "DIMENSION_UNSPECIFIED")
        if dimension == "DIMENSION_UNSPECIFIED":
            raise _No("No dimension specified.")  # our words
        rows = dimension == "ROWS"
        size = tab.row_count if rows else tab.column_count
        start, end = range.get("startIndex", 0), range.get("endIndex", size)
        if start < 0 or end <= start:
            raise _No("endIndex must be after startIndex.")  # our words
        return tab, rows, start, end

    def insert_dimension(self, body: Json) -> None:
        tab, rows, start, end = self.dimension(body.get("range", {}))
        self.guard(tab)
        size = tab.row_count if rows else tab.column_count
        if start > size or (start == size and not body.get("inheritFromBefore")):
            raise _No(
                f"range.startIndex[{start}] must be less than the grid size ({size})."
            )  # our words
        if not start and body.get("inheritFromBefore"):
            raise _No("inheritFromBefore cannot be true if inserting at index 0.")  # our words
        shifts.shift(self.book, tab, rows=rows, start=start, count=end - start)
        self.count()

    def delete_dimension(self, body: Json) -> None:
        tab, rows, start, end = self.dimension(body.get("range", {}))
        self.guard(tab)
        size = tab.row_count if rows else tab.column_count
        one, many = ("row", "rows") if rows else ("column", "columns")
        if end > size:
            index = max(start, size)
            raise _No(
                f"Cannot delete a {one} that doesn't exist. Tried to delete {one} index {index} "
                f"but there are only {size} {many}."
            )
        if end - start == size:
            raise _No(f"You can't delete all the {many} on the sheet.")
        frozen = tab.properties["gridProperties"].get(
            "frozenRowCount" if rows else "frozenColumnCount", 0
        )
        if start <= frozen and end == size:
            raise _No(f"Sorry, it is not possible to delete all non-frozen {many}.")
        shifts.shift(self.book, tab, rows=rows, start=start, count=start - end)

    def append_dimension(self, body: Json) -> None:
        tab, rows, _, _ = self.dimension(
            {"sheetId": body.get("sheetId", 0), "dimension": body.get("dimension", "ROWS")}
        )
        size = tab.row_count if rows else tab.column_count
        shifts.resize(self.book, tab, rows=rows, size=size + body.get("length", 0))
        self.count()

    def update_dimension_properties(self, body: Json) -> None:
        tab, rows, start, end = self.dimension(body.get("range", {}))
        tree = self.mask(body, "DimensionProperties")
        size = tab.row_count if rows else tab.column_count
        if end > size:
            raise _No(f"range.endIndex[{end}] is beyond the grid size ({size}).")  # our words
        self.guard(tab)
        properties = tab.row_properties if rows else tab.column_properties
        for index in range(start, end):
            properties[index] = masks.merge(
                properties.get(index, {}), body.get("properties", {}), tree
            )

    def auto_resize_dimensions(self, body: Json) -> None:
        """Checked and forgotten: there is no text to measure."""
        self.dimension(body.get("dimensions", {}))

    def sort_range(self, body: Json) -> None:
        tab, area = self.range(body.get("range", {}))
        sort(self.book, tab, area, body.get("sortSpecs", []))

    def update_spreadsheet_properties(self, body: Json) -> None:
        tree = self.mask(body, "SpreadsheetProperties")
        self.book.properties = masks.merge(self.book.properties, body.get("properties", {}), tree)


def sort(book: Book, tab: Tab, area: Area, specs: Sequence[Mapping[str, Any]]) -> None:
    """Whole cells move, with their formats; blanks come last whatever the order.

    Formulas move as if copied. What is known of a row as such (hidden, metadata) stays.
    """
    bottom = min(area.bottom or tab.row_count, len(tab.rows))
    left, right = area.left, area.right or tab.column_count
    calculator = book.calculator()
    order = list(range(area.top, bottom))
    for spec in reversed(specs):
        column = spec.get("dimensionIndex", 0)
        values = {row: calculator.cell(tab.id, row, column) for row in order}
        order.sort(
            key=lambda row: _place(values[row]), reverse=spec.get("sortOrder") == "DESCENDING"
        )
        order.sort(key=lambda row: values[row] is None)  # called at once
    old = [tab.rows[row] for row in order]
    for row, source, cells in zip(range(area.top, bottom), order, old, strict=True):
        kept = {c: cell for c, cell in tab.rows[row].items() if not left <= c < right}
        for column, cell in cells.items():
            if left <= column < right:
                formula = cell.get("userEnteredValue", {}).get("formulaValue")
                kept[column] = (
                    cell
                    if formula is None
                    else shifts.with_formula(cell, formulas.moved(formula, row - source))
                )
        tab.rows[row] = kept


def _place(value: formulas.Scalar) -> tuple[int, float, str]:
    """Numbers, then texts, then booleans, then errors."""
    match value:
        case bool():
            return (2, float(value), "")
        case float() | int():
            return (0, value, "")
        case str():
            return (1, 0.0, value.lower())
        case _:
            return (3, 0.0, "")


def matches(book: Book, item: Json, choice: Mapping[str, Any]) -> bool:
    """Whether developer metadata is what a DataFilter looks for."""
    lookup = choice.get("developerMetadataLookup")
    if lookup is None:
        range = choice.get("gridRange")
        if range is None and "a1Range" in choice:
            range = {"sheetId": book.resolve(choice["a1Range"])[0].id}
        return range is not None and sheet_of(item["location"]) == range.get("sheetId", 0)
    where = lookup.get("metadataLocation")
    if where is not None:
        location = item["location"]
        if where.get("spreadsheet") and not location.get("spreadsheet"):
            intersecting = lookup.get("locationMatchingStrategy") == "INTERSECTING_LOCATION"
            if not intersecting:
                return False
        if "sheetId" in where and sheet_of(location) != where["sheetId"]:
            return False
        if "dimensionRange" in where and location.get("dimensionRange") != where["dimensionRange"]:
            return False
    if lookup.get("locationType") not in (None, item["location"]["locationType"]):
        return False
    return all(
        lookup[name] == item.get(name)
        for name in ("metadataId", "metadataKey", "metadataValue", "visibility")
        if name in lookup
    )


def _sources(value: object) -> Iterator[list[Json]]:
    match value:
        case {"sources": list(sources)}:
            yield sources
        case dict():
            for item in value.values():
                yield from _sources(item)
        case list():
            for item in value:
                yield from _sources(item)


_Handler = Callable[[_Batch, Json], Json | None]
_HANDLERS: dict[str, _Handler] = {
    re.sub(r"_([a-z])", lambda match: match[1].upper(), name): handler
    for name, handler in vars(_Batch).items()
    if re.match(
        r"(add|append|auto|clear|create|delete|insert|merge|repeat|set|sort|unmerge|update)_", name
    )
}
