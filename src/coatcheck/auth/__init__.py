"""Auth services: several token managers as one, and users kept in the store."""

from coatcheck.auth.multi import MultiTokenManager
from coatcheck.auth.services import AuthServices
from coatcheck.auth.sql_user_source import SqlUserSource
from coatcheck.auth.users import AuthUser, AuthUsers, NewAuthUser

__all__ = ["AuthServices", "AuthUser", "AuthUsers", "MultiTokenManager", "NewAuthUser", "SqlUserSource"]
