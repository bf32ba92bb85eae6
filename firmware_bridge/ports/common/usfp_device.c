/* A USFP device. See usfp_device.h. SPDX-License-Identifier: Apache-2.0 */
#include "usfp_device.h"

/* A C99 assertion at compile time: masks in place of remainders need a power of two. */
typedef char ring_is_a_power_of_two[(USFP_DEVICE_RING & (USFP_DEVICE_RING - 1u)) == 0u ? 1 : -1];

#define RING_MASK ((uint32_t)USFP_DEVICE_RING - 1u)
/* prf_mhz periods take exactly this long, which keeps the schedule free of drift in whole numbers. */
#define CYCLE_US 1000000000u

void usfp_device_init(usfp_device *device, const usfp_port *port, const usfp_device_config *config)
{
    *device = (usfp_device){0};
    device->port = *port;
    device->config = *config;
    device->config.info.payload_formats = 1u << USFP_FORMAT_INT16;
#if USFP_DEVICE_CODED
    const size_t n_samples = config->info.n_samples;
    if (config->scratch != NULL && config->scratch_size >= USFP_PACKED12_SIZE(n_samples)) {
        device->config.info.payload_formats |= 1u << USFP_FORMAT_PACKED12;
        if (config->scratch_size + 1u >= 2u * n_samples) {
            device->config.info.payload_formats |= 1u << USFP_FORMAT_DELTA_RICE;
        }
    }
#endif
    (void)usfp_decoder_init(&device->decoder, device->received, sizeof device->received);
    device->info_wanted = 1;
}

/* ---- From the receive interrupt to commands ---------------------------------------------------------- */

void usfp_device_receive(usfp_device *device, uint8_t byte)
{
    usfp_device_ring *ring = &device->ring;
    const uint32_t head = ring->head;
    if (head - ring->tail >= USFP_DEVICE_RING) {
        ring->lost_bytes++;
    } else {
        ring->bytes[head & RING_MASK] = byte;
        ring->head = head + 1u;
    }
    device->woken = 1;
}

void usfp_device_wake(usfp_device *device)
{
    device->woken = 1;
}

/* Move received bytes on to the decoder, as many as it has room for; returns 0 when there were none. */
static int feed(usfp_device *device)
{
    usfp_device_ring *ring = &device->ring;
    uint8_t chunk[32];
    const uint32_t tail = ring->tail;
    const uint32_t waiting = ring->head - tail;
    uint32_t length = 0;
    while (length < waiting && length < sizeof chunk) {
        chunk[length] = ring->bytes[(tail + length) & RING_MASK];
        length++;
    }
    if (length == 0) {
        return 0;
    }
    ring->tail = tail + (uint32_t)usfp_decoder_put(&device->decoder, chunk, (size_t)length);
    return 1;
}

/* Take the next command out of what has come; returns 0 when there is none yet. What is no command is not
 * meant for a device. Bounded, so that a flood on the line cannot keep A-scans from being sent. */
static int next_command(usfp_device *device, usfp_command *command)
{
    usfp_frame frame;
    for (uint32_t i = 0; i <= USFP_DEVICE_RING / 32u; i++) {
        while (usfp_decoder_next(&device->decoder, &frame) == 1) {
            if (usfp_read_command(&frame, command) == 0) {
                return 1;
            }
        }
        if (!feed(device)) {
            return 0;
        }
    }
    device->woken = 1;
    return 0;
}

/* ---- Obeying ----------------------------------------------------------------------------------------- */

/* There is room: a command brings two answers at most, and none is taken before they are sent. */
static void answer(usfp_device *device, uint8_t opcode, uint32_t seq, uint8_t status, uint32_t detail)
{
    usfp_ack *ack = &device->answers[device->n_answers++];
    ack->opcode = opcode;
    ack->seq = seq;
    ack->status = status;
    ack->detail = detail;
}

static void close_stream(usfp_device *device)
{
    if (device->stream.running) {
        device->stream.running = 0;
        device->last_sent = device->stream.sent;
    }
}

/* End a stream that the host did not stop itself, and tell it how much was sent. */
static void end_stream(usfp_device *device)
{
    if (device->stream.running) {
        close_stream(device);
        answer(device, USFP_OPCODE_STOP, device->stream.command_seq, USFP_STATUS_OK, device->last_sent);
    }
}

