"""saeray: read what is in text at scale."""

import os

# A document's row must not depend on how many threads its worker has. MKL splits the sums of some products by thread
# ([64, 1536] x [1536, 576] differs between one thread and two); in this mode it does not, at no cost that could be
# measured. It is read at the first product of the process. Other BLAS libraries ignore it.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
