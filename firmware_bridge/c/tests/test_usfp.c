/* Drives every entry point of the library under the sanitizers; prints the first broken expectation.
 *
 * Buffers come from the heap with their exact sizes, so that one byte too far is an error and not luck.
 * SPDX-License-Identifier: Apache-2.0 */
#include "usfp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                         \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

static uint8_t *exactly(size_t size)
{
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    EXPECT(bytes != NULL);
    memset(bytes, 0xEE, size);
    return bytes;
}

static void ascan_fills_exactly_its_buffer(uint16_t n_samples)
{
    const usfp_ascan ascan = {UINT64_MAX, UINT32_MAX, UINT32_MAX, INT32_MIN, INT16_MIN, UINT16_MAX, UINT8_MAX};
    const size_t size = USFP_ASCAN_FRAME_SIZE(n_samples);
    int16_t *samples = (int16_t *)exactly(2u * (size_t)n_samples);
    uint8_t *out = exactly(size);
    for (size_t i = 0; i < n_samples; i++) {
        samples[i] = (i & 1u) ? INT16_MIN : INT16_MAX;
    }
    EXPECT(usfp_encode_ascan(out, size - 1, &ascan, samples, n_samples) == USFP_ERR_CAPACITY);
    EXPECT(out[0] == 0xEE);
    EXPECT(usfp_encode_ascan(out, size, &ascan, samples, n_samples) == (int32_t)size);
    EXPECT(memcmp(out, "\x55\x53\xA5\x5A\x01\x01\x00\xFF", 8) == 0);
    free(samples);
    free(out);
}

static void null_pointers_are_refused(void)
{
    uint8_t out[USFP_INFO_FRAME_SIZE];
    const usfp_ascan ascan = {0};
    usfp_parser parser;
    usfp_command command;
    usfp_parser_init(NULL);
    usfp_parser_init(&parser);
    EXPECT(usfp_encode_ascan(NULL, 0, &ascan, NULL, 0) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan(out, sizeof out, NULL, NULL, 0) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan(out, sizeof out, &ascan, NULL, 1) == USFP_ERR_NULL);
    EXPECT(usfp_encode_ascan(out, sizeof out, &ascan, NULL, 0) == (int32_t)USFP_OVERHEAD);
    EXPECT(usfp_encode_info(out, sizeof out, 0, 0, NULL) == USFP_ERR_NULL);
    EXPECT(usfp_encode_log(out, sizeof out, 0, 0, NULL, 1) == USFP_ERR_NULL);
    EXPECT(usfp_encode_log(out, sizeof out, 0, 0, NULL, 0) == (int32_t)USFP_OVERHEAD);
    EXPECT(usfp_encode_ack(NULL, 0, 0, 0, 0, 0, 0) == USFP_ERR_NULL);
    EXPECT(usfp_parser_push(NULL, 0, &command) == USFP_ERR_NULL);
    EXPECT(usfp_parser_push(&parser, 0, NULL) == USFP_ERR_NULL);
}

static void small_buffers_are_refused(void)
{
    uint8_t *out = exactly(USFP_INFO_FRAME_SIZE);
    usfp_info info = {0};
    memset(info.name, 'n', sizeof info.name);
    EXPECT(usfp_encode_info(out, USFP_INFO_FRAME_SIZE - 1, 0, 0, &info) == USFP_ERR_CAPACITY);
    EXPECT(usfp_encode_info(out, USFP_INFO_FRAME_SIZE, 0, 0, &info) == (int32_t)USFP_INFO_FRAME_SIZE);
    EXPECT(out[USFP_HEADER_SIZE + USFP_INFO_SIZE - 1] == 'n');
    EXPECT(usfp_encode_ack(out, USFP_ACK_FRAME_SIZE - 1, 0, 0, 1, 0, 0) == USFP_ERR_CAPACITY);
    EXPECT(usfp_encode_log(out, USFP_LOG_FRAME_SIZE(3) - 1, 0, 0, "abc", 3) == USFP_ERR_CAPACITY);
    EXPECT(usfp_encode_log(out, USFP_INFO_FRAME_SIZE, 0, 0, "abc", USFP_MAX_PAYLOAD + 1) == USFP_ERR_LENGTH);
    EXPECT(usfp_encode_log(out, USFP_INFO_FRAME_SIZE, 0, 0, "abc", SIZE_MAX) == USFP_ERR_LENGTH);
    memcpy(info.name, "ab\0left over", 13);
    EXPECT(usfp_encode_info(out, USFP_INFO_FRAME_SIZE, 0, 0, &info) == (int32_t)USFP_INFO_FRAME_SIZE);
    EXPECT(memcmp(out + USFP_HEADER_SIZE + 24, "ab\0\0\0\0\0\0\0\0\0\0\0", 13) == 0);
    free(out);
}

/* Commands come from the host's encoder on standard input, so that this file cannot agree with itself only. */
static void parse_standard_input(void)
{
    usfp_parser *parser = (usfp_parser *)exactly(sizeof(usfp_parser));
    usfp_command command;
    int byte;
    usfp_parser_init(parser);
    while ((byte = getchar()) != EOF) {
        if (usfp_parser_push(parser, (uint8_t)byte, &command) == 1) {
            printf("%u %lu %lu %lu\n", (unsigned)command.opcode, (unsigned long)command.seq,
                   (unsigned long)command.prf_mhz, (unsigned long)command.count);
        }
    }
    free(parser);
}

int main(void)
{
    ascan_fills_exactly_its_buffer(0);
    ascan_fills_exactly_its_buffer(1);
    ascan_fills_exactly_its_buffer(2048);
    ascan_fills_exactly_its_buffer(UINT16_MAX);
    null_pointers_are_refused();
    small_buffers_are_refused();
    parse_standard_input();
    return 0;
}