static int can_do(const usfp_device *device, const usfp_command *command)
{
    const uint32_t formats = device->config.info.payload_formats;
    const uint32_t max_prf_mhz = device->config.max_prf_mhz;
    return command->payload_format < 16u && ((formats >> command->payload_format) & 1u) != 0u
           && (max_prf_mhz == 0u || command->prf_mhz <= max_prf_mhz);
}

static void start(usfp_device *device, const usfp_command *command)
{
    usfp_device_stream *stream = &device->stream;
    if (!can_do(device, command)) {
        answer(device, USFP_OPCODE_START, command->seq, USFP_STATUS_BAD_ARGUMENT, 0);
        return;
    }
    end_stream(device);
    answer(device, USFP_OPCODE_START, command->seq, USFP_STATUS_OK, device->next_seq);
    stream->epoch_us = device->port.clock_us(device->port.board);
    stream->slot = 0;
    stream->prf_mhz = command->prf_mhz != 0u ? command->prf_mhz : device->config.info.prf_mhz;
    stream->command_seq = command->seq;
    stream->count = command->count;
    stream->sent = 0;
    stream->format = command->payload_format;
    stream->running = 1;
}

static void obey(usfp_device *device, const usfp_command *command)
{
    device->counts.commands++;
    switch (command->opcode) {
    case USFP_OPCODE_INFO:
        device->info_wanted = 1;
        break;
    case USFP_OPCODE_START:
        start(device, command);
        break;
    case USFP_OPCODE_STOP:
        close_stream(device);
        answer(device, USFP_OPCODE_STOP, command->seq, USFP_STATUS_OK, device->last_sent);
        break;
    default:
        answer(device, command->opcode, command->seq, USFP_STATUS_UNKNOWN_OPCODE, 0);
        break;
    }
}

/* ---- Sending ----------------------------------------------------------------------------------------- */

static void send(usfp_device *device, const usfp_piece *pieces, size_t n_pieces)
{
    device->sending = 1;
    device->unsent = SIZE_MAX;
    device->progress_us = device->port.clock_us(device->port.board);
    device->port.send(device->port.board, pieces, n_pieces);
}

/* Send the frame in `out`, if it could be encoded. */
static void send_out(usfp_device *device, int32_t length)
{
    if (length > 0) {
        device->gather.piece[0].bytes = device->out;
        device->gather.piece[0].length = (size_t)length;
        send(device, device->gather.piece, 1);
    }
}

static int send_answer(usfp_device *device)
{
    const uint64_t now_us = device->port.clock_us(device->port.board);
    if (device->info_wanted) {
        device->info_wanted = 0;
        send_out(device, usfp_encode_info(device->out, sizeof device->out, now_us, device->next_seq,
                                          &device->config.info));
        return 1;
    }
    if (device->n_answers > 0) {
        const usfp_ack first = device->answers[0];
        device->answers[0] = device->answers[1];
        device->n_answers--;
        send_out(device, usfp_encode_ack(device->out, sizeof device->out, now_us, &first));
        return 1;
    }
    return 0;
}

#if USFP_DEVICE_CODED
static int32_t code(usfp_device *device, const int16_t *samples)
{
    uint8_t *scratch = device->config.scratch;
    const size_t size = device->config.scratch_size;
    const uint16_t n_samples = device->config.info.n_samples;
    return device->stream.format == USFP_FORMAT_PACKED12 ? usfp_pack12(scratch, size, samples, n_samples)
                                                         : usfp_rice_encode(scratch, size, samples, n_samples);
}
#endif

/* Frame samples in the stream's format. An A-scan that the format cannot hold, as one beyond 12 bits, goes
 * as int16: the header of each A-scan names its own format. */
static int32_t frame_ascan(usfp_device *device, const usfp_ascan *ascan, const int16_t *samples)
{
    const uint16_t n_samples = device->config.info.n_samples;
#if USFP_DEVICE_CODED
    if (device->stream.format != USFP_FORMAT_INT16) {
        const int32_t length = code(device, samples);
        if (length >= 0) {
            return usfp_gather_payload(&device->gather, ascan, device->stream.format, device->config.scratch,
                                       (size_t)length, n_samples);
        }
        device->counts.int16_instead++;
    }
#endif
    return usfp_gather_ascan(&device->gather, ascan, samples, n_samples);
}

/* ---- The schedule ------------------------------------------------------------------------------------ */

static uint64_t due_us(const usfp_device_stream *stream)
{
    return stream->epoch_us + (uint64_t)stream->slot * CYCLE_US / stream->prf_mhz;
}

