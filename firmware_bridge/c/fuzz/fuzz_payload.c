/* Fuzzes the payload formats: decode anything, encode any samples.
 *
 * Input: a mode byte, n_samples (u16), then a payload or samples. A payload may be cut where its format says
 * that it ends, because few mutations hit the one length that is right.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#define FORMAT 3u
#define CUT 4u
#define SAMPLES 8u
#define PREFIX 3u

typedef struct {
    uint8_t format;
    uint16_t n_samples;
    int has_samples;
    uint8_t *payload;
    size_t length;
    int16_t *samples;
} attempt;

static int32_t encode(uint8_t format, uint8_t *out, size_t capacity, const int16_t *samples, uint16_t n_samples)
{
    return format == USFP_FORMAT_PACKED12 ? usfp_pack12(out, capacity, samples, n_samples)
                                          : usfp_rice_encode(out, capacity, samples, n_samples);
}

static int32_t decode(uint8_t format, int16_t *samples, size_t capacity, const uint8_t *payload, size_t length,
                      uint16_t n_samples)
{
    return format == USFP_FORMAT_PACKED12 ? usfp_unpack12(samples, capacity, payload, length, n_samples)
                                          : usfp_rice_decode(samples, capacity, payload, length, n_samples);
}

static size_t k_plane_length(uint16_t n_samples)
{
    return ((n_samples + 63u) / 64u + 1u) / 2u;
}

/* Where a delta-Rice payload ends: at the byte of its last code. Its padding is cleared. */
static size_t rice_end(uint8_t *payload, size_t length, uint16_t n_samples)
{
    size_t r_bits = 0;
    size_t ones = 0;
    if (length < k_plane_length(n_samples)) {
        return length;
    }
    for (size_t i = 0; i < n_samples; i++) {
        r_bits += ((unsigned)payload[i / 128] >> (i / 64 % 2 * 4)) & 15u;
    }
    const size_t u_start = k_plane_length(n_samples) + (r_bits + 7) / 8;
    if (u_start <= length && r_bits % 8 != 0) {
        payload[u_start - 1] &= (uint8_t)((1u << (r_bits % 8)) - 1u);
    }
    for (size_t at = 8 * u_start; at < 8 * length; at++) {
        ones += ((unsigned)payload[at / 8] >> (at % 8)) & 1u;
        if (ones == n_samples) {
            payload[at / 8] &= (uint8_t)((2u << (at % 8)) - 1u);
            return at / 8 + 1;
        }
    }
    return length;
}

static int prepare(attempt *made, const uint8_t *input, size_t size)
{
    if (size < PREFIX) {
        return 0;
    }
    const size_t given = size - PREFIX;
    made->format = (input[0] & FORMAT) % 2u == 0 ? (uint8_t)USFP_FORMAT_DELTA_RICE : (uint8_t)USFP_FORMAT_PACKED12;
    made->n_samples = (uint16_t)(input[1] | input[2] << 8);
    made->has_samples = (input[0] & SAMPLES) != 0;
    made->length = given;
    if (made->has_samples) {
        made->n_samples = (uint16_t)(given / 2 < 65535 ? given / 2 : 65535);
    }
    /* A copy of its own size below, because the payload may be cut. */
    uint8_t *whole = exactly(given);
    made->samples = exactly(2u * (size_t)made->n_samples);
    if (given > 0) {
        memcpy(whole, input + PREFIX, given);
    }
    for (size_t i = 0; made->has_samples && i < made->n_samples; i++) {
        const int value = whole[2 * i] | whole[2 * i + 1] << 8;
        made->samples[i] = (int16_t)(value < 0x8000 ? value : value - 0x10000);
        /* Without this, few A-scans are within 12 bits or worth a Rice code. */
        made->samples[i] = (int16_t)(input[0] & CUT ? made->samples[i] / 16 : made->samples[i]);
    }
    if (!made->has_samples && (input[0] & CUT)) {
        const size_t end = made->format == USFP_FORMAT_PACKED12 ? USFP_PACKED12_SIZE(made->n_samples)
                                                                : rice_end(whole, given, made->n_samples);
        made->length = end < given ? end : given;
    }
    made->payload = exactly(made->length);
    if (made->length > 0) {
        memcpy(made->payload, whole, made->length);
    }
    free(whole);
    return 1;
}

static void discard(attempt *done)
{
    free(done->payload);
    free(done->samples);
}

