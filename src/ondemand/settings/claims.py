"""Where bodies are kept that are larger than a record may be: off unless somebody says where."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ondemand import limits

_PARTS = ("..", "::")


class Claims(BaseModel):
    """Claim checks: what both sides must agree about."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    claim_store: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9+.-]*://[^\s@?#]+$",
        description="Where bodies are kept that are larger than a record may be, as a URL that "
        "fsspec knows: `file:///srv/claims`, `s3://bucket/claims`. Both sides name the same place, "
        "each in its own settings; a record holds a key, never an address. Off by default: then "
        "clients refuse larger inputs, and workers refuse claim checks. Needs `ondemand[claim]`, "
        "and `s3fs` for S3. Logins are the store's own matter (`AWS_…` in the environment, a "
        "role): a URL with one is refused.",
    )
    claim_bytes_max: int = Field(
        default=limits.CLAIM_BYTES_MAX,
        ge=1_000,
        description="Bytes of a body in the store; above, a client does not send it, and a worker "
        "answers `too-large` and does not read it.",
    )
    claim_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        default=5.0,
        description="How long the store may take. A client's request then counts as not sent; a "
        "worker answers `overloaded`, and goes on with other requests meanwhile. Counted while the "
        "store does not answer: a line of requests that moves is waited for.",
    )

    @field_validator("claim_store")
    @classmethod
    def _plain(cls, url: str | None) -> str | None:
        """``::`` chains file systems in fsspec; a way up is a slip of the pen."""
        if url is not None and any(part in url for part in _PARTS):
            raise ValueError(f"must not hold {' or '.join(_PARTS)}")
        return url
