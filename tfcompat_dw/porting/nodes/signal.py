"""Fourier transforms and complex numbers."""

from __future__ import annotations

from tfcompat_dw.porting.config import shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import Table, operand, operands, shape, simple, takes
from tfcompat_dw.porting.nodes.call import Bound, Handler, NodeCall

_RANKS = {"": 1, "2D": 2, "3D": 3}


def _of_lengths(function: str, rank: int) -> Handler:
    def handle(call: NodeCall) -> Bound:
        lengths = shape(call, 1, "fft_length")
        if len(lengths) != rank or any(isinstance(one, int) and one < 1 for one in lengths):
            raise UnsupportedLayerError(f"its fft_length is {shown(lengths)}")
        return Bound(function, (operand(call, 0), lengths))

    return takes(2, 2, handle)


def _whole(function: str, rank: int) -> Handler:
    return takes(1, 1, lambda call: Bound(function, (*operands(call, 1), rank)))


HANDLERS: Table = {
    **{f"RFFT{name}": _of_lengths("rfft", rank) for name, rank in _RANKS.items()},
    **{f"IRFFT{name}": _of_lengths("irfft", rank) for name, rank in _RANKS.items()},
    **{f"FFT{name}": _whole("fft", rank) for name, rank in _RANKS.items()},
    **{f"IFFT{name}": _whole("ifft", rank) for name, rank in _RANKS.items()},
    "Complex": simple("complex", 2),
    "Real": simple("real", 1),
    "Imag": simple("imaginary", 1),
    "Angle": simple("angle", 1),
    "Conj": simple("conjugate", 1),
}
