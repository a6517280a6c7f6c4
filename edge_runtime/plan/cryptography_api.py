"""The only import of `cryptography`, when it is first needed: Ed25519 keys as their 32 raw bytes, and AES-256-GCM."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import TYPE_CHECKING, Iterator

from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_NBYTES = 32
SIGNATURE_NBYTES = 64
TAG_NBYTES = 16


class ForgedError(Exception):
    """Bytes that weren't encrypted with this key, nonce and associated data; whoever asked says which they are."""


@contextlib.contextmanager
def _library() -> Iterator[None]:
    """Imports inside the block come from the library; what it has to say of old Pythons is left out.

    Raises:
        ConfigError: it isn't installed, or can't be loaded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise ConfigError(
            f"signatures and encryption need cryptography, which can't be imported ({error}); "
            "pip install 'cryptography>=42'"
        ) from None


def _private(raw: bytes) -> Ed25519PrivateKey:
    with _library():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    return Ed25519PrivateKey.from_private_bytes(raw)


def _public(raw: bytes) -> Ed25519PublicKey:
    with _library():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    return Ed25519PublicKey.from_public_bytes(raw)


def new_private_key() -> bytes:
    """A private key of Ed25519, which is 32 random bytes (RFC 8032)."""
    return os.urandom(KEY_NBYTES)


def public_from_private(private: bytes) -> bytes:
    """The public key that belongs to a private one."""
    return _private(private).public_key().public_bytes_raw()


def sign(private: bytes, data: bytes) -> bytes:
    """The signature of Ed25519 over `data`."""
    return _private(private).sign(data)


def is_signature(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a signature over `data` was made with the private key that belongs to `public`."""
    with _library():
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    try:
        _public(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def private_pem(private: bytes) -> str:
    """The private key as PKCS 8, not encrypted."""
    with _library():
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
            Encoding,
            NoEncryption,
            PrivateFormat,
        )
    return _private(private).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(public: bytes) -> str:
    """The public key as SubjectPublicKeyInfo."""
    with _library():
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415
    return _public(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_from_pem(pem: str, source: str) -> bytes:
    """The private key of Ed25519 in a PEM block; `source` names it in messages.

    Raises:
        ConfigError: it is another kind of key, encrypted or broken.
    """
    with _library():
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # whose texts may quote the key
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{source}: expected a private key of Ed25519 that isn't encrypted; {_REMEDY}")
    return key.private_bytes_raw()


def public_from_pem(pem: str, source: str) -> bytes:
    """The public key of Ed25519 in a PEM block; `source` names it in messages.

    Raises:
        ConfigError: it is another kind of key, or broken.
    """
    with _library():
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{source}: expected a public key of Ed25519; {_REMEDY}")
    return key.public_bytes_raw()


class Cipher:
    """AES-256-GCM under one key."""

    def __init__(self, key: bytes) -> None:
        with _library():
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        self._aes: AESGCM = AESGCM(key)

    def encrypted(self, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
        """The cipher text and its tag; a nonce is for one call alone."""
        return self._aes.encrypt(nonce, plain, associated)

    def decrypted(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        """The plain text.

        Raises:
            ForgedError: key, nonce, associated data or a byte of it isn't what it was.
        """
        with _library():
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        try:
            return self._aes.decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise ForgedError from None


_REMEDY = "edge-runtime keygen makes one"
