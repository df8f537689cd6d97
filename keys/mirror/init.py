"""`sluice sheets init`: a spreadsheet that a person shared becomes one of ours."""

from collections.abc import Iterator

import orjson

from keys.mirror import dashboard, layout
from keys.mirror.book import Book
from keys.mirror.flusher import Flusher
from keys.tabs import DASHBOARD


def initialise(flusher: Flusher) -> Iterator[str]:
    """Makes what is missing, in one write. Again changes nothing. Raises `SheetError`."""
    book = flusher.book
    snapshot = layout.read_snapshot(book.google.metadata(layout.FIELDS))
    yield f"{book.google.email} may read the spreadsheet {book.id}."
    requests = layout.settings(snapshot)
    for name in flusher.missing(snapshot, init=True):
        found = snapshot.tab(name)
        yield f"{name}: {'made' if found is None else 'taken over'}"
    requests += flusher.foundation(snapshot)
    if DASHBOARD in flusher.missing(snapshot, init=True):
        requests += dashboard.draw(snapshot)
    if not requests:
        yield "Everything is there."
        return
    book.google.update(orjson.dumps({"requests": requests}))
    yield "Done."


def redraw(book: Book) -> Iterator[str]:
    """Writes the dashboard anew, in one write. Raises `SheetError`."""
    snapshot = layout.read_snapshot(book.google.metadata(layout.FIELDS))
    tab = snapshot.tab(DASHBOARD)
    if tab is None:
        yield f"There is no tab {DASHBOARD!r}; `sluice sheets init` makes it."
        return
    charts = dashboard.chart_ids(book.google.metadata(dashboard.CHART_FIELDS), tab.sheet_id)
    book.google.update(orjson.dumps({"requests": list(dashboard.draw(snapshot, charts))}))
    yield f"{tab.title}: written anew; charts that you added yourself are as they were."
