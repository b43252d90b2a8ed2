"""Programs that break what Coatcheck stands on and look what is left of its promises: `make chaos`.

`history` is what happened, `checker` judges it, `workload` makes it happen, `failover` is one round of it on any
engine, and each engine's program brings its servers and the way they are broken. None of this is part of the package.
"""
