/* The decoder against streams that are cut, damaged and full of noise. SPDX-License-Identifier: Apache-2.0 */
#include "expect.h"

/* Samples within +-100, so that no payload has a sync word by itself. */
enum { N_FRAMES = 6, N_SAMPLES = 20, SIZE = 44 + 2 * N_SAMPLES, LENGTH = N_FRAMES * SIZE };

typedef struct {
    usfp_decoder decoder;
    uint8_t *buffer;
    size_t put;
    size_t frame_bytes;
    unsigned seen;
    size_t count;
} receiver;

static void make_stream(uint8_t *out)
{
    int16_t samples[N_SAMPLES];
    for (uint32_t seq = 0; seq < N_FRAMES; seq++) {
        usfp_ascan ascan = {0};
        ascan.seq = seq;
        for (size_t i = 0; i < N_SAMPLES; i++) {
            samples[i] = (int16_t)((int)(seq * 31u + i * 7u) % 200 - 100);
        }
        EXPECT(usfp_encode_ascan(out + seq * SIZE, SIZE, &ascan, samples, N_SAMPLES) == SIZE);
    }
}

static void begin(receiver *made, size_t capacity)
{
    memset(made, 0, sizeof *made);
    made->buffer = exactly(capacity);
    EXPECT(usfp_decoder_init(&made->decoder, made->buffer, capacity) == 0);
}

static void balance(const receiver *to)
{
    EXPECT(to->put
           == to->frame_bytes + to->decoder.stats.skipped_bytes + usfp_decoder_pending(&to->decoder));
}

static void take(receiver *to, const usfp_frame *frame)
{
    to->frame_bytes += USFP_FRAME_SIZE(frame->payload_len);
    to->count++;
    to->seen |= 1u << (frame->seq % 32u);
}

/* Feed in pieces of one length, from exact memory. */
static void feed(receiver *to, const uint8_t *bytes, size_t length, size_t piece)
{
    usfp_frame frame;
    uint8_t *copy = exactly(length);
    memcpy(copy, bytes, length);
    for (size_t at = 0; at < length;) {
        const size_t asked = piece < length - at ? piece : length - at;
        const size_t taken = usfp_decoder_put(&to->decoder, copy + at, asked);
        EXPECT(taken > 0 && taken <= asked);
        at += taken;
        to->put += taken;
        while (usfp_decoder_next(&to->decoder, &frame) == 1) {
            take(to, &frame);
        }
        balance(to);
    }
    free(copy);
}

static void finish(receiver *to)
{
    usfp_frame frame;
    while (usfp_decoder_finish(&to->decoder, &frame) == 1) {
        take(to, &frame);
    }
    EXPECT(usfp_decoder_pending(&to->decoder) == 0);
    balance(to);
}

static usfp_stats end(receiver *to)
{
    finish(to);
    free(to->buffer);
    return to->decoder.stats;
}

static void every_division_gives_every_frame(const uint8_t *stream)
{
    static const size_t CAPACITIES[] = {SIZE, SIZE + 1, 2 * SIZE - 1, LENGTH + 9};
    for (size_t i = 0; i < sizeof CAPACITIES / sizeof *CAPACITIES; i++) {
        for (size_t piece = 1; piece <= LENGTH; piece++) {
            receiver to;
            begin(&to, CAPACITIES[i]);
            feed(&to, stream, LENGTH, piece);
            EXPECT(to.count == N_FRAMES && to.decoder.stats.skipped_bytes == 0);
            EXPECT(end(&to).truncated == 0);
        }
    }
}

