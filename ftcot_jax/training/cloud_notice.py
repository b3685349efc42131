"""Google's notice that a machine is about to be taken away: asked for in the background, where there is one to ask.

The metadata server answers a request that waits for a change (docs: Compute Engine, "Query VM metadata"). Of
`instance/preempted` the answer is TRUE, of `instance/maintenance-event` TERMINATE_ON_HOST_MAINTENANCE; a machine
that is only moved while it runs (MIGRATE_ON_HOST_MAINTENANCE) is not stopped.
"""

from __future__ import annotations

import functools
import http.client
import os
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

_STOPS = {"preempted": "TRUE", "maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE"}
_WAIT_SECONDS = 60
_RETRY_SECONDS = 5
_PRODUCT = Path("/sys/class/dmi/id/product_name")


class CloudNotice:
    """Watches one metadata server; `reason` is None until the machine is about to go.

    Args:
      host: the server, as host or host:port.
    """

    def __init__(self, host: str) -> None:
        self.reason: str | None = None
        self._host = host
        # The server is on the machine itself: a proxy has no business in between.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for key in _STOPS:
            threading.Thread(target=self._watch, args=(key,), name=f"cloud notice {key}", daemon=True).start()

    def _watch(self, key: str) -> None:
        etag = "0"  # that of no value, so that the first answer is the value there is now
        while self.reason is None:
            try:
                value, etag = self._ask(key, etag)
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return  # this kind of machine has no such notice
                time.sleep(_RETRY_SECONDS)
            except (OSError, http.client.HTTPException):
                time.sleep(_RETRY_SECONDS)
            else:
                if value == _STOPS[key]:
                    self.reason = f"the cloud's notice ({key}: {value})"

    def _ask(self, key: str, etag: str) -> tuple[str, str]:
        """The value once it differs from the one of `etag`, or after a while in any case; and its own etag."""
        query = f"wait_for_change=true&last_etag={etag}&timeout_sec={_WAIT_SECONDS}"
        url = f"http://{self._host}/computeMetadata/v1/instance/{key}?{query}"
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        with self._opener.open(request, timeout=_WAIT_SECONDS + 10) as answer:
            return answer.read().decode().strip(), answer.headers.get("ETag", "0")


@functools.cache
def cloud_notice() -> CloudNotice | None:
    """The notice of this machine, watched from the first call on; None where no metadata server is to be expected.

    That is told without the network: GCE_METADATA_HOST names a server, or the firmware names Google.
    """
    host = os.environ.get("GCE_METADATA_HOST")
    if host is None and _on_google():
        host = "metadata.google.internal"
    return None if host is None else CloudNotice(host)


def _on_google() -> bool:
    try:
        return _PRODUCT.read_text(encoding="utf-8").startswith("Google")
    except OSError:
        return False
