/* Drives every entry point of the library under the sanitizers; prints the first broken expectation.
 *
 * Buffers come from the heap with their exact sizes, so that one byte too far is an error and not luck.
 * SPDX-License-Identifier: Apache-2.0 */
#include "expect.h"

static const usfp_ascan EXTREME = {UINT64_MAX, UINT32_MAX, UINT32_MAX, INT32_MIN, INT16_MIN, UINT16_MAX, UINT8_MAX};

static void ascan_fills_exactly_its_buffer(uint16_t n_samples)
{
    const size_t size = USFP_ASCAN_FRAME_SIZE(n_samples);
    int16_t *samples = exactly(2u * (size_t)n_samples);
    uint8_t *out = exactly(size);
    for (size_t i = 0; i < n_samples; i++) {
        samples[i] = (i & 1u) ? INT16_MIN : INT16_MAX;
    }
    EXPECT(usfp_encode_ascan(out, size - 1, &EXTREME, samples, n_samples) == USFP_ERR_CAPACITY);
    EXPECT(out[0] == 0xEE);
    EXPECT(usfp_encode_ascan(out, size, &EXTREME, samples, n_samples) == (int32_t)size);
    EXPECT(memcmp(out, "\x55\x53\xA5\x5A\x01\x01\x00\xFF", 8) == 0);
    free(samples);
    free(out);
}

static int is_big_endian(void)
{
    const uint16_t one = 1;
    return *(const uint8_t *)&one != 1;
}

/* The pieces of a gathered frame, one behind another, are the frame that a copy gives. */
static void gathered_is_copied(uint8_t format, uint16_t n_samples)
{
    const size_t size = USFP_ASCAN_FRAME_SIZE(n_samples);
    int16_t *samples = exactly(2u * (size_t)n_samples);
    uint8_t *whole = exactly(size);
    usfp_gather *gather = exactly(sizeof *gather);
    for (size_t i = 0; i < n_samples; i++) {
        samples[i] = (int16_t)(i % 50u);
    }
    const int32_t length = usfp_encode_ascan_as(whole, size, &EXTREME, format, samples, n_samples);
    EXPECT(length > 0);
    const uint8_t *payload = whole + USFP_HEADER_SIZE;
    const size_t payload_len = (size_t)length - USFP_OVERHEAD;
    if (format == USFP_FORMAT_INT16 && is_big_endian()) {
        EXPECT(usfp_gather_ascan(gather, &EXTREME, samples, n_samples) == USFP_ERR_BYTE_ORDER);
        EXPECT(usfp_gather_payload(gather, &EXTREME, format, payload, payload_len, n_samples) == length);
    } else if (format == USFP_FORMAT_INT16) {
        EXPECT(usfp_gather_ascan(gather, &EXTREME, samples, n_samples) == length);
        EXPECT(gather->piece[1].bytes == (const uint8_t *)samples);
    } else {
        EXPECT(usfp_gather_payload(gather, &EXTREME, format, payload, payload_len, n_samples) == length);
    }
    size_t at = 0;
    for (size_t i = 0; i < 3; i++) {
        EXPECT(memcmp(gather->piece[i].bytes, whole + at, gather->piece[i].length) == 0);
        at += gather->piece[i].length;
    }
    EXPECT(at == (size_t)length);
    free(gather);
    free(whole);
    free(samples);
}

static void a_payload_that_cannot_be_is_not_gathered(void)
{
    const uint8_t payload[20] = {0};
    const int16_t samples[1] = {0};
    usfp_gather out;
    const int32_t other_order = is_big_endian() ? USFP_ERR_BYTE_ORDER : 0;
    EXPECT(usfp_gather_ascan(NULL, &EXTREME, samples, 1) == (other_order ? other_order : USFP_ERR_NULL));
    EXPECT(usfp_gather_ascan(&out, NULL, samples, 1) == (other_order ? other_order : USFP_ERR_NULL));
    EXPECT(usfp_gather_ascan(&out, &EXTREME, NULL, 1) == (other_order ? other_order : USFP_ERR_NULL));
    EXPECT(usfp_gather_ascan(&out, &EXTREME, NULL, 0) == (other_order ? other_order : (int32_t)USFP_OVERHEAD));
    EXPECT(usfp_gather_payload(&out, &EXTREME, 3, payload, 2, 1) == USFP_ERR_FORMAT);
    EXPECT(usfp_gather_payload(&out, &EXTREME, USFP_FORMAT_INT16, payload, 19, 10) == USFP_ERR_LENGTH);
    EXPECT(usfp_gather_payload(&out, &EXTREME, USFP_FORMAT_PACKED12, payload, 14, 10) == USFP_ERR_LENGTH);
    EXPECT(usfp_gather_payload(&out, &EXTREME, USFP_FORMAT_PACKED12, payload, 15, 10) == 59);
    EXPECT(usfp_gather_payload(&out, &EXTREME, USFP_FORMAT_DELTA_RICE, payload, 20, 10) == 64);
    EXPECT(usfp_gather_payload(&out, &EXTREME, USFP_FORMAT_DELTA_RICE, payload, 20, 9) == USFP_ERR_LENGTH);
}

