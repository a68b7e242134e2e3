// Functions marked ROBOAO_MULTIVERSION are compiled twice on x86-64 Linux, for the baseline and for
// AVX2, and the loader picks one. Neither version fuses multiply and add (-ffp-contract=off and no
// FMA in the AVX2 target), so both give the same bits.
#pragma once

#if !defined(ROBOAO_ONE_VERSION) && defined(__x86_64__) && defined(__linux__) && \
    defined(__has_attribute)
#if __has_attribute(target_clones)
#define ROBOAO_MULTIVERSION __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef ROBOAO_MULTIVERSION
#define ROBOAO_MULTIVERSION
#endif

// Helpers of a multiversioned function must become part of it to be compiled for its target.
#define ROBOAO_INLINE inline __attribute__((always_inline))
