"""A gateway's mirror in a process of its own: `child.py URL CONFIG`, until it is killed."""

import json
import sys
import threading
import time

from keys import account
from keys.ledger import SQLiteLedger
from keys.mirror import SheetsMirror
from keys.mirror.mirror import Pace
from tests.keys.mirror.stage import make_row

PACE = Pace(flush=0.02, poll=5.0, first_pause=0.02, last_pause=0.1, probe=0.1, farewell=1.0)


def main(url: str, config: str) -> None:
    ledger = SQLiteLedger(url)
    ledger.start()
    keys = ledger.keys()
    mirror = SheetsMirror(ledger, json.loads(config), pace=PACE, limits=(10**6, 10**6))
    mirror.start()
    for number in range(10**6):
        rows = [make_row(keys[number % len(keys)]) for _ in range(3)]
        for row in rows:
            ledger.settle(row)
        ledger.change(lambda connection: account.last_revision(connection))  # they are written now
        print("\n".join(row.id for row in rows), flush=True)
        time.sleep(0.01)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
