"""Beside everything else while a pod is open: pruning, listening to other processes, watching the guarantee."""