/* What has been encoded decodes to the same samples, and no byte of it is idle. */
static void check_round_trip(uint8_t format, const uint8_t *payload, size_t length, const int16_t *samples,
                             uint16_t n_samples)
{
    int16_t *back = exactly(2u * (size_t)n_samples);
    HOLDS(decode(format, back, n_samples, payload, length, n_samples) == n_samples);
    HOLDS(memcmp(back, samples, 2u * (size_t)n_samples) == 0);
    if (n_samples > 0) {
        HOLDS(decode(format, back, n_samples - 1u, payload, length, n_samples) == USFP_ERR_CAPACITY);
        HOLDS(decode(format, back, n_samples, payload, length - 1, n_samples) == USFP_ERR_PAYLOAD);
    }
    free(back);
}

static void try_payload(const attempt *given)
{
    const uint16_t n = given->n_samples;
    const size_t room = 2u * (size_t)n;
    const int32_t got = decode(given->format, given->samples, n, given->payload, given->length, n);
    HOLDS(got == n || got == USFP_ERR_PAYLOAD);
    if (got < 0) {
        return;
    }
    uint8_t *again = exactly(room);
    const int32_t length = encode(given->format, again, room, given->samples, n);
    if (length >= 0) {
        check_round_trip(given->format, again, (size_t)length, given->samples, n);
    }
    if (given->format == USFP_FORMAT_PACKED12) {
        HOLDS(length == (int32_t)given->length && memcmp(again, given->payload, given->length) == 0);
    } else if (length >= 0 && memcmp(again, given->payload, k_plane_length(n)) == 0) {
        /* Once its parameters are chosen, samples have one payload only. */
        HOLDS(length == (int32_t)given->length && memcmp(again, given->payload, given->length) == 0);
    } else {
        HOLDS(length >= 0 || length == USFP_ERR_LENGTH);
    }
    free(again);
}

static void check_in_place(const attempt *given, const uint8_t *expected, size_t length)
{
    int16_t *packed = exactly(2u * (size_t)given->n_samples);
    memcpy(packed, given->samples, 2u * (size_t)given->n_samples);
    HOLDS(usfp_pack12((uint8_t *)packed, length, packed, given->n_samples) == (int32_t)length);
    HOLDS(memcmp(packed, expected, length) == 0);
    free(packed);
}

static void try_samples(const attempt *given)
{
    const uint16_t n = given->n_samples;
    uint8_t *out = exactly(2u * (size_t)n);
    const int32_t length = encode(given->format, out, 2u * (size_t)n, given->samples, n);
    if (length < 0) {
        HOLDS(length == (given->format == USFP_FORMAT_PACKED12 ? USFP_ERR_RANGE : USFP_ERR_LENGTH));
    } else {
        uint8_t *fitting = exactly((size_t)length);
        HOLDS(encode(given->format, fitting, (size_t)length, given->samples, n) == length);
        HOLDS(memcmp(fitting, out, (size_t)length) == 0);
        check_round_trip(given->format, fitting, (size_t)length, given->samples, n);
        if (length > 0) {
            HOLDS(encode(given->format, fitting, (size_t)length - 1, given->samples, n) == USFP_ERR_CAPACITY);
        }
        if (length > 0 && given->format == USFP_FORMAT_PACKED12) {
            check_in_place(given, out, (size_t)length);
        }
        free(fitting);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    attempt given;
    if (!prepare(&given, input, size)) {
        return 0;
    }
    if (given.has_samples) {
        try_samples(&given);
    } else {
        try_payload(&given);
    }
    discard(&given);
    return 0;
}

static void print_samples(const attempt *given)
{
    uint8_t *bytes = exactly(2u * (size_t)given->n_samples);
    for (size_t i = 0; i < given->n_samples; i++) {
        bytes[2 * i] = (uint8_t)((uint16_t)given->samples[i] & 255u);
        bytes[2 * i + 1] = (uint8_t)((uint16_t)given->samples[i] >> 8);
    }
    print_hex(bytes, 2u * (size_t)given->n_samples);
    free(bytes);
}

void describe(const uint8_t *input, size_t size)
{
    attempt given;
    if (!prepare(&given, input, size)) {
        return;
    }
    const uint16_t n = given.n_samples;
    if (given.has_samples) {
        uint8_t *out = exactly(2u * (size_t)n);
        const int32_t length = encode(given.format, out, 2u * (size_t)n, given.samples, n);
        printf("encode %u %u %ld", given.format, n, (long)length);
        print_samples(&given);
        print_hex(out, length > 0 ? (size_t)length : 0u);
        free(out);
    } else {
        const int32_t got = decode(given.format, given.samples, n, given.payload, given.length, n);
        printf("decode %u %u %ld", given.format, n, (long)got);
        print_hex(given.payload, given.length);
        if (got >= 0) {
            print_samples(&given);
        } else {
            print_hex(NULL, 0);
        }
    }
    putchar('\n');
    discard(&given);
}