/* Move on to the slot that now_us lies in; returns how many whole slots went by unused. */
static uint32_t miss_slots(usfp_device_stream *stream, uint64_t now_us)
{
    uint32_t missed = 0;
    while (now_us - stream->epoch_us >= CYCLE_US) {
        missed += stream->slot < stream->prf_mhz ? stream->prf_mhz - stream->slot : 0u;
        stream->slot -= stream->slot < stream->prf_mhz ? stream->slot : stream->prf_mhz;
        stream->epoch_us += CYCLE_US;
    }
    const uint32_t slot = (uint32_t)((now_us - stream->epoch_us) * stream->prf_mhz / CYCLE_US);
    if (slot > stream->slot) {
        missed += slot - stream->slot;
        stream->slot = slot;
    }
    return missed;
}

static int is_due(const usfp_device_stream *stream, uint64_t now_us)
{
    return stream->prf_mhz == 0u || now_us >= due_us(stream);
}

/* Take and send an A-scan if it is time; returns 0 if it is not, or if none is ready. */
static int send_ascan(usfp_device *device)
{
    usfp_device_stream *stream = &device->stream;
    const uint64_t now_us = device->port.clock_us(device->port.board);
    if (!stream->running || !is_due(stream, now_us)) {
        return 0;
    }
    usfp_ascan ascan = {.t_us = now_us, .seq = device->next_seq};
    ascan.fs_hz = device->config.info.fs_hz;
    ascan.t0_ns = device->config.info.t0_ns;
    const int16_t *samples = device->port.next_ascan(device->port.board, &ascan);
    if (samples == NULL) {
        return 0;
    }
    if (stream->prf_mhz != 0u) {
        device->counts.overruns += miss_slots(stream, now_us);
        stream->slot++;
    }
    if (frame_ascan(device, &ascan, samples) < 0) {
        device->counts.faults++;
        return 1;
    }
    device->next_seq++;
    device->sending_ascan = 1;
    send(device, device->gather.piece, 3);
    return 1;
}

/* ---- The main loop ----------------------------------------------------------------------------------- */

static void ascan_sent(usfp_device *device)
{
    usfp_device_stream *stream = &device->stream;
    device->sending_ascan = 0;
    device->counts.sent++;
    stream->sent++;
    if (stream->count != 0u && stream->sent >= stream->count) {
        end_stream(device);
    }
}

/* Nobody reads: drop the stream and the answers, and wait for another START. */
static void give_up(usfp_device *device)
{
    device->counts.stalls++;
    close_stream(device);
    device->n_answers = 0;
    device->info_wanted = 0;
    device->sending = 0;
    device->sending_ascan = 0;
    device->port.abandon(device->port.board);
}

/* Returns 1 while the link still has something of the frame under way. */
static int link_busy(usfp_device *device, size_t unsent)
{
    const uint64_t now_us = device->port.clock_us(device->port.board);
    if (unsent != device->unsent) {
        device->unsent = unsent;
        device->progress_us = now_us;
    }
    if (unsent > 0 && device->port.abandon != NULL && now_us - device->progress_us > USFP_DEVICE_STALL_US) {
        give_up(device);
        return 0;
    }
    return unsent > 0;
}

int usfp_device_step(usfp_device *device)
{
    usfp_command command;
    /* Before anything is looked at: what comes from here on keeps usfp_device_wait awake. */
    device->woken = 0;
    if (device->sending) {
        const usfp_port *port = &device->port;
        if (link_busy(device, port->unsent == NULL ? 0 : port->unsent(port->board))) {
            return 0;
        }
        device->sending = 0;
        if (device->sending_ascan) {
            ascan_sent(device);
        }
    }
    if (send_answer(device)) {
        return 1;
    }
    if (next_command(device, &command)) {
        obey(device, &command);
        return 1;
    }
    return send_ascan(device);
}

void usfp_device_wait(usfp_device *device)
{
    const usfp_port *port = &device->port;
    if (port->sleep == NULL) {
        return;
    }
    /* Masked, so that no interrupt slips in between the look and the sleep; it ends the sleep instead. */
    port->lock(port->board);
    if (!device->woken) {
        port->sleep(port->board);
    }
    port->unlock(port->board);
}

void usfp_device_run(usfp_device *device)
{
    for (;;) {
        if (!usfp_device_step(device)) {
            usfp_device_wait(device);
        }
    }
}