static void a_flipped_bit_costs_its_frame_only(const uint8_t *stream)
{
    uint8_t damaged[LENGTH];
    for (size_t bit = 0; bit < 8 * LENGTH; bit++) {
        receiver to;
        memcpy(damaged, stream, LENGTH);
        damaged[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        begin(&to, LENGTH);
        feed(&to, damaged, LENGTH, 64);
        finish(&to);
        EXPECT(to.seen == (63u & ~(1u << (bit / 8 / SIZE))));
        const size_t byte = bit / 8 % SIZE;
        const usfp_stats stats = end(&to);
        EXPECT(stats.skipped_bytes == SIZE);
        EXPECT(stats.header_errors == (byte >= 4 && byte < USFP_HEADER_SIZE ? 1u : 0u));
        EXPECT(stats.crc_errors == (byte >= USFP_HEADER_SIZE ? 1u : 0u));
    }
}

static void lost_bytes_cost_the_frames_they_came_from(const uint8_t *stream)
{
    for (size_t start = 0; start < LENGTH - 5; start++) {
        uint8_t shorter[LENGTH];
        receiver to;
        unsigned hit = 0;
        for (size_t lost = start; lost < start + 5; lost++) {
            hit |= 1u << (lost / SIZE);
        }
        memcpy(shorter, stream, start);
        memcpy(shorter + start, stream + start + 5, LENGTH - 5 - start);
        begin(&to, 2 * SIZE);
        feed(&to, shorter, LENGTH - 5, 10);
        finish(&to);
        EXPECT(to.seen == (63u & ~hit));
        end(&to);
    }
}

static void a_stream_that_ends_anywhere_is_accounted_for(const uint8_t *stream)
{
    for (size_t length = 0; length <= LENGTH; length++) {
        receiver to;
        begin(&to, LENGTH);
        feed(&to, stream, length, 33);
        EXPECT(to.count == length / SIZE && usfp_decoder_pending(&to.decoder) == length % SIZE);
        const usfp_stats stats = end(&to);
        EXPECT(stats.truncated == (length % SIZE >= 4 ? 1u : 0u) && stats.resyncs == 0);
    }
}

/* A damaged length can make the decoder wait; the frames that it has meanwhile must come out at the end. */
static void frames_behind_a_false_length_come_out_at_the_end(const uint8_t *stream)
{
    uint8_t header[USFP_FRAME_SIZE(5000)];
    receiver to;
    begin(&to, USFP_FRAME_SIZE(5000));
    char *text = exactly(5000);
    EXPECT(usfp_encode_log(header, sizeof header, 0, 0, text, 5000) == 5044);
    feed(&to, header, 60, 60);
    feed(&to, stream, LENGTH, 64);
    EXPECT(to.count == 0 && usfp_decoder_pending(&to.decoder) == 60 + LENGTH);
    finish(&to);
    EXPECT(to.seen == 63u && to.decoder.stats.truncated == 1);
    feed(&to, stream, LENGTH, 64);
    EXPECT(to.count == 2 * N_FRAMES);
    free(text);
    end(&to);
}

static void a_frame_above_the_capacity_is_a_header_error(const uint8_t *stream)
{
    receiver to;
    begin(&to, SIZE - 1);
    feed(&to, stream, LENGTH, 7);
    const usfp_stats stats = end(&to);
    EXPECT(to.count == 0 && stats.header_errors == N_FRAMES && stats.skipped_bytes == LENGTH);
}

static void reset_forgets_half_a_frame_and_no_counts(const uint8_t *stream)
{
    receiver to;
    begin(&to, LENGTH);
    feed(&to, stream, SIZE + 30, 30);
    usfp_decoder_reset(&to.decoder);
    EXPECT(usfp_decoder_pending(&to.decoder) == 0);
    balance(&to);
    feed(&to, stream, SIZE, 30);
    const usfp_stats stats = end(&to);
    EXPECT(stats.frames == 2 && stats.skipped_bytes == 30 && stats.resyncs == 0 && stats.truncated == 0);
}

static void sync_words_without_end_are_passed_over(void)
{
    enum { WORDS = 5000 };
    uint8_t *words = exactly(4u * WORDS);
    receiver to;
    for (size_t i = 0; i < WORDS; i++) {
        memcpy(words + 4 * i, "\x55\x53\xA5\x5A", 4);
    }
    begin(&to, USFP_COMMAND_BUFFER);
    feed(&to, words, 4u * WORDS, 1);
    EXPECT(to.decoder.stats.header_errors == WORDS - 9u && usfp_decoder_pending(&to.decoder) < 40);
    EXPECT(end(&to).skipped_bytes == 4u * WORDS);
    free(words);
}

static void messages_are_read(void)
{
    const usfp_command sent = {1, 2, 3, 4, 5};
    const usfp_ack answer = {1, 2, 3, 4};
    usfp_info told = {1, 2, 3, -4, 5, 6, 7, {8, 9, 10}, "probe"};
    uint8_t bytes[256];
    usfp_decoder decoder;
    uint8_t buffer[256];
    usfp_frame frame;
    usfp_command command;
    usfp_ack ack;
    usfp_info info;
    size_t length = (size_t)usfp_encode_command(bytes, sizeof bytes, &sent);
    length += (size_t)usfp_encode_ack(bytes + length, sizeof bytes - length, 99, &answer);
    length += (size_t)usfp_encode_info(bytes + length, sizeof bytes - length, 98, 97, &told);
    EXPECT(usfp_decoder_init(&decoder, buffer, sizeof buffer) == 0);
    EXPECT(usfp_decoder_put(&decoder, bytes, length) == length);
    EXPECT(usfp_decoder_next(&decoder, &frame) == 1 && usfp_read_command(&frame, &command) == 0);
    EXPECT(command.seq == 1 && command.prf_mhz == 2 && command.count == 3 && command.opcode == 4
           && command.payload_format == 5);
    EXPECT(usfp_read_ack(&frame, &ack) == USFP_ERR_FORMAT && usfp_read_info(&frame, &info) == USFP_ERR_FORMAT);
    frame.payload_len = USFP_COMMAND_SIZE - 1;
    EXPECT(usfp_read_command(&frame, &command) == USFP_ERR_PAYLOAD);
    EXPECT(usfp_decoder_next(&decoder, &frame) == 1 && usfp_read_ack(&frame, &ack) == 0);
    EXPECT(frame.t_us == 99 && ack.seq == 1 && ack.detail == 2 && ack.opcode == 3 && ack.status == 4);
    EXPECT(usfp_read_command(&frame, &command) == USFP_ERR_FORMAT);
    frame.payload_len = USFP_ACK_SIZE - 1;
    EXPECT(usfp_read_ack(&frame, &ack) == USFP_ERR_PAYLOAD);
    memset(&info, 0xEE, sizeof info);
    EXPECT(usfp_decoder_next(&decoder, &frame) == 1 && usfp_read_info(&frame, &info) == 0);
    EXPECT(info.session_id == 1 && info.fs_hz == 2 && info.prf_mhz == 3 && info.t0_ns == -4);
    EXPECT(info.n_samples == 5 && info.payload_formats == 6 && info.adc_bits == 7 && info.firmware[2] == 10);
    EXPECT(memcmp(info.name, told.name, sizeof info.name) == 0);
    frame.payload_len = USFP_INFO_SIZE - 1;
    EXPECT(usfp_read_info(&frame, &info) == USFP_ERR_PAYLOAD);
    EXPECT(usfp_decoder_next(&decoder, &frame) == 0);
}

static void null_pointers_are_refused(void)
{
    uint8_t buffer[USFP_OVERHEAD];
    usfp_decoder decoder;
    usfp_frame frame = {0};
    usfp_command command;
    EXPECT(usfp_decoder_init(NULL, buffer, sizeof buffer) == USFP_ERR_NULL);
    EXPECT(usfp_decoder_init(&decoder, NULL, sizeof buffer) == USFP_ERR_NULL);
    EXPECT(usfp_decoder_init(&decoder, buffer, sizeof buffer - 1) == USFP_ERR_CAPACITY);
    EXPECT(usfp_decoder_init(&decoder, buffer, sizeof buffer) == 0);
    EXPECT(usfp_decoder_put(NULL, buffer, 1) == 0 && usfp_decoder_put(&decoder, NULL, 1) == 0);
    EXPECT(usfp_decoder_next(NULL, &frame) == USFP_ERR_NULL);
    EXPECT(usfp_decoder_next(&decoder, NULL) == USFP_ERR_NULL);
    EXPECT(usfp_decoder_finish(NULL, &frame) == USFP_ERR_NULL);
    EXPECT(usfp_decoder_finish(&decoder, NULL) == USFP_ERR_NULL);
    EXPECT(usfp_decoder_pending(NULL) == 0);
    usfp_decoder_reset(NULL);
    EXPECT(usfp_read_command(NULL, &command) == USFP_ERR_NULL);
    EXPECT(usfp_read_command(&frame, NULL) == USFP_ERR_NULL);
    EXPECT(usfp_read_info(NULL, NULL) == USFP_ERR_NULL && usfp_read_ack(NULL, NULL) == USFP_ERR_NULL);
}

void test_decoder(void)
{
    uint8_t *stream = exactly(LENGTH);
    make_stream(stream);
    every_division_gives_every_frame(stream);
    a_flipped_bit_costs_its_frame_only(stream);
    lost_bytes_cost_the_frames_they_came_from(stream);
    a_stream_that_ends_anywhere_is_accounted_for(stream);
    frames_behind_a_false_length_come_out_at_the_end(stream);
    a_frame_above_the_capacity_is_a_header_error(stream);
    reset_forgets_half_a_frame_and_no_counts(stream);
    sync_words_without_end_are_passed_over();
    messages_are_read();
    null_pointers_are_refused();
    free(stream);
}
