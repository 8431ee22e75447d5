#pragma once
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
/* xxh_x86dispatch.h replaces the names by macros that Swift cannot see; these wrappers keep the choice in one place. */
static inline uint64_t rs_xxh3_64(const void *bytes, size_t count, uint64_t seed) {
    return XXH3_64bits_withSeed_dispatch(bytes, count, seed);
}
static inline XXH128_hash_t rs_xxh3_128(const void *bytes, size_t count, uint64_t seed) {
    return XXH3_128bits_withSeed_dispatch(bytes, count, seed);
}
#else
static inline uint64_t rs_xxh3_64(const void *bytes, size_t count, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, count, seed);
}
static inline XXH128_hash_t rs_xxh3_128(const void *bytes, size_t count, uint64_t seed) {
    return XXH3_128bits_withSeed(bytes, count, seed);
}
#endif
