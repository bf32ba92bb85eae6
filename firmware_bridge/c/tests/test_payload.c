/* The payload formats and the reading of payloads. SPDX-License-Identifier: Apache-2.0 */
#include "expect.h"

static const usfp_ascan ASCAN = {1, 2, 3, -4, -5, 6, 7};

static int32_t encode(uint8_t format, uint8_t *out, size_t capacity, const int16_t *samples, uint16_t n)
{
    return format == USFP_FORMAT_PACKED12 ? usfp_pack12(out, capacity, samples, n)
                                          : usfp_rice_encode(out, capacity, samples, n);
}

static int32_t decode(uint8_t format, int16_t *samples, size_t capacity, const uint8_t *payload, size_t length,
                      uint16_t n)
{
    return format == USFP_FORMAT_PACKED12 ? usfp_unpack12(samples, capacity, payload, length, n)
                                          : usfp_rice_decode(samples, capacity, payload, length, n);
}

/* Ringing within 12 bits, and after it a rest that varies by one. */
static int16_t *ringing(uint16_t n)
{
    int16_t *samples = exactly(2u * (size_t)n);
    for (size_t i = 0; i < n; i++) {
        const int peak = i < 200u ? 2000 - 10 * (int)i : 1;
        samples[i] = (int16_t)((i / 3u) % 2u == 0 ? peak : -peak);
    }
    return samples;
}

static void comes_back(uint8_t format, uint16_t n)
{
    int16_t *samples = ringing(n);
    int16_t *back = exactly(2u * (size_t)n);
    uint8_t *roomy = exactly(2u * (size_t)n);
    const int32_t length = encode(format, roomy, 2u * (size_t)n, samples, n);
    EXPECT(length >= 0);
    uint8_t *fitting = exactly((size_t)length);
    EXPECT(encode(format, fitting, (size_t)length, samples, n) == length);
    EXPECT(memcmp(fitting, roomy, (size_t)length) == 0);
    EXPECT(decode(format, back, n, fitting, (size_t)length, n) == n);
    EXPECT(memcmp(back, samples, 2u * (size_t)n) == 0);
    EXPECT(decode(format, back, n, fitting, (size_t)length + 1u, n) == USFP_ERR_PAYLOAD || length == 0);
    for (size_t cut = 0; cut < (size_t)length; cut++) {
        uint8_t *part = exactly(cut);
        memcpy(part, fitting, cut);
        EXPECT(decode(format, back, n, part, cut, n) == USFP_ERR_PAYLOAD);
        EXPECT(encode(format, part, cut, samples, n) == USFP_ERR_CAPACITY);
        free(part);
        cut += cut > 100u ? 17u : 0u;
    }
    if (n > 0) {
        EXPECT(decode(format, back, n - 1u, fitting, (size_t)length, n) == USFP_ERR_CAPACITY);
    }
    free(fitting);
    free(roomy);
    free(back);
    free(samples);
}

static void every_sample_packs_in_place(void)
{
    const uint16_t n = 4095;
    int16_t *samples = exactly(2u * (size_t)n);
    int16_t *back = exactly(2u * (size_t)n);
    for (size_t i = 0; i < n; i++) {
        samples[i] = (int16_t)((int)i - 2048);
    }
    EXPECT(usfp_pack12((uint8_t *)samples, 2u * (size_t)n, samples, n) == (int32_t)USFP_PACKED12_SIZE(n));
    EXPECT(usfp_unpack12(back, n, (const uint8_t *)samples, USFP_PACKED12_SIZE(n), n) == n);
    for (size_t i = 0; i < n; i++) {
        EXPECT(back[i] == (int16_t)((int)i - 2048));
    }
    free(back);
    free(samples);
}

static void what_packed12_cannot_hold_is_refused(void)
{
    const int16_t misfits[4] = {2048, -2049, INT16_MAX, INT16_MIN};
    const uint8_t idle_bits[2] = {0x00, 0x10};
    uint8_t out[6];
    int16_t sample = 0;
    for (size_t i = 0; i < 4; i++) {
        const int16_t second[2] = {0, misfits[i]};
        EXPECT(usfp_pack12(out, sizeof out, misfits + i, 1) == USFP_ERR_RANGE);
        EXPECT(usfp_pack12(out, sizeof out, second, 2) == USFP_ERR_RANGE);
    }
    EXPECT(usfp_unpack12(&sample, 1, idle_bits, 2, 1) == USFP_ERR_PAYLOAD);
    EXPECT(usfp_unpack12(&sample, 1, idle_bits, 3, 1) == USFP_ERR_PAYLOAD);
    EXPECT(usfp_unpack12(NULL, 0, NULL, 1, 0) == USFP_ERR_NULL);
    EXPECT(usfp_unpack12(NULL, 1, idle_bits, 2, 1) == USFP_ERR_NULL);
    EXPECT(usfp_unpack12(NULL, 0, NULL, 0, 0) == 0);
    EXPECT(usfp_pack12(NULL, 6, &sample, 1) == USFP_ERR_NULL);
    EXPECT(usfp_pack12(out, 6, NULL, 1) == USFP_ERR_NULL);
    EXPECT(usfp_pack12(NULL, 0, NULL, 0) == 0);
}

