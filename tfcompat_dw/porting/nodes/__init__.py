"""TensorFlow's operations as functions of PyTorch, by what they do."""

from tfcompat_dw.porting.nodes import (
    arranging,
    elementwise,
    image,
    linear,
    making,
    quantization,
    reduction,
    signal,
)
from tfcompat_dw.porting.nodes.call import Handler

HANDLERS: dict[str, Handler] = {
    **elementwise.HANDLERS,
    **reduction.HANDLERS,
    **arranging.HANDLERS,
    **image.HANDLERS,
    **linear.HANDLERS,
    **making.HANDLERS,
    **signal.HANDLERS,
    **quantization.HANDLERS,
}