static void null_pointers_are_refused(void)
{
    uint8_t out[USFP_INFO_FRAME_SIZE];
    const usfp_ascan ascan = {0};
    const uint8_t rice = (uint8_t)USFP_FORMAT_DELTA_RICE;
    EXPECT(usfp_encode_ascan(NULL, 0, &ascan, NULL, 0) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan(out, sizeof out, NULL, NULL, 0) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan(out, sizeof out, &ascan, NULL, 1) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan(out, sizeof out, &ascan, NULL, 0) == (int32_t)USFP_OVERHEAD);
    EXPECT(usfp_encode_ascan_as(NULL, 0, &ascan, rice, NULL, 0) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan_as(out, sizeof out, NULL, rice, NULL, 0) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan_as(out, sizeof out, &ascan, rice, NULL, 1) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan_as(out, sizeof out, &ascan, rice, NULL, 0) == (int32_t)USFP_OVERHEAD);
    EXPECT(usfp_encode_info(out, sizeof out, 0, 0, NULL) == USFP_ERR_NULL);
    EXPECT(usfp_encode_log(out, sizeof out, 0, 0, NULL, 1) == USFP_ERR_NULL);
    EXPECT(usfp_encode_log(out, sizeof out, 0, 0, NULL, 0) == (int32_t)USFP_OVERHEAD);
    EXPECT(usfp_encode_command(out, sizeof out, NULL) == USFP_ERR_NULL);
    EXPECT(usfp_encode_command(NULL, 0, NULL) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ack(out, sizeof out, 0, NULL) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ack(NULL, 0, 0, NULL) == USFP_ERR_NULL);
}

static void small_buffers_are_refused(void)
{
    const usfp_command command = {1, 2, 3, 4, 5};
    const usfp_ack ack = {1, 2, 3, 4};
    uint8_t *out = exactly(USFP_INFO_FRAME_SIZE);
    usfp_info info = {0};
    memset(info.name, 'n', sizeof info.name);
    EXPECT(usfp_encode_info(out, USFP_INFO_FRAME_SIZE - 1, 0, 0, &info) == USFP_ERR_CAPACITY);
    EXPECT(usfp_encode_ack(out, USFP_ACK_FRAME_SIZE - 1, 0, &ack) == USFP_ERR_CAPACITY);
    EXPECT(usfp_encode_command(out, USFP_COMMAND_FRAME_SIZE - 1, &command) == USFP_ERR_CAPACITY);
    EXPECT(usfp_encode_log(out, USFP_LOG_FRAME_SIZE(3) - 1, 0, 0, "abc", 3) == USFP_ERR_CAPACITY);
    EXPECT(usfp_encode_log(out, USFP_INFO_FRAME_SIZE, 0, 0, "abc", USFP_MAX_PAYLOAD + 1) == USFP_ERR_LENGTH);
    EXPECT(usfp_encode_log(out, USFP_INFO_FRAME_SIZE, 0, 0, "abc", SIZE_MAX) == USFP_ERR_LENGTH);
    EXPECT(out[0] == 0xEE);
    EXPECT(usfp_encode_info(out, USFP_INFO_FRAME_SIZE, 0, 0, &info) == (int32_t)USFP_INFO_FRAME_SIZE);
    EXPECT(out[USFP_HEADER_SIZE + USFP_INFO_SIZE - 1] == 'n');
    memcpy(info.name, "ab\0left over", 13);
    EXPECT(usfp_encode_info(out, USFP_INFO_FRAME_SIZE, 0, 0, &info) == (int32_t)USFP_INFO_FRAME_SIZE);
    EXPECT(memcmp(out + USFP_HEADER_SIZE + 24, "ab\0\0\0\0\0\0\0\0\0\0\0", 13) == 0);
    free(out);
}

/* Frames come from another encoder on standard input, so that this program cannot agree with itself only. */
static void answer_commands_on_standard_input(void)
{
    usfp_decoder *decoder = exactly(sizeof *decoder);
    uint8_t *buffer = exactly(USFP_COMMAND_BUFFER);
    usfp_frame frame;
    usfp_command command;
    int byte;
    EXPECT(usfp_decoder_init(decoder, buffer, USFP_COMMAND_BUFFER) == 0);
    while ((byte = getchar()) != EOF) {
        const uint8_t received = (uint8_t)byte;
        EXPECT(usfp_decoder_put(decoder, &received, 1) == 1);
        while (usfp_decoder_next(decoder, &frame) == 1) {
            if (usfp_read_command(&frame, &command) == 0) {
                printf("%u %u %lu %lu %lu\n", (unsigned)command.opcode, (unsigned)command.payload_format,
                       (unsigned long)command.seq, (unsigned long)command.prf_mhz,
                       (unsigned long)command.count);
            }
        }
    }
    free(buffer);
    free(decoder);
}

int main(void)
{
    static const uint16_t LENGTHS[] = {0, 1, 2048, UINT16_MAX};
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
        ascan_fills_exactly_its_buffer(LENGTHS[i]);
        gathered_is_copied((uint8_t)USFP_FORMAT_INT16, LENGTHS[i]);
        gathered_is_copied((uint8_t)USFP_FORMAT_PACKED12, LENGTHS[i]);
    }
    gathered_is_copied((uint8_t)USFP_FORMAT_DELTA_RICE, 0);
    gathered_is_copied((uint8_t)USFP_FORMAT_DELTA_RICE, 2048);
    gathered_is_copied((uint8_t)USFP_FORMAT_DELTA_RICE, UINT16_MAX);
    a_payload_that_cannot_be_is_not_gathered();
    null_pointers_are_refused();
    small_buffers_are_refused();
    test_payloads();
    test_decoder();
    answer_commands_on_standard_input();
    return 0;
}
