"""The result of one health check of /health."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Check(BaseModel):
    status: Literal["ok", "failed"]
    detail: str = ""
