"""The load generator itself. It runs in worker processes, here or on Ray nodes, and needs the standard library only.

Nothing in here imports dstui outside of this package, because the package is sent to Ray nodes as it is. Python 3.9.
"""
