/* Fuzzes the decoder: any stream, in any division, in a buffer of any capacity.
 *
 * Input: a mode byte, the buffer's capacity (u16, above the least), a byte that divides the stream, the stream.
 * By its mode the stream is mended before it is fed, because no mutation guesses a CRC.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#define MEND_LENGTHS 1u
#define MEND_HEADER_CRC 2u
#define MEND_CRC 4u
#define PREFIX 4u

typedef struct {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
    uint8_t division;
} stream;

typedef struct {
    usfp_stats stats;
    size_t frame_bytes;
    uint32_t digest;
} outcome;

static uint32_t get(const uint8_t *bytes, size_t n)
{
    uint32_t value = 0;
    while (n-- > 0) {
        value = (value << 8) | bytes[n];
    }
    return value;
}

static void put(uint8_t *bytes, uint32_t value, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
}

/* Bit by bit and not the library's own, so that a fault of those tables is not mended away. */
static uint32_t slow_crc32(const uint8_t *bytes, size_t length)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < 8 * length; i++) {
        const uint32_t bit = ((uint32_t)bytes[i / 8] >> (i % 8)) & 1u;
        crc = (crc >> 1) ^ (((crc ^ bit) & 1u) ? 0xEDB88320u : 0u);
    }
    return ~crc;
}

static uint32_t slow_crc16(const uint8_t *bytes, size_t length)
{
    uint32_t crc = 0xFFFFu;
    for (size_t i = 0; i < 8 * length; i++) {
        const uint32_t bit = ((uint32_t)bytes[i / 8] >> (7 - i % 8)) & 1u;
        crc = ((crc << 1) ^ (((crc >> 15) ^ bit) ? 0x1021u : 0u)) & 0xFFFFu;
    }
    return crc;
}

/* Short frames of known types, whose two statements of length agree. */
static void mend_lengths(uint8_t *header)
{
    const uint32_t n_samples = header[10] & 63u;
    uint32_t length = header[12] & 127u;
    header[4] = 1;
    header[5] &= 7u;
    header[6] &= 3u;
    if (header[5] == USFP_TYPE_ASCAN && header[6] != USFP_FORMAT_DELTA_RICE) {
        length = header[6] == USFP_FORMAT_INT16 ? 2 * n_samples : (uint32_t)USFP_PACKED12_SIZE(n_samples);
    }
    put(header + 10, n_samples, 2);
    put(header + 12, length, 4);
}

static void mend(uint8_t *bytes, size_t length, uint8_t mode)
{
    for (size_t at = 0; at + USFP_HEADER_SIZE <= length; at++) {
        uint8_t *header = bytes + at;
        if (memcmp(header, "\x55\x53\xA5\x5A", 4) != 0) {
            continue;
        }
        if (mode & MEND_LENGTHS) {
            mend_lengths(header);
        }
        if (mode & MEND_HEADER_CRC) {
            put(header + 38, slow_crc16(header, 38), 2);
        }
        const uint32_t payload_len = get(header + 12, 4);
        /* As a difference: the sum of a length of 2^32 - 1 and anything wraps where size_t has 32 bits. */
        if ((mode & MEND_CRC) && length - at >= USFP_OVERHEAD && payload_len <= length - at - USFP_OVERHEAD) {
            const size_t covered = USFP_HEADER_SIZE + (size_t)payload_len;
            put(header + covered, slow_crc32(header, covered), 4);
        }
    }
}

static int prepare(stream *made, const uint8_t *input, size_t size)
{
    if (size < PREFIX) {
        return 0;
    }
    made->length = size - PREFIX;
    made->bytes = exactly(made->length);
    made->capacity = USFP_OVERHEAD + get(input + 1, 2);
    made->division = input[3];
    if (made->length > 0) {
        memcpy(made->bytes, input + PREFIX, made->length);
    }
    mend(made->bytes, made->length, input[0]);
    return 1;
}

