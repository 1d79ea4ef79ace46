"""Rung 5 without what every request goes through: the same service, started the same way, but no EdgeMiddleware. What
is missing to the real one is the price of id, limits, metrics and access log.

python bare.py serve --port PORT
"""

import sys

from chassis import edge
from task_api.__main__ import main

edge.EdgeMiddleware = lambda rest, **_: rest
sys.exit(main())
