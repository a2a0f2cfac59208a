"""Latent frequencies of encoded documents: `python jobs/stats.py NAME --store s3://… --out s3://…`.

The same as `saeray stats`, as an entrypoint for `ray job submit`.
"""

import sys

from saeray.cli import app

if __name__ == "__main__":
    sys.argv.insert(1, "stats")
    app()
