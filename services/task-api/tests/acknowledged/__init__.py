"""Clients that write during faults, and the judge that verifies what they were told.

Shared by the tests of the service and of the cluster: every fault is checked by the same clients and the same judge.
They know only the HTTP API of the service, and import nothing from it.
"""
