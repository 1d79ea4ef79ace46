"""Clients that write while something breaks, and the judge of what became of what they were told.

Shared by the tests of the service and those of the cluster: whatever is broken, it is the same clients and the same
judge. They know of the service what its HTTP API says, and import nothing of it.
"""