static void rice_of_noise_is_refused(void)
{
    enum { N = 640 };
    int16_t *samples = exactly(2u * N);
    uint8_t *out = exactly(4u * N);
    uint32_t state = 1;
    for (size_t i = 0; i < N; i++) {
        state = state * 1664525u + 1013904223u;
        samples[i] = (int16_t)((int32_t)(state >> 16) - 32768);
    }
    EXPECT(usfp_rice_encode(out, 4u * N, samples, N) == USFP_ERR_LENGTH);
    EXPECT(usfp_rice_encode(out, 4u * N, samples, 1) == USFP_ERR_LENGTH);
    EXPECT(usfp_rice_encode(out, 4, samples, N) == USFP_ERR_CAPACITY);
    EXPECT(usfp_rice_encode(NULL, 0, samples, N) == USFP_ERR_NULL);
    EXPECT(usfp_rice_encode(out, 4u * N, NULL, N) == USFP_ERR_NULL);
    free(out);
    free(samples);
}

/* One payload in exact memory; what comes out must be the code. */
static int32_t rice(const char *payload, size_t length, uint16_t n)
{
    uint8_t *bytes = exactly(length);
    int16_t *samples = exactly(2u * (size_t)n);
    memcpy(bytes, payload, length);
    const int32_t got = usfp_rice_decode(samples, n, bytes, length, n);
    free(samples);
    free(bytes);
    return got;
}

static void malformed_rice_is_refused(void)
{
    EXPECT(rice("", 0, 0) == 0);
    EXPECT(rice("\0", 1, 0) == USFP_ERR_PAYLOAD);
    EXPECT(rice("\x00\x01", 2, 1) == 1);
    EXPECT(rice("\x00\x80", 2, 1) == 1);
    EXPECT(rice("\x00\x03", 2, 1) == USFP_ERR_PAYLOAD);         /* a second one */
    EXPECT(rice("\x00\x00", 2, 1) == USFP_ERR_PAYLOAD);         /* no one at all */
    EXPECT(rice("\x00", 1, 1) == USFP_ERR_PAYLOAD);             /* no unary plane */
    EXPECT(rice("", 0, 1) == USFP_ERR_PAYLOAD);                 /* no plane at all */
    EXPECT(rice("\x10\x01", 2, 1) == USFP_ERR_PAYLOAD);         /* a parameter of a block that is not there */
    EXPECT(rice("\x0F\x01\x01", 3, 1) == USFP_ERR_PAYLOAD);     /* longer than int16 */
    EXPECT(rice("\x0F\xFF\xFF", 3, 2) == USFP_ERR_PAYLOAD);     /* the low bits end too soon */
    EXPECT(rice("\x01\x01\x03", 3, 2) == 2);
    EXPECT(rice("\x01\x05\x03", 3, 2) == USFP_ERR_PAYLOAD);     /* low bits' padding */
    EXPECT(rice("\x00\x03\x00", 3, 2) == USFP_ERR_PAYLOAD);     /* a byte behind the last one */
    EXPECT(rice("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80", 10, 8) == USFP_ERR_PAYLOAD);
}

/* Zeros before the first of n ones, in blocks of parameter 0 but for the first block's k. */
static int32_t first_code(uint32_t k, size_t zeros, uint16_t n)
{
    const size_t u_start = ((n + 63u) / 64u + 1u) / 2u + 8u * k;
    const size_t length = u_start + (zeros + n + 7u) / 8u;
    uint8_t *payload = exactly(length);
    int16_t *samples = exactly(2u * (size_t)n);
    memset(payload, 0, length);
    payload[0] = (uint8_t)k;
    for (size_t bit = zeros; bit < zeros + n; bit++) {
        payload[u_start + bit / 8u] |= (uint8_t)(1u << (bit % 8u));
    }
    const int32_t got = usfp_rice_decode(samples, n, payload, length, n);
    free(samples);
    free(payload);
    return got;
}

static void a_code_above_65535_is_refused(void)
{
    EXPECT(first_code(15, 1, 128) == 128);
    EXPECT(first_code(15, 2, 128) == USFP_ERR_PAYLOAD);
    EXPECT(first_code(0, 65535, 5000) == 5000);
    EXPECT(first_code(0, 65536, 5000) == USFP_ERR_PAYLOAD);
}

