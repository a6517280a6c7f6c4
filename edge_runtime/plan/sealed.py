"""Files that are encrypted at rest: AES-256-GCM in chunks of 1 MiB, by the STREAM construction.

A file `FILE.enc` is a header and then the chunks, each with its tag. Every file has a random key of its own, which the
header holds wrapped by the device's key. A chunk's nonce is 7 random bytes of the file, the chunk's number and whether
it is the last one (Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015), and the whole header is authenticated with
it: nothing can be cut off, put elsewhere, or taken from another file. Digest and size of the plain text are in the
header too, and have to be those of the manifest.

    magic 8 | format 1 | key id 8 | plain SHA-256 32 | plain size 8 | nonce prefix 7 | wrap nonce 12 | wrapped key 48

Integers are big-endian. Plain text is never written anywhere; a process that decrypts makes no core dumps.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable, Iterator, Tuple

from edge_runtime.device.core_dumps import forbid_core_dumps
from edge_runtime.errors import ConfigError, PlanCorruptError, PlanSealedError
from edge_runtime.plan.contents import StoredFile, opened
from edge_runtime.plan.cryptography_api import KEY_NBYTES, TAG_NBYTES, Cipher, ForgedError
from edge_runtime.plan.files import Content
from edge_runtime.plan.manifest import FileRecord
from edge_runtime.plan.plan_key import ID_NBYTES, PlanKey, plan_key

SUFFIX = ".enc"
CHUNK_NBYTES = 1 << 20

_MAGIC = b"edgeplan"
_FORMAT = 1
_PREFIX_NBYTES = 7
_WRAP_NONCE_NBYTES = 12
_FIELDS = struct.Struct(f">8sB{ID_NBYTES}s32sQ{_PREFIX_NBYTES}s")
_WRAPPED_NBYTES = KEY_NBYTES + TAG_NBYTES
HEADER_NBYTES = _FIELDS.size + _WRAP_NONCE_NBYTES + _WRAPPED_NBYTES


def sealed_chunks(
    content: Content, record: FileRecord, key: PlanKey, random: Callable[[int], bytes] = os.urandom
) -> Iterator[bytes]:
    """The encrypted file of a plain one, chunk by chunk; `record` has the digest and size that `content` must have.

    Raises:
        PlanCorruptError: `content` is another.
    """
    prefix, file_key, wrap_nonce = random(_PREFIX_NBYTES), random(KEY_NBYTES), random(_WRAP_NONCE_NBYTES)
    fields = _FIELDS.pack(_MAGIC, _FORMAT, key.id, bytes.fromhex(record.sha256), record.nbytes, prefix)
    header = fields + wrap_nonce + Cipher(key.raw).encrypted(wrap_nonce, file_key, fields)
    yield header
    cipher, digest, nbytes = Cipher(file_key), hashlib.sha256(), 0
    last = _chunk_count(record.nbytes) - 1
    for number, chunk in enumerate(_rechunked(content)):
        digest.update(chunk)
        nbytes += len(chunk)
        yield cipher.encrypted(_nonce(prefix, number, number == last), chunk, header)
    if nbytes != record.nbytes or digest.hexdigest() != record.sha256:
        raise PlanCorruptError(f"{record.file}: isn't what its record says, so it wasn't encrypted")


def _rechunked(content: Content) -> Iterator[bytes]:
    """All of a content in chunks of one size, the last one shorter; one empty chunk of an empty content."""
    pending = bytearray()
    is_empty = True
    for piece in [content] if isinstance(content, bytes) else content:
        view = memoryview(piece)
        while len(pending) + len(view) > CHUNK_NBYTES:
            taken = CHUNK_NBYTES - len(pending)
            yield bytes(pending) + bytes(view[:taken])
            pending, view, is_empty = bytearray(), view[taken:], False
        pending += view
    if pending or is_empty:
        yield bytes(pending)


def _chunk_count(nbytes: int) -> int:
    return max(1, -(-nbytes // CHUNK_NBYTES))


def _nonce(prefix: bytes, number: int, is_last: bool) -> bytes:
    return prefix + struct.pack(">IB", number, is_last)


@dataclass(frozen=True)
class SealedFile(StoredFile):
    """An encrypted file: it is read as the plain one would be, whose record this is."""

    read_key: Callable[[], PlanKey] = plan_key

    def beginning(self, nbytes: int) -> Tuple[bytes, int]:
        """The first bytes of the plain text, as far as they lie in its first chunk, and its size."""
        with opened(self.path) as file:
            chunks = self._decrypted(file)
            return next(chunks)[:nbytes], self.record.nbytes

    def _chunks(self, size: int) -> Iterator[bytes]:  # noqa: ARG002  (chunks are as they were encrypted)
        digest = hashlib.sha256()
        with opened(self.path) as file:
            for chunk in self._decrypted(file):
                digest.update(chunk)
                yield chunk
        if digest.hexdigest() != self.record.sha256:
            raise self._corrupt("what its header says it is")

    def _decrypted(self, file: BinaryIO) -> Iterator[bytes]:
        """The plain chunks, each of which is what was encrypted, and in its place."""
        forbid_core_dumps()
        header, nbytes = file.read(HEADER_NBYTES), os.fstat(file.fileno()).st_size
        if len(header) != HEADER_NBYTES or not header.startswith(_MAGIC):
            raise self._corrupt("the header of an encrypted file")
        _, version, key_id, sha256, plain_nbytes, prefix = _FIELDS.unpack_from(header)
        if version != _FORMAT:
            raise PlanSealedError(f"{self.path}: expected format {_FORMAT}, got {version}; upgrade edge_runtime")
        if sha256.hex() != self.record.sha256 or plain_nbytes != self.record.nbytes:
            raise self._corrupt("the file that the manifest names")
        count = _chunk_count(plain_nbytes)
        if nbytes != HEADER_NBYTES + plain_nbytes + count * TAG_NBYTES:
            raise self._corrupt(f"a file of {HEADER_NBYTES + plain_nbytes + count * TAG_NBYTES} bytes")
        cipher = self._cipher(header, key_id)
        for number in range(count):
            sealed = file.read(CHUNK_NBYTES + TAG_NBYTES)
            try:
                yield cipher.decrypted(_nonce(prefix, number, number == count - 1), sealed, header)
            except ForgedError:
                raise self._corrupt(f"what was encrypted, from chunk {number + 1} of {count} on") from None

    def key(self) -> PlanKey:
        """The device's key, by which another process can read the file.

        Raises:
            PlanSealedError: it isn't here.
        """
        try:
            return self.read_key()
        except ConfigError as error:
            raise PlanSealedError(f"{self.path}: is encrypted: {error}") from None

    def _cipher(self, header: bytes, key_id: bytes) -> Cipher:
        key = self.key()
        if key.id != key_id:
            raise PlanSealedError(
                f"{self.path}: is encrypted for key {key_id.hex()}, and the key here is {key.id.hex()}; "
                "put the right key in its place, or build the plan again"
            )
        wrap_nonce = header[_FIELDS.size : _FIELDS.size + _WRAP_NONCE_NBYTES]
        try:
            return Cipher(Cipher(key.raw).decrypted(wrap_nonce, header[-_WRAPPED_NBYTES:], header[: _FIELDS.size]))
        except ForgedError:
            raise self._corrupt("the header that was written") from None

    def _corrupt(self, expected: str) -> PlanCorruptError:
        return PlanCorruptError(f"{self.path}: isn't {expected}; build the plan again")


def file_of(folder: Path, record: FileRecord, read_key: Callable[[], PlanKey] = plan_key) -> StoredFile:
    """The file of a record, as it lies in a folder: plain or encrypted."""
    plain, sealed = folder / record.file, folder / f"{record.file}{SUFFIX}"
    is_sealed = not os.path.lexists(plain) and os.path.lexists(sealed)
    return SealedFile(sealed, record, read_key) if is_sealed else StoredFile(plain, record)
