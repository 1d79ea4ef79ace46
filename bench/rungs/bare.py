"""Rung 5 without the middleware: the same service, started in the same way, but without EdgeMiddleware. The
difference is the cost of request ID, limits, metrics and access log.

python bare.py serve --port PORT
"""

import sys

from chassis import edge
from task_api.__main__ import main

edge.EdgeMiddleware = lambda app, **_: app
sys.exit(main())
