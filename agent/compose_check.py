"""`ivma-agent check-config`: what is wrong with a configuration, and with the files that it names.

A composition root, as ``agent.__main__``: it reads every file with what a start reads it with.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.clock import boot_now
from agent.config import Config, ConfigError, load
from agent.config import Tls as TlsFiles
from agent.dbus import Bus
from agent.enforcement.base import SettingsError, Surroundings
from drivers import registry
from sync.keys import KeyFileError, load_private, load_public


def check(file: Path, *, files: bool) -> int:
    """Print every problem, or that there is none. The exit code: 0 good, 78 not."""
    try:
        config = load(file)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_CONFIG
    problems = list(_of_actions(config))
    if files:
        problems += _of_files(config)
    if problems:
        sys.stderr.writelines(f"{file}: {problem}\n" for problem in problems)
        return os.EX_CONFIG
    sys.stdout.write(f"{file}: good; digest {config.digest}\n")
    return os.EX_OK


def _of_actions(config: Config) -> Iterator[str]:
    """What the configured actions say of their settings; to make one does no I/O."""
    around = Surroundings(lambda _seen: None, boot_now, lambda: Bus(random.random), config.state_dir)
    chosen = config.settings.enforcement
    for name in chosen.actions:
        try:
            make: Any = registry.load(registry.ENFORCEMENT, name)
            make(chosen.settings.get(name, {}), around)
        except (SettingsError, registry.NotRegisteredError) as error:
            yield str(error)


def _of_files(config: Config) -> Iterator[str]:
    """What is wrong with keys and certificates, as a start would find it."""
    for key, path, read in _keys(config):
        try:
            read(path)
        except KeyFileError as error:
            yield f"`{key}`: {error}"
    sync, device = config.settings.sync, config.settings.device
    if sync is not None and sync.tls is not None:
        yield from _of_tls(sync.tls, device.fleet, device.name)


def _keys(config: Config) -> Iterator[tuple[str, Path, Callable[[Path], object]]]:
    """Key in the configuration, file, and who reads it."""
    settings = config.settings
    if (sync := settings.sync) is not None:
        yield "sync.signing_key_file", Path(sync.signing_key_file), load_private
        yield "sync.depot_key_file", Path(sync.depot_key_file), load_public
        if sync.fleet_key_file is not None:
            yield "sync.fleet_key_file", Path(sync.fleet_key_file), load_public
    lists = {
        "permits.authority_key_files": settings.permits.authority_key_files,
        "contractors.key_files": settings.contractors.key_files,
        "orders.command_key_files": settings.orders.command_key_files,
        "orders.configuration_key_files": settings.orders.configuration_key_files,
        "orders.sealing_key_files": settings.orders.sealing_key_files,
    }
    for key, paths in lists.items():
        for path in paths:
            yield key, Path(path), load_public
    if settings.permits.code_key_file is not None:
        from sync.codes import load_code_key

        yield "permits.code_key_file", Path(settings.permits.code_key_file), load_code_key


def _of_tls(files: TlsFiles, fleet: str, name: str) -> Iterator[str]:
    from sync.mqtt_types import Tls
    from sync.tls import Context, TlsFilesError, identity

    tls = Tls(Path(files.ca_file), Path(files.cert_file), Path(files.key_file))
    try:
        context = Context(tls)
        in_fleet, of = identity(tls)
    except TlsFilesError as error:
        yield f"`sync.tls`: {error}"
        return
    if context.notice:
        yield f"`sync.tls`: {context.notice}"
    if (in_fleet or fleet, of) != (fleet, name):
        yield (
            f"`sync.tls.cert_file`: certificate {tls.cert} is of {of!r} in fleet {in_fleet!r}; expected "
            f"{name!r} in {fleet!r}, as `device` says: enrol this tablet, or correct its name"
        )
