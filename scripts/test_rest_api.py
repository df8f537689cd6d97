#!/usr/bin/env python3
"""Try a running gateway: `scripts/test_rest_api.py KEY`. The same as `sluice check`."""

import sys

from gateway.server.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["check"]
    main()
