"""Native kernels."""

from roboao_native import _kernels


def decode_uint16(frames) -> None:
    """Convert in place."""
    _kernels.decode_uint16(frames.reshape(-1))
