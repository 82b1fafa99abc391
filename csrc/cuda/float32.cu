// The kernels for float32.
#include "kernels.h"

template struct tfcompat_dw::cuda::Kernels<float>;