static void the_largest_differences_come_back(void)
{
    enum { N = 192 };
    int16_t *samples = exactly(2u * N);
    int16_t *back = exactly(2u * N);
    uint8_t *out = exactly(2u * N);
    memset(samples, 0, 2u * N);
    for (size_t i = 1; i < 64; i += 2) {
        samples[i] = INT16_MIN;
    }
    const int32_t length = usfp_rice_encode(out, 2u * N, samples, N);
    EXPECT(length > 0 && (out[0] & 15) == 15);
    EXPECT(usfp_rice_decode(back, N, out, (size_t)length, N) == N);
    EXPECT(memcmp(back, samples, 2u * N) == 0);
    free(out);
    free(back);
    free(samples);
}

static void frames_are_coded_straight_into_their_place(uint8_t format)
{
    enum { N = 301 };
    int16_t *samples = ringing(N);
    int16_t *back = exactly(2u * N);
    uint8_t *roomy = exactly(USFP_ASCAN_FRAME_SIZE(N));
    const int32_t length = usfp_encode_ascan_as(roomy, USFP_ASCAN_FRAME_SIZE(N), &ASCAN, format, samples, N);
    EXPECT(length > 0);
    uint8_t *fitting = exactly((size_t)length);
    EXPECT(usfp_encode_ascan_as(fitting, (size_t)length, &ASCAN, format, samples, N) == length);
    EXPECT(usfp_encode_ascan_as(fitting, (size_t)length - 1, &ASCAN, format, samples, N) == USFP_ERR_CAPACITY);
    EXPECT(usfp_encode_ascan_as(fitting, USFP_OVERHEAD - 1, &ASCAN, format, samples, N) == USFP_ERR_CAPACITY);
    EXPECT(memcmp(fitting, roomy, USFP_HEADER_SIZE) == 0);
    usfp_frame frame = {0};
    frame.payload = roomy + USFP_HEADER_SIZE;
    frame.payload_len = (uint32_t)length - USFP_OVERHEAD;
    frame.n_samples = N;
    frame.type = USFP_TYPE_ASCAN;
    frame.format = format;
    EXPECT(usfp_read_samples(&frame, back, N) == N);
    EXPECT(memcmp(back, samples, 2u * N) == 0);
    EXPECT(usfp_read_samples(&frame, back, N - 1) == USFP_ERR_CAPACITY);
    EXPECT(usfp_read_samples(&frame, NULL, N) == USFP_ERR_NULL);
    frame.payload_len -= 1;
    EXPECT(usfp_read_samples(&frame, back, N) == USFP_ERR_PAYLOAD);
    free(fitting);
    free(roomy);
    free(back);
    free(samples);
}

static void other_formats_and_frames_are_refused(void)
{
    uint8_t out[64];
    const int16_t samples[2] = {0, 2048};
    int16_t back[2];
    usfp_frame frame = {0};
    EXPECT(usfp_encode_ascan_as(out, sizeof out, &ASCAN, 3, samples, 2) == USFP_ERR_FORMAT);
    EXPECT(usfp_encode_ascan_as(out, sizeof out, &ASCAN, USFP_FORMAT_PACKED12, samples, 2) == USFP_ERR_RANGE);
    EXPECT(usfp_encode_ascan_as(out, sizeof out, &ASCAN, USFP_FORMAT_DELTA_RICE, samples, 2) == USFP_ERR_LENGTH);
    frame.type = USFP_TYPE_LOG;
    EXPECT(usfp_read_samples(&frame, back, 2) == USFP_ERR_FORMAT);
    frame.type = USFP_TYPE_ASCAN;
    frame.format = 3;
    EXPECT(usfp_read_samples(&frame, back, 2) == USFP_ERR_FORMAT);
    EXPECT(usfp_read_samples(NULL, back, 2) == USFP_ERR_NULL);
}

void test_payloads(void)
{
    static const uint16_t LENGTHS[] = {0, 2, 3, 63, 64, 65, 127, 128, 129, 2048, UINT16_MAX};
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
        comes_back((uint8_t)USFP_FORMAT_PACKED12, LENGTHS[i]);
        if (LENGTHS[i] == 0 || LENGTHS[i] > 60) {
            comes_back((uint8_t)USFP_FORMAT_DELTA_RICE, LENGTHS[i]);
        }
    }
    every_sample_packs_in_place();
    what_packed12_cannot_hold_is_refused();
    rice_of_noise_is_refused();
    malformed_rice_is_refused();
    a_code_above_65535_is_refused();
    the_largest_differences_come_back();
    for (uint8_t format = 0; format <= USFP_FORMAT_DELTA_RICE; format++) {
        frames_are_coded_straight_into_their_place(format);
    }
    other_formats_and_frames_are_refused();
}
