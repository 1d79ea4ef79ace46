"""One of the things that /health looks at."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Check(BaseModel):
    status: Literal["ok", "failed"]
    detail: str = ""
