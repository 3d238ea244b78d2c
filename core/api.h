// What every header needs: which symbols leave the shared library, and which functions run on a GPU.
#pragma once

// On a declaration: it leaves the shared library. Programs that link the static one define ESPALIER_STATIC.
#if defined(ESPALIER_STATIC)
#define ESPALIER_API
#else
#define ESPALIER_API __attribute__((visibility("default")))
#endif

// A function that kernel bodies call: compiled for the host by g++ and for both sides by nvcc.
#ifdef __CUDACC__
#define ESPALIER_KERNEL __host__ __device__ __forceinline__
#else
#define ESPALIER_KERNEL inline
#endif
