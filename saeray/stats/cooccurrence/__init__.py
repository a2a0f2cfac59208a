"""In how many documents are two latents present together? Exact integer counts, a tile of latents x latents at a time.

A block of documents is a binary matrix by latent (`Columns`). A `Tile` adds up the counts of blocks; `Costs` says
beforehand what each engine would take for a block, and so which one is used. Blocks can be added in any order.
"""

from saeray.stats.cooccurrence.columns import Columns
from saeray.stats.cooccurrence.costs import Costs, calibrate
from saeray.stats.cooccurrence.engines import ENGINES, Engine, Tile

__all__ = ["ENGINES", "Columns", "Costs", "Engine", "Tile", "calibrate"]
