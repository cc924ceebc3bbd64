"""`python -m duca_compile`."""

import sys

from duca_compile.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
