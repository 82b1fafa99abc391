// Compiles the file named by DW_KERNEL_FILE once per instruction set, each time in a namespace of
// its own. What it includes under the wider sets must be ours and inline only there: an inline
// function of std or torch compiled here could be the copy that a machine without AVX-512 runs.
#include <cstdint>

#include "kernels.h"
#ifdef DW_X86_SETS
#include <immintrin.h>
#endif

#define DW_ISA baseline
#define DW_VECTOR_BYTES 16
#include DW_KERNEL_FILE
#undef DW_ISA
#undef DW_VECTOR_BYTES

#ifdef DW_X86_SETS
#define DW_HAVE_F16C 1

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define DW_ISA avx2
#define DW_VECTOR_BYTES 32
#include DW_KERNEL_FILE
#undef DW_ISA
#undef DW_VECTOR_BYTES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#define DW_ISA avx512
#define DW_VECTOR_BYTES 64
#include DW_KERNEL_FILE
#undef DW_ISA
#undef DW_VECTOR_BYTES
#pragma GCC pop_options

#ifdef DW_ROUNDS_BFLOAT16  // files whose kernels of bfloat16 gain by the processor's own rounding
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#define DW_ISA avx512bf16
#define DW_VECTOR_BYTES 64
#define DW_HAVE_BF16 1
#include DW_KERNEL_FILE
#undef DW_ISA
#undef DW_VECTOR_BYTES
#undef DW_HAVE_BF16
#pragma GCC pop_options
#endif

#undef DW_HAVE_F16C
#endif
