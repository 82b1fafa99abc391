// The kernels for bfloat16.
#include "kernels.h"

template struct tfcompat_dw::cuda::Kernels<tfcompat_dw::cuda::BFloat16>;