/* An A-scan's frame is what its fields and payload encode to. */
static void check_ascan(const usfp_frame *frame)
{
    const usfp_ascan ascan = {frame->t_us,     frame->seq,   frame->fs_hz,  frame->t0_ns,
                              frame->gain_cdb, frame->flags, frame->channel};
    const uint8_t *bytes = frame->payload - USFP_HEADER_SIZE;
    const size_t size = USFP_FRAME_SIZE(frame->payload_len);
    int16_t *samples = exactly(2u * (size_t)frame->n_samples);
    usfp_gather gather;
    HOLDS(usfp_gather_payload(&gather, &ascan, frame->format, frame->payload, frame->payload_len,
                              frame->n_samples)
          == (int32_t)size);
    HOLDS(memcmp(gather.header, bytes, USFP_HEADER_SIZE) == 0);
    HOLDS(gather.piece[1].bytes == frame->payload && gather.piece[1].length == frame->payload_len);
    HOLDS(memcmp(gather.trailer, bytes + size - USFP_TRAILER_SIZE, USFP_TRAILER_SIZE) == 0);

    const int32_t got = usfp_read_samples(frame, samples, frame->n_samples);
    HOLDS(got == frame->n_samples || (got == USFP_ERR_PAYLOAD && frame->format != USFP_FORMAT_INT16));
    if (frame->n_samples > 0) {
        HOLDS(usfp_read_samples(frame, samples, frame->n_samples - 1u) == USFP_ERR_CAPACITY);
    }
    if (got >= 0 && frame->format != USFP_FORMAT_DELTA_RICE) {
        uint8_t *again = exactly(size);
        HOLDS(usfp_encode_ascan_as(again, size, &ascan, frame->format, samples, frame->n_samples)
              == (int32_t)size);
        HOLDS(memcmp(again, bytes, size) == 0);
        free(again);
    }
    free(samples);
}

/* Whether the header has nothing but what its encoder writes into one of this type. */
static int is_plain(const usfp_frame *frame, const uint8_t *bytes)
{
    return bytes[6] == 0 && bytes[7] == 0 && frame->flags == 0 && frame->n_samples == 0 && frame->fs_hz == 0
           && frame->t0_ns == 0 && frame->gain_cdb == 0;
}

static void check_message(const usfp_frame *frame)
{
    const uint8_t *bytes = frame->payload - USFP_HEADER_SIZE;
    const size_t size = USFP_FRAME_SIZE(frame->payload_len);
    const uint8_t *payload = frame->payload;
    uint8_t *again = exactly(size);
    int32_t made = -1;
    usfp_command command;
    usfp_info info;
    usfp_ack ack;
    const int has_command = usfp_read_command(frame, &command) == 0;
    const int has_info = usfp_read_info(frame, &info) == 0;
    const int has_ack = usfp_read_ack(frame, &ack) == 0;
    HOLDS(has_command == (frame->type == USFP_TYPE_COMMAND && frame->payload_len >= USFP_COMMAND_SIZE));
    HOLDS(has_info == (frame->type == USFP_TYPE_INFO && frame->payload_len >= USFP_INFO_SIZE));
    HOLDS(has_ack == (frame->type == USFP_TYPE_ACK && frame->payload_len >= USFP_ACK_SIZE));
    if (frame->type == USFP_TYPE_LOG) {
        made = usfp_encode_log(again, size, frame->t_us, frame->seq, (const char *)payload, frame->payload_len);
    } else if (has_command && frame->t_us == 0 && frame->payload_len == USFP_COMMAND_SIZE
               && get(payload + 2, 2) == 0) {
        made = usfp_encode_command(again, size, &command);
    } else if (has_ack && frame->payload_len == USFP_ACK_SIZE && get(payload + 2, 2) == 0) {
        made = usfp_encode_ack(again, size, frame->t_us, &ack);
    } else if (has_info && frame->payload_len == USFP_INFO_SIZE
               && memcmp(info.name, payload + 24, USFP_NAME_SIZE) == 0) {
        made = usfp_encode_info(again, size, frame->t_us, frame->seq, &info);
    }
    if (made >= 0 && is_plain(frame, bytes)) {
        HOLDS(made == (int32_t)size && memcmp(again, bytes, size) == 0);
    }
    free(again);
}

