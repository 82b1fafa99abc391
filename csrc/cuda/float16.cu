// The kernels for float16.
#include "kernels.h"

template struct tfcompat_dw::cuda::Kernels<tfcompat_dw::cuda::Float16>;
