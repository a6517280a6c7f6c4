"""Bearer tokens (RFC 6750): a file keeps their SHA-256 alone, by name and right."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Iterable, List, Tuple

from edge_runtime.errors import ConfigError

_NBYTES = 32
_BEARER = b"bearer "
_LINE = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,128})[ \t]+(?P<right>infer|admin)[ \t]+sha256:(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True)
class Token:
    """Who has it, whether they may administer the server too, and the SHA-256 of its text."""

    name: str
    is_admin: bool
    digest: bytes


@dataclass(frozen=True)
class Tokens:
    """All tokens that are valid."""

    tokens: Tuple[Token, ...]

    def find(self, authorization: bytes | None) -> Token | None:
        """The token in an Authorization header; None for no header, another scheme or a token that isn't here.

        How long it takes doesn't depend on what was presented, but for its length.
        """
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            return None
        digest = hashlib.sha256(authorization[len(_BEARER) :].strip()).digest()
        found = None
        for token in self.tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def sole_authorization(presented: Iterable[bytes]) -> bytes | None:
    """The one that a request presents; None for none or several, of which others on the way may go by another one."""
    found = list(presented)
    return found[0] if len(found) == 1 else None


def new_token() -> str:
    """A token of 32 random bytes, as text that is safe in a header."""
    return secrets.token_urlsafe(_NBYTES)


def token_line(name: str, is_admin: bool, token: str) -> str:
    """The line that a file of tokens has for a token.

    Raises:
        ConfigError: no name that can stand there.
    """
    line = f"{name} {'admin' if is_admin else 'infer'} sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise ConfigError(f"token name {name!r}: expected 1 to 128 of A-Z a-z 0-9 _ . -")
    return line


def parsed_tokens(text: str, source: str) -> Tokens:
    """The tokens in a file's text: `NAME infer|admin sha256:HEX` a line; empty lines and those with # are none.

    Raises:
        ConfigError: another line, a name twice, or no token at all; `source` names the file.
    """
    tokens: List[Token] = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        match = _LINE.fullmatch(content)
        if match is None:
            raise ConfigError(f"{source}, line {number}: expected NAME infer|admin sha256:HEX; {_REMEDY}")
        if any(token.name == match["name"] for token in tokens):
            raise ConfigError(f"{source}, line {number}: token {match['name']} is there twice; remove one")
        tokens.append(Token(match["name"], match["right"] == "admin", bytes.fromhex(match["digest"])))
    if not tokens:
        raise ConfigError(f"{source}: no token in it; {_REMEDY}")
    return Tokens(tuple(tokens))


_REMEDY = "edge-runtime token NAME --file FILE adds one"
