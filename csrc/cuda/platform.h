// What the kernels need from CUDA. tests/cuda/emulation.h gives the same names on a machine without
// a GPU, so that the very same kernels run there under the sanitizers.
#pragma once
#include <cstdint>

namespace tfcompat_dw::cuda {
// Bytes of shared memory that a block gets, unasked and when `launch` asks for it: every GPU from
// sm_75 on has as much.
constexpr int64_t kSharedUnasked = 48 << 10, kSharedAsked = 64 << 10;
}  // namespace tfcompat_dw::cuda

#ifdef TFCOMPAT_DW_EMULATED
#include "emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace tfcompat_dw::cuda {

// The block's dynamic shared memory, aligned to 16 bytes.
__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}

// A barrier that tells every thread whether `condition` holds in all of them.
__device__ inline bool all_threads(bool condition) { return __syncthreads_and(condition); }

__device__ inline float bfloat16_to_float(uint16_t bits) {
  return __uint_as_float(static_cast<unsigned>(bits) << 16);
}
__device__ inline uint16_t float_to_bfloat16(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}
__device__ inline float float16_to_float(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
__device__ inline uint16_t float_to_float16(float value) {
  return __half_as_ushort(__float2half_rn(value));
}

// Two at once, the first in the lower half.
__device__ inline void float16_pair_to_floats(uint32_t bits, float& first, float& second) {
  const float2 both = __half22float2(*reinterpret_cast<const __half2*>(&bits));
  first = both.x;
  second = both.y;
}
__device__ inline uint32_t floats_to_bfloat16_pair(float first, float second) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&both);
}
__device__ inline uint32_t floats_to_float16_pair(float first, float second) {
  const __half2 both = __floats2half2_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&both);
}

// Starts a kernel on a stream and reports a launch that was refused.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, unsigned shared_bytes,
            void* stream, const Arguments&... arguments) {
  if (shared_bytes > kSharedUnasked) {
    // The limit is the kernel's, not this launch's: always the same, so that two threads may launch
    // it at once. A refusal shows when the kernel starts.
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(kSharedAsked));
  }
  // clang-format off: it would take the brackets apart
  kernel<<<blocks, threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(arguments...);
  // clang-format on
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  std::string text =
      std::string("tfcompat_dw: a CUDA kernel was refused: ") + cudaGetErrorString(error);
  if (error == cudaErrorInsufficientDriver || error == cudaErrorNoKernelImageForDevice ||
      error == cudaErrorUnsupportedPtxVersion) {
    text +=
        "; build it for this GPU and driver: TFCOMPAT_DW_CUDA=1 pip install "
        "--no-build-isolation . with a CUDA toolkit that is not newer than the driver";
  }
  throw std::runtime_error(text);
}

}  // namespace tfcompat_dw::cuda
#endif
