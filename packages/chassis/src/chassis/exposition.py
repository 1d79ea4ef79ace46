"""Prometheus' exposition formats: content negotiation and responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastapi import Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


def prefers_exposition(accept: str) -> bool:
    """Whether an Accept header names one of the two formats, with a higher weight than JSON.

    Kubelets, browsers, curl and HTTP clients send `*/*` or name JSON; Prometheus 2 and 3 name their formats.
    """
    weights = _weights(accept)
    exposition = max(weights.get("application/openmetrics-text", 0.0), weights.get("text/plain", 0.0))
    json = next((weights[kind] for kind in ("application/json", "application/*", "*/*") if kind in weights), 0.0)
    return exposition > json


def exposition_response(accept: str, registry: CollectorRegistry, headers: Mapping[str, str]) -> Response:
    """The whole registry as a response; in OpenMetrics if the client asks for it."""
    accept = ",".join(part for _, weight, part in _parts(accept) if weight)  # choose_encoder ignores weights
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is not a number
        encode, content_type = choose_encoder("")
    return Response(encode(registry), 200, {**headers, "Content-Type": content_type})


def _weights(accept: str) -> Mapping[str, float]:
    """The weight of each media type in an Accept header; the highest if one is repeated (RFC 9110, section 12.5.1)."""
    weights: dict[str, float] = {}
    for kind, weight, _ in _parts(accept):
        weights[kind] = max(weight, weights.get(kind, 0.0))
    return weights


def _parts(accept: str) -> Iterator[tuple[str, float, str]]:
    """Each media type of an Accept header, its weight, and its original text."""
    for part in accept.split(","):
        kind, *parameters = (piece.strip() for piece in part.lower().split(";"))
        value = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            weight = min(max(float(value), 0.0), 1.0)
        except ValueError:
            weight = 0.0
        yield kind, weight, part
