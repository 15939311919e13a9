"""A rank of a drill as it is, but for what trains in it."""

import sys

from mri_hpc.cluster.drill import rank

if __name__ == "__main__":
    rank.RANK_MODULE = "standin_trainer"
    sys.exit(rank.main())
