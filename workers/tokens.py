"""Access tokens, of platforms and of clouds: cached in Redis, fetched by one worker at a time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis

from shared.errors import PermanentError, TransientError
from shared.messages import Token
from shared.state.scripts import script
from shared.vault import Vault

LOCK_GRACE_S = 5.0  #: how much longer than its fetch may take a lock lives
POLL_S = 0.05
TRUST_S = 5.0  #: for this long a process uses a token without asking Redis for it again


@dataclass(frozen=True, slots=True)
class CachedToken:
    """An access token. `version` names this very token when it has to be dropped."""

    value: str = field(repr=False)
    version: str


class TokenCache:
    """The token at one Redis key, shared by all workers. Sealed at rest."""

    def __init__(self, client: redis.Redis, key: str, vault: Vault) -> None:
        self._client = client
        self._key = key
        self._lock = f"{key}:lock"
        self._vault = vault
        self._trusted: tuple[CachedToken, float] | None = None
        self._take_lock = client.register_script(script("token_lock"))
        self._save = client.register_script(script("token_save"))
        self._unlock = client.register_script(script("token_unlock"))
        self._drop = client.register_script(script("token_drop"))

    def get(self, fetch: Callable[[], Token], remaining_s: Callable[[], float]) -> CachedToken:
        """The cached token; else fetch it, or wait for the worker that is fetching it.

        remaining_s: `fetch` takes no longer.

        Raises:
            TransientError: nobody got one in the time that remains.
        """
        trusted = self._trusted
        if trusted is not None and time.monotonic() < trusted[1]:
            return trusted[0]
        token = self._shared(fetch, remaining_s)
        self._trusted = (token, time.monotonic() + TRUST_S)
        return token

    def drop(self, version: str, *, younger_stays_s: float = 0.0) -> bool:
        """The token of this version was refused: the next `get` gives another.

        younger_stays_s: one that was fetched less than this ago is kept. Returns whether the next
        `get` gives another.
        """
        self._trusted = None
        args = [version, int(younger_stays_s * 1000)]
        return bool(self._drop(keys=[self._key], args=args))

    def _shared(self, fetch: Callable[[], Token], remaining_s: Callable[[], float]) -> CachedToken:
        holder = secrets.token_urlsafe(9)
        while remaining_s() > 0:
            value, version = self._client.hmget(self._key, ["value", "version"])
            if value is not None and version is not None:
                if token := self._opened(value, version):
                    return token
                continue
            lock_ms = int((remaining_s() + LOCK_GRACE_S) * 1000)
            if self._take_lock(keys=[self._lock, self._key], args=[holder, lock_ms]):
                return self._fetch(fetch, holder)
            time.sleep(POLL_S)
        raise TransientError("token:busy", "another worker was still fetching the access token")

    def _opened(self, value: str, version: str) -> CachedToken | None:
        """None: no key of ours sealed it (any more), and it is gone now."""
        try:
            return CachedToken(self._vault.open(value), version)
        except PermanentError:
            self.drop(version)
            return None

    def _fetch(self, fetch: Callable[[], Token], holder: str) -> CachedToken:
        try:
            token = fetch()
        except Exception:  # any: it is raised on, and others wait for the lock
            self._unlock(keys=[self._lock], args=[holder])
            raise
        cached = CachedToken(token.value, holder)
        lifetime_ms = int(token.expires_in_s * 1000)
        sealed = self._vault.seal(token.value)
        self._save(keys=[self._key, self._lock], args=[sealed, cached.version, lifetime_ms, holder])
        return cached
