"""`sluice sheets init`: a spreadsheet that a person shared becomes one of ours."""

from collections.abc import Iterator

import orjson

from keys.mirror import layout
from keys.mirror.flusher import Flusher


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
    if not requests:
        yield "Everything is there."
        return
    book.google.update(orjson.dumps({"requests": requests}))
    yield "Done."
