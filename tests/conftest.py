"""Every test runs without network, in one thread, on models built from a configuration; this folder is importable."""

import os
import socket

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    OMP_NUM_THREADS="1",  # before torch is imported: most models here are too small for more
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
)

LOCAL = {"127.0.0.1", "::1", "localhost", "0.0.0.0", ""}


class NetworkBlocked(RuntimeError):
    """A test reached for the network."""


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Only this machine can be reached; processes of a job talk through it."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def local_connect(self, address):
        if isinstance(address, tuple) and address[0] not in LOCAL:
            raise NetworkBlocked(f"connect to {address}")
        return connect(self, address)

    def local_lookup(host, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name not in {*LOCAL, socket.gethostname()}:
            raise NetworkBlocked(f"look up {host}")
        return lookup(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_connect)
        patch.setattr(socket, "getaddrinfo", local_lookup)
        yield


@pytest.fixture
def one_thread():
    """Torch on one thread: sums in one order, and no waiting for cores that others use."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
