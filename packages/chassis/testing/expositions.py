"""What Prometheus asks for, and what it reads."""

from __future__ import annotations

from httpx2 import Response
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def read(answer: Response) -> dict[str, float]:
    """The samples of an exposition."""
    openmetrics = answer.headers["content-type"].startswith(OPENMETRICS)
    assert answer.text.endswith("# EOF\n") == openmetrics
    parse = parse_openmetrics if openmetrics else parse_text
    return {sample.name: sample.value for family in parse(answer.text) for sample in family.samples}
