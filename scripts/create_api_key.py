#!/usr/bin/env python3
"""Make an API key: `scripts/create_api_key.py EMAIL [NAME]`. The same as `sluice keys create`."""

import sys

from gateway.server.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["keys", "create"]
    main()
