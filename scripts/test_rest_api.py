#!/usr/bin/env python3
"""Try a running gateway: `scripts/test_rest_api.py KEY`. The same as `sluice check KEY`."""

import os
import sys
from pathlib import Path

# Of the environment that runs this, or else of the checkout's own: any Python may start it.
places = (Path(sys.executable), Path(__file__).resolve().parent.parent / ".venv/bin/python")
commands = [place.with_name("sluice") for place in places if place.with_name("sluice").exists()]
if not commands:
    sys.exit("There is no environment yet; `make install` makes it.")
os.execv(commands[0], [str(commands[0]), "check", *sys.argv[1:]])
