"""Compare sets of encoded documents: `python jobs/diff.py alpaca:model=A alpaca:model=B --store s3://… --out s3://…`.

The same as `saeray diff`, as an entrypoint for `ray job submit`.
"""

import sys

from saeray.cli import app

if __name__ == "__main__":
    sys.argv.insert(1, "diff")
    app()
