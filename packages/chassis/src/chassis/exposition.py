"""Prometheus' exposition formats: who asks for one, and figures written in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastapi import Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


def is_preferred(accept: str) -> bool:
    """Whether an Accept header names one of the two formats, and likes it better than JSON.

    Kubelets, browsers, curl and HTTP clients send `*/*` or name JSON; Prometheus 2 and 3 name their formats.
    """
    liked = _qualities(accept)
    named = max(liked.get("application/openmetrics-text", 0.0), liked.get("text/plain", 0.0))
    json = next((liked[kind] for kind in ("application/json", "application/*", "*/*") if kind in liked), 0.0)
    return named > json


def exposition(accept: str, registry: CollectorRegistry, headers: Mapping[str, str]) -> Response:
    """All of the registry as an answer, in OpenMetrics for who asks for it."""
    accept = ",".join(part for _, quality, part in _parts(accept) if quality)  # choose_encoder does not look at it
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        encode, content_type = choose_encoder("")
    return Response(encode(registry), 200, {**headers, "Content-Type": content_type})


def _qualities(accept: str) -> Mapping[str, float]:
    """The media types of an Accept header with their weights; the highest where one occurs twice (RFC 9110, 12.5.1)."""
    liked: dict[str, float] = {}
    for kind, quality, _ in _parts(accept):
        liked[kind] = max(quality, liked.get(kind, 0.0))
    return liked


def _parts(accept: str) -> Iterator[tuple[str, float, str]]:
    """Each media type of an Accept header, its weight, and how the header has it."""
    for part in accept.split(","):
        kind, *parameters = (piece.strip() for piece in part.lower().split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            quality = min(max(float(weight), 0.0), 1.0)
        except ValueError:
            quality = 0.0
        yield kind, quality, part
