"""Clients that write during faults, and a checker of the responses they got.

Shared by the tests of the service and of the cluster, for every fault. They use only the HTTP API of the service, and
import nothing from it.
"""
