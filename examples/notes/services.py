"""The services that routes use: `services: Cloakroom` in a route's signature."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from accounts import Accounts
from coatcheck import AuthServices
from devices import Devices
from notes import Notes


@dataclass(frozen=True)
class Services:
    """The services of the application."""

    auth: AuthServices
    accounts: Accounts
    notes: Notes
    devices: Devices


def _services(connection: HTTPConnection) -> Services:
    return cast("Services", connection.app.state.services)


Cloakroom: TypeAlias = Annotated[Services, Depends(_services)]
