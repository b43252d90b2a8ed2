"""An application as it is written in a module: its pod is made when the module is imported, and opened later."""

from __future__ import annotations

import os

from coatcheck import Pod, ServerSideSessionsConfig
from tests.runtime.calls import STORE_VARIABLE

pod = Pod(os.environ[STORE_VARIABLE], environ={}, config_dir="no-such-folder")
auth = pod.initialize_auth_services(
    token_manager_builders=[ServerSideSessionsConfig(session_key_hash_pepper="a pepper of thirty-two bytes ok!")]
)
