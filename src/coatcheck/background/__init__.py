"""The background tasks of an open pod: pruning, listening to other processes, watching the guarantee."""
