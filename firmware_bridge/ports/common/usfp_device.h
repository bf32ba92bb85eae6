/* A USFP device: what stands between a front end's acquisition and its link. It obeys INFO, START and STOP
 * by PROTOCOL.md, keeps the PRF by a microsecond clock and sends A-scans from where they lie, without a copy.
 *
 * Copy this file, usfp_device.c, usfp.h and the sources in c/src. Then write a usfp_port, which is all that
 * knows your board, call usfp_device_receive from the receive interrupt, and end main with usfp_device_run.
 * No heap, no state but the usfp_device that you own, nothing of libc but the memset
 * and memcpy that a compiler may call for. For little-endian CPUs that load and store 32 bits at once, as every
 * Cortex-M: elsewhere samples do not lie in memory as on the wire, or an interrupt tears the ring's indices.
 *
 * Settings, by -D:
 *   USFP_DEVICE_RING   bytes between the receive interrupt and the main loop, a power of two; 256. A command
 *                      takes 56, and none is taken out while a frame is on its way
 *   USFP_DEVICE_CODED  1: A-scans also as packed-12 and delta-Rice, through a scratch buffer of yours; 0
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef USFP_DEVICE_H
#define USFP_DEVICE_H

#include "usfp.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef USFP_DEVICE_RING
#define USFP_DEVICE_RING 256u
#endif
#ifndef USFP_DEVICE_CODED
#define USFP_DEVICE_CODED 0
#endif
/* A link that takes nothing for this long has no reader; the stream is dropped. */
#define USFP_DEVICE_STALL_US 2000000u

/* Your board. Every function is called from the main loop only, and is handed `board` as it is. */
typedef struct {
    void *board;

    /* Microseconds since boot; never goes back. */
    uint64_t (*clock_us)(void *board);

    /* Hand over the next A-scan, of info.n_samples counts, or null when none is ready yet; it is asked again
     * after the next interrupt. *ascan comes filled in with seq, t_us, fs_hz and t0_ns: correct t_us to the
     * main bang if you know better, add gain, channel and flags. The samples must not change
     * until the next call, so acquire into a second buffer meanwhile. */
    const int16_t *(*next_ascan)(void *board, usfp_ascan *ascan);

    /* Send the pieces one behind another, or start to and return: they stay where they are until `unsent`
     * has said 0. Never called before that. */
    void (*send)(void *board, const usfp_piece *pieces, size_t n_pieces);

    /* Bytes that the link has not taken yet; 0 when it is free. Null: `send` returns when all is sent. */
    size_t (*unsent)(void *board);

    /* Give up what is being sent; `unsent` says 0 afterwards. Null: a link without flow control, as a plain
     * UART, that never stalls. */
    void (*abandon)(void *board);

    /* Mask interrupts; unmask them. */
    void (*lock)(void *board);
    void (*unlock)(void *board);

    /* Wait for an interrupt. Called with interrupts masked, and must return when one becomes pending
     * although it is masked, as `wfi` does on every Cortex-M. Null: the main loop never sleeps. One
     * interrupt, such as a tick, must come at least as often as A-scans are due. */
    void (*sleep)(void *board);
} usfp_port;

/* What a device is. info.payload_formats is filled in by usfp_device_init. */
typedef struct {
    usfp_info info;
    uint32_t max_prf_mhz; /* refuse a START above this; 0 = no bound */
#if USFP_DEVICE_CODED
    uint8_t *scratch; /* coded payloads lie here while they are sent; null: int16 only */
    size_t scratch_size; /* USFP_PACKED12_SIZE(n_samples) for packed-12, 2 n_samples - 1 for both formats */
#endif
} usfp_device_config;

/* What a device has met since boot. overruns: PRF slots that went by while no A-scan could be sent, because
 * the link was busy or none was ready; no seq is spent on them. stalls: streams dropped because nobody read.
 * int16_instead: A-scans that the format asked for could not code, sent as int16. faults: A-scans that could
 * not be framed at all. */
typedef struct {
    uint32_t sent;
    uint32_t commands;
    uint32_t overruns;
    uint32_t stalls;
    uint32_t int16_instead;
    uint32_t faults;
} usfp_device_counts;

/* One START: its schedule and what was sent under it. */
typedef struct {
    uint64_t epoch_us; /* when slot 0 was due */
    uint32_t slot;     /* of prf_mhz slots in 10^9 us; then epoch_us moves on */
    uint32_t prf_mhz;
    uint32_t command_seq;
    uint32_t count;
    uint32_t sent;
    uint8_t format;
    uint8_t running;
} usfp_device_stream;

/* Filled by one interrupt and emptied by the main loop; each index has one writer. lost_bytes: received bytes
 * that found the ring full; the command they belonged to is not obeyed, and the host repeats it. */
typedef struct {
    volatile uint32_t head;
    volatile uint32_t tail;
    volatile uint32_t lost_bytes;
    volatile uint8_t bytes[USFP_DEVICE_RING];
} usfp_device_ring;

/* counts and ring.lost_bytes may be read; the rest is the device's own. */
typedef struct {
    usfp_device_counts counts;
    usfp_device_ring ring;
    volatile uint8_t woken;
    usfp_port port;
    usfp_device_config config;
    usfp_device_stream stream;
    usfp_decoder decoder;
    usfp_gather gather;
    usfp_ack answers[2];
    uint64_t progress_us;
    size_t unsent;
    uint32_t next_seq;
    uint32_t last_sent;
    uint32_t info_seq;
    uint8_t n_answers;
    uint8_t info_wanted;
    uint8_t sending;
    uint8_t sending_ascan;
    uint8_t received[USFP_COMMAND_BUFFER];
    uint8_t out[USFP_INFO_FRAME_SIZE];
} usfp_device;

/* Make a device ready, its INFO frame of the boot waiting to be sent. port and config are copied.
 * info.session_id must be random, or at least another one at every boot. */
void usfp_device_init(usfp_device *device, const usfp_port *port, const usfp_device_config *config);

/* Take a received byte; for the receive interrupt. */
void usfp_device_receive(usfp_device *device, uint8_t byte);

/* Keep the main loop from falling asleep over what an interrupt has just done; for the interrupts that end a
 * transmission or an acquisition, and for the tick. */
void usfp_device_wake(usfp_device *device);

/* Do the next thing there is to do. Returns 1 when there was one, 0 when only an interrupt can bring one. */
int usfp_device_step(usfp_device *device);

/* Sleep until the next interrupt, unless one has come since usfp_device_step began. */
void usfp_device_wait(usfp_device *device);

/* Step and wait for ever; for the end of main. */
void usfp_device_run(usfp_device *device);

#ifdef __cplusplus
}
#endif

#endif
