// Compiles the file named by DW_KERNEL_FILE for instruction sets, each in a namespace of its own.
// What it includes under the wider sets must be ours and inline only there: an inline function of
// std or torch compiled here could be the copy that a machine without AVX-512 runs.
//
// DW_SETS: which, 1 (baseline) + 2 (avx2) + 4 (avx512) + 8 (avx512bf16). Each has an object of its
// own (gather_avx2.cpp and the like): they compile side by side.
#ifndef DW_SETS
#define DW_SETS 1
#endif

#include <cstdint>

#include "kernels.h"
#ifdef DW_X86_SETS
#include <immintrin.h>
#endif

#if DW_SETS & 1
#define DW_ISA baseline
#define DW_VECTOR_BYTES 16
#include DW_KERNEL_FILE
#undef DW_ISA
#undef DW_VECTOR_BYTES
#endif

#ifdef DW_X86_SETS
#define DW_HAVE_F16C 1

#if DW_SETS & 2
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define DW_ISA avx2
#define DW_VECTOR_BYTES 32
#include DW_KERNEL_FILE
#undef DW_ISA
#undef DW_VECTOR_BYTES
#pragma GCC pop_options
#endif

#if DW_SETS & 4
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#define DW_ISA avx512
#define DW_VECTOR_BYTES 64
#include DW_KERNEL_FILE
#undef DW_ISA
#undef DW_VECTOR_BYTES
#pragma GCC pop_options
#endif

// files whose kernels of bfloat16 gain by the processor's own rounding
#if DW_SETS & 8 && defined(DW_ROUNDS_BFLOAT16)
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
