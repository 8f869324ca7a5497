#pragma once
/// The only file that tests compilers. Everything else uses the macros defined here.

#ifndef M3I_CUDA
#define M3I_CUDA 0
#endif

// 1 for programs that link m3i::compiled: what that holds is then only declared.
#ifndef M3I_COMPILED
#define M3I_COMPILED 0
#endif

#if defined(__FAST_MATH__)
#error "m3i: -ffast-math changes results and breaks NaN checks; remove it: m3i::m3i exports the safe speed flags"
#endif
#if M3I_CUDA && !defined(__CUDACC__)
#error "m3i: M3I_CUDA=1 needs every file compiled by nvcc; use m3i_add_executable() or LANGUAGE CUDA on the sources"
#endif
#if __cplusplus < 202002L
#error "m3i: needs C++20 (-std=c++20)"
#endif

// Version and device are part of every symbol, so that mixing a CPU and a CUDA build is a link error. Defining M3I_ABI
// from outside is for the test of that.
#if M3I_CUDA
#ifndef M3I_ABI
#define M3I_ABI v0_1_cuda
#endif
#define M3I_HD __host__ __device__
#else
#ifndef M3I_ABI
#define M3I_ABI v0_1_cpu
#endif
#define M3I_HD
#endif

#define M3I_RESTRICT __restrict__

// Unrolls the loop that follows; compilers spell it differently. (nvcc's front end says that it does not know GCC's
// form, but hands it on; the CMake target turns that warning off.)
#define M3I_PRAGMA(text) _Pragma(#text)
#if defined(__CUDA_ARCH__) || defined(__clang__)
#define M3I_UNROLL(n) M3I_PRAGMA(unroll n)
#else
#define M3I_UNROLL(n) M3I_PRAGMA(GCC unroll n)
#endif

// Vector loops. `omp simd` needs -fopenmp-simd, which the CMake target exports together with M3I_OPENMP_SIMD; without
// it the loops are merely slower. Device code is not vectorised.
#if defined(__CUDA_ARCH__) || !(defined(_OPENMP) || defined(M3I_OPENMP_SIMD))
#define M3I_SIMD
#define M3I_SIMD_REDUCE(operation, variable)
#else
#define M3I_SIMD M3I_PRAGMA(omp simd)
#define M3I_SIMD_REDUCE(operation, variable) M3I_PRAGMA(omp simd reduction(operation : variable))
#endif

// Asks for the cache line of an address that will be read before long: into the second level, the first has work to do.
#if defined(__GNUC__) && !defined(__CUDA_ARCH__)
#define M3I_PREFETCH(address) __builtin_prefetch(address, 0, 2)
#else
#define M3I_PREFETCH(address) static_cast<void>(address)
#endif

// Bytes of a vector register, for the few loops that are blocked by hand.
#if defined(__AVX512F__)
#define M3I_VECTOR_BYTES 64
#elif defined(__AVX__)
#define M3I_VECTOR_BYTES 32
#else
#define M3I_VECTOR_BYTES 16
#endif

// What this file is compiled for, in the names of the x86-64 levels: a library of each can lie beside the others.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && \
    defined(__AVX512VL__)
#define M3I_INSTRUCTION_SET "x86-64-v4"
#elif defined(__AVX2__) && defined(__FMA__)
#define M3I_INSTRUCTION_SET "x86-64-v3"
#elif defined(__SSE4_2__)
#define M3I_INSTRUCTION_SET "x86-64-v2"
#elif defined(__x86_64__)
#define M3I_INSTRUCTION_SET "x86-64"
#elif defined(__aarch64__)
#define M3I_INSTRUCTION_SET "aarch64"
#else
#define M3I_INSTRUCTION_SET "generic"
#endif

// Before a template for host and device that has a branch for the host alone: nvcc then does not object to its calls.
#if M3I_CUDA
#define M3I_NO_EXEC_CHECK _Pragma("nv_exec_check_disable")
#else
#define M3I_NO_EXEC_CHECK
#endif
