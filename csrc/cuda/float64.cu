// The kernels for float64.
#include "kernels.h"

template struct tfcompat_dw::cuda::Kernels<double>;
