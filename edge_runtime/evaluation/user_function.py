"""The function that a recipe names as `module:function`: found, digested and loaded."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Callable, Iterator

from edge_runtime.errors import ConfigError, DataError, nearest


@dataclass(frozen=True)
class UserFunction:
    """`module:function`; the module is a file in `folder` if there is one, else an importable module.

    Raises:
        ConfigError: `spec` hasn't this form.
    """

    spec: str
    folder: Path

    def __post_init__(self) -> None:
        module, colon, function = self.spec.partition(":")
        if not colon or not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            raise ConfigError(f"function {self.spec!r}: expected module:function, such as text_lines:samples")

    @property
    def module(self) -> str:
        """The module's dotted name."""
        return self.spec.partition(":")[0]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.spec.partition(":")[2]

    def module_sha256(self) -> str:
        """The digest of the module's file; the module isn't run (the packages above an importable one are).

        Raises:
            ConfigError: there is no such module, or it has no file.
        """
        path = self._file_in_folder()
        if path is None:
            with self.guarded():
                path = self._importable_file()
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"function {self.spec!r}: {path} can't be read ({error.strerror})") from error

    def load(self) -> Callable[..., Any]:
        """The function, from its module run anew if that is a file in `folder`.

        Raises:
            ConfigError: no such module, or no such function in it.
            DataError: the module fails; the cause is its own exception.
        """
        path = self._file_in_folder()
        if path is None:
            with self.guarded():
                self._importable_file()
                module = importlib.import_module(self.module)
        else:
            module = self._run(path)
        function = getattr(module, self.name, None)
        if not callable(function):
            known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            where = path or self.module
            raise ConfigError(
                f"function {self.spec!r}: no function {self.name!r} in {where}; {nearest(self.name, known)}"
            )
        return function  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Runs code of the user: it can import its neighbours in `folder`, and fails as DataError.

        Raises:
            DataError: with the text of the exception, which is the cause.
        """
        entry = str(self.folder.resolve())
        added = entry not in sys.path
        if added:
            sys.path.append(entry)
        try:
            yield
        except ConfigError:
            raise
        except (Exception, SystemExit, GeneratorExit) as error:  # a function that ends the process has failed
            raise DataError(f"function {self.spec!r} failed: {type(error).__name__}: {error}") from error
        finally:
            if added and entry in sys.path:
                sys.path.remove(entry)

    def _file_in_folder(self) -> Path | None:
        path = self.folder.joinpath(*self.module.split(".")).with_suffix(".py")
        return path if path.is_file() else None

    def _importable_file(self) -> Path:
        try:
            spec = importlib.util.find_spec(self.module)
        except ModuleNotFoundError as error:
            if not f"{self.module}.".startswith(f"{error.name}."):
                raise  # found, but something that it imports isn't there
            spec = None
        except ValueError:  # __main__ and the like
            spec = None
        if spec is None:
            raise ConfigError(
                f"function {self.spec!r}: no module {self.module!r} in {self.folder}, nor is one of that name installed"
            )
        if not spec.has_location or spec.origin is None:
            raise ConfigError(f"function {self.spec!r}: module {self.module!r} has no file to tell its version by")
        return Path(spec.origin)

    def _run(self, path: Path) -> Any:
        unique = f"samples@{path.resolve()}"
        spec = importlib.util.spec_from_file_location(unique, path, loader=_UncachedLoader(unique, str(path)))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[unique] = module  # dataclasses look their module up here
        try:
            with self.guarded():
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[unique]
            raise
        return module


class _UncachedLoader(importlib.machinery.SourceFileLoader):
    """Compiles what is in the file now: bytecode caches go by a time stamp of whole seconds."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)
