/* The most multiply-accumulates a second of one core, float and int8: sums that stay in registers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define SUMS 12 /* enough to hide a latency of 4 cycles on 2 or 3 units, few enough for 16 registers */

#if defined(__AVX512F__)
#define WIDE 64
#elif defined(__AVX__)
#define WIDE 32
#else
#define WIDE 16
#endif
typedef float wide __attribute__((vector_size(WIDE)));
#define LANES (WIDE / sizeof(float))

#if defined(__AVX512VNNI__)
#include <immintrin.h>
typedef __m512i sum8;
#define PRODUCTS 64
#define DOT(sum, x, y) _mm512_dpbusd_epi32(sum, x, y)
#elif defined(__AVXVNNI__)
#include <immintrin.h>
typedef __m256i sum8;
#define PRODUCTS 32
#define DOT(sum, x, y) _mm256_dpbusd_avx_epi32(sum, x, y)
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
typedef int32x4_t sum8;
#define PRODUCTS 16
#define DOT(sum, x, y) vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(y))
#elif defined(__aarch64__)
#include <arm_neon.h>
typedef int32x4_t sum8;
#define PRODUCTS 16
static inline int32x4_t dot(int32x4_t sum, int8x16_t x, int8x16_t y)
{
    int16x8_t both = vmull_s8(vget_low_s8(x), vget_low_s8(y));
    both = vmlal_s8(both, vget_high_s8(x), vget_high_s8(y));
    return vpadalq_s16(sum, both);
}
#define DOT(sum, x, y) dot(sum, vreinterpretq_s8_s32(vaddq_s32(x, sum)), vreinterpretq_s8_s32(y))
#endif

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

/* Multiply-accumulates a second in one run of `rounds`; `seed` is anything that a compiler cannot know. */
double peak_fp32(size_t rounds, float seed)
{
    wide sum[SUMS], x, y;
    for (size_t i = 0; i < LANES; i++) {
        x[i] = seed;
        y[i] = 0.5f * seed;
    }
    for (size_t s = 0; s < SUMS; s++) {
        sum[s] = x + (float)s;
    }
    const double begun = now();
    for (size_t r = 0; r < rounds; r++) {
        for (size_t s = 0; s < SUMS; s++) {
            sum[s] = sum[s] * x + y;
        }
    }
    const double took = now() - begun;
    volatile float kept = 0.0f;
    for (size_t s = 0; s < SUMS; s++) {
        kept = kept + sum[s][0];
    }
    return (double)rounds * SUMS * LANES / took;
}

/* As above with the widest int8 dot product; 0 where this compiler knows none for the processor. */
double peak_int8(size_t rounds, int32_t seed)
{
#if defined(DOT)
    volatile int32_t words[2 * WIDE / 4], kept[WIDE / 4];
    sum8 sum[SUMS], x, y;
    int32_t plain[2][sizeof(sum8) / 4];
    for (size_t i = 0; i < sizeof(sum8) / 4; i++) {
        words[i] = seed + (int32_t)i;
        plain[0][i] = words[i];
        plain[1][i] = words[i] ^ 0x01010101;
    }
    __builtin_memcpy(&x, plain[0], sizeof x);
    __builtin_memcpy(&y, plain[1], sizeof y);
    for (size_t s = 0; s < SUMS; s++) {
        sum[s] = x;
    }
    const double begun = now();
    for (size_t r = 0; r < rounds; r++) {
        for (size_t s = 0; s < SUMS; s++) {
            sum[s] = DOT(sum[s], x, y);
        }
    }
    const double took = now() - begun;
    for (size_t s = 0; s < SUMS; s++) {
        __builtin_memcpy(plain[0], &sum[s], sizeof x);
        kept[0] = plain[0][0];
    }
    (void)kept;
    return (double)rounds * SUMS * PRODUCTS / took;
#else
    (void)rounds;
    (void)seed;
    return 0.0;
#endif
}
