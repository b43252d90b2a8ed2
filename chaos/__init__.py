"""Programs that break the servers under Coatcheck and check whether its promises still hold: `make chaos`.

`workload` makes calls, `history` records them, `checker` judges the history, and `failover` is one round of this on any
engine. The program of each engine starts its servers and breaks them. None of this is part of the package.
"""
