"""Object storage, for bodies that are larger than a record may be.

``objects``  an ``ObjectStore``: write, read, delete; the only module that imports fsspec

Both sides use it, each at the place that its own settings name: no address comes from a record.
"""