static void take(const usfp_frame *frame, outcome *result)
{
    const size_t size = USFP_FRAME_SIZE(frame->payload_len);
    result->frame_bytes += size;
    result->digest = result->digest * 31u + slow_crc32(frame->payload - USFP_HEADER_SIZE, size);
    if (frame->type == USFP_TYPE_ASCAN) {
        check_ascan(frame);
    } else {
        check_message(frame);
    }
}

static void balance(const usfp_decoder *decoder, const outcome *result, size_t put_so_far)
{
    HOLDS(put_so_far == result->frame_bytes + decoder->stats.skipped_bytes + usfp_decoder_pending(decoder));
}

static outcome decode(const stream *from, uint32_t division)
{
    uint8_t *buffer = exactly(from->capacity);
    outcome result = {0};
    usfp_decoder decoder;
    usfp_frame frame;
    HOLDS(usfp_decoder_init(&decoder, buffer, from->capacity) == 0);
    for (size_t at = 0; at < from->length;) {
        division = division * 1103515245u + 12345u;
        const size_t asked = division == 0 ? from->length - at : (division >> 16) % 97u;
        const size_t length = asked < from->length - at ? asked : from->length - at;
        const size_t taken = usfp_decoder_put(&decoder, from->bytes + at, length);
        HOLDS(taken <= length && (taken > 0 || length == 0));
        at += taken;
        while (usfp_decoder_next(&decoder, &frame) == 1) {
            take(&frame, &result);
        }
        balance(&decoder, &result, at);
    }
    while (usfp_decoder_finish(&decoder, &frame) == 1) {
        take(&frame, &result);
        balance(&decoder, &result, from->length);
    }
    balance(&decoder, &result, from->length);
    HOLDS(usfp_decoder_pending(&decoder) == 0);
    HOLDS(usfp_decoder_next(&decoder, &frame) == 0);
    result.stats = decoder.stats;
    free(buffer);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    stream from;
    if (!prepare(&from, input, size)) {
        return 0;
    }
    const outcome one = decode(&from, from.division);
    const outcome other = decode(&from, 0x9E3779B9u + from.division);
    HOLDS(one.digest == other.digest && memcmp(&one.stats, &other.stats, sizeof one.stats) == 0);
    free(from.bytes);
    return 0;
}

static void describe_frame(const usfp_frame *frame)
{
    printf("frame %u %u %u %u %u %llu %lu %lu %ld %d", frame->type, frame->format, frame->channel, frame->flags,
           frame->n_samples, (unsigned long long)frame->t_us, (unsigned long)frame->seq,
           (unsigned long)frame->fs_hz, (long)frame->t0_ns, frame->gain_cdb);
    print_hex(frame->payload, frame->payload_len);
    putchar('\n');
}

void describe(const uint8_t *input, size_t size)
{
    stream from;
    usfp_decoder decoder;
    usfp_frame frame;
    if (!prepare(&from, input, size)) {
        return;
    }
    uint8_t *buffer = exactly(from.capacity);
    HOLDS(usfp_decoder_init(&decoder, buffer, from.capacity) == 0);
    printf("stream %lu", (unsigned long)(from.capacity - USFP_OVERHEAD));
    print_hex(from.bytes, from.length);
    putchar('\n');
    for (size_t at = 0; at < from.length;) {
        at += usfp_decoder_put(&decoder, from.bytes + at, from.length - at);
        while (usfp_decoder_next(&decoder, &frame) == 1) {
            describe_frame(&frame);
        }
    }
    while (usfp_decoder_finish(&decoder, &frame) == 1) {
        describe_frame(&frame);
    }
    const usfp_stats *stats = &decoder.stats;
    printf("stats %lu %lu %lu %lu %lu %lu %lu\n", (unsigned long)stats->frames,
           (unsigned long)stats->crc_errors, (unsigned long)stats->header_errors,
           (unsigned long)stats->unsupported, (unsigned long)stats->resyncs, (unsigned long)stats->truncated,
           (unsigned long)stats->skipped_bytes);
    free(buffer);
    free(from.bytes);
}
