"""Sealed clips in an S3 store: an upload is completed once its bytes have the hash that was declared, and is nothing before that."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from earmark_review.blobs import IncomingBlob, not_given, not_taken, not_there, require_key
from earmark_review.errors import BlobStoreError, SettingsError

if TYPE_CHECKING:
    from obstore import ObjectMeta, WritableFile
    from obstore.store import RetryConfig

logger = logging.getLogger(__name__)
PART_BYTES = 5 * 2**20
"""What S3 asks a part of an upload to have at least; a shorter object is one request."""
_CLIENT = {"connect_timeout": "5s", "timeout": "30s"}
_RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}
"""A device waits for the answer meanwhile, and sends again whatever it did not get."""


class IncomingUpload(IncomingBlob):
    """An object under way to a bucket. At most a part of it is held in RAM; no name leads to what came before it is finished."""

    _writer: WritableFile

    def __init__(self, bucket: BlobBucket, cap_bytes: int, key: str | None) -> None:
        super().__init__(cap_bytes, key)
        self._bucket = bucket

    def _begin(self) -> None:
        import obstore  # noqa: PLC0415 - of the extra `cluster`

        self._writer = obstore.open_writer(self._bucket.store, self.key, buffer_size=PART_BYTES)

    def _keep(self, chunk: bytes) -> None:
        with _told():
            self._writer.write(chunk)

    def _finish(self) -> None:
        with _told():
            self._writer.close()

    def _discard(self) -> None:
        """A short object never left; parts of a longer one are completed, since only what is complete can be removed by its key."""
        if self.length >= PART_BYTES:
            with suppress(BlobStoreError), _told():  # the bucket's own rule for incomplete uploads takes what stays (docs/review.md)
                if not self._writer.closed():
                    self._writer.close()
                self._bucket.remove(self.key)


class BlobBucket:
    """Objects under `s3://BUCKET/PREFIX/OWNER/`; who may use the bucket, and where it is, obstore reads from `AWS_*`.

    `owner` names the installation by its key, so that one which is given another one's bucket by mistake sweeps nothing of it away.
    """

    def __init__(self, url: str, owner: str) -> None:
        try:
            from obstore.exceptions import BaseError  # noqa: PLC0415 - of the extra `cluster`
            from obstore.store import S3Store  # noqa: PLC0415 - the same
        except ModuleNotFoundError as error:
            msg = f"an S3 store needs a library that is not installed ({error.name}); pip install 'earmark[cluster]'"
            raise SettingsError(msg) from error
        parts = urlsplit(url)
        prefix = "/".join(part for part in (*parts.path.split("/"), owner) if part)
        self.address = f"s3://{parts.netloc}/{prefix}"
        try:
            self.store = S3Store(parts.netloc, prefix=prefix, retry_config=_RETRIES, config=_CLIENT)  # type: ignore[arg-type]
            # As `client_options` the times would take the place of what `AWS_*` says, such as AWS_ALLOW_HTTP.
        except BaseError as error:
            msg = f"{self.address}: cannot be used as the store of clips ({_cause(error)}); see AWS_REGION, AWS_ENDPOINT_URL and the like"
            raise SettingsError(msg) from error

    def receive(self, cap_bytes: int, key: str | None = None) -> IncomingUpload:
        """As the protocol says."""
        return IncomingUpload(self, cap_bytes, key)

    def read(self, key: str) -> bytes:
        """As the protocol says."""
        try:
            with _told():
                return bytes(self.store.get(require_key(key)).bytes())
        except FileNotFoundError as error:
            raise not_there() from error
        except BlobStoreError as error:
            raise not_given(str(error)) from error

    def remove(self, key: str) -> None:
        """As the protocol says."""
        with _told(), suppress(FileNotFoundError):
            self.store.delete(require_key(key))

    def list_keys(self) -> list[str]:
        """As the protocol says."""
        return [found["path"] for found in self._list()]

    def sweep(self, live_keys: Collection[str], before: datetime) -> int:
        """As the protocol says; uploads that were not completed are the bucket's own rule's to remove."""
        old = [found["path"] for found in self._list() if found["path"] not in live_keys and found["last_modified"] < before]
        if old:
            with _told():
                self.store.delete(old)
        return len(old)

    def _list(self) -> list[ObjectMeta]:
        with _told():
            return [found for batch in self.store.list() for found in batch]


@contextmanager
def _told() -> Iterator[None]:
    """What an S3 store refuses, or does not answer, in the service's own words.

    Raises:
        BlobStoreError: it did.
        FileNotFoundError: there is no such object.
    """
    from obstore.exceptions import BaseError  # noqa: PLC0415 - of the extra `cluster`

    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise not_taken(_cause(error)) from error


def _cause(error: BaseException) -> str:
    """The store's own word for it. All of it, with addresses, goes to the log: devices and browsers are told no more than that."""
    said = str(error).strip().partition("Debug source")[0]
    logger.error("the store of clips: %s", " ".join(said.split())[:500])
    code = re.search(r"<Code>(\w+)</Code>", said)
    return code[1] if code else "no answer from it"
