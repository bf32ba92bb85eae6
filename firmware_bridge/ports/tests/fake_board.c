/* A board made of lines of text, so that a test holds its clock, its link and its interrupts in its hand.
 *
 *   rx HEX      bytes that the receive interrupt brings
 *   run         the main loop until it falls asleep; prints what went out: tx HEX
 *   step        one step; prints step 0 or step 1
 *   wait        prints slept, or awake when the main loop did not fall asleep
 *   clock US    move the clock on
 *   link N      bytes that the link takes from now on; -1 = all that come
 *   ready N     A-scans that are ready from now on; -1 = always
 *   peak N      largest count of the A-scans from now on
 *   counts      prints the device's counters
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usfp_device.h"

#define N_SAMPLES 256

static usfp_device device;
static uint8_t scratch[2 * N_SAMPLES];
static int16_t samples[N_SAMPLES];
static uint64_t now_us;
static long link_room = -1;
static long ready = -1;
static int peak = 1000;
static int masked;
static int slept;

/* What is being sent: where it lies, not a copy. */
static const usfp_piece *pieces;
static size_t n_pieces;
static size_t piece_at;
static size_t byte_at;

static void check(int holds, const char *what)
{
    if (!holds) {
        printf("broken %s\n", what);
        exit(1);
    }
}

static uint64_t clock_us(void *board)
{
    check(board == &now_us, "board");
    return now_us;
}

static size_t unsent(void *board)
{
    size_t left = 0;
    check(board == &now_us, "board");
    for (size_t i = piece_at; i < n_pieces; i++) {
        left += pieces[i].length;
    }
    return left - byte_at;
}

static void drain(void)
{
    while (piece_at < n_pieces && link_room != 0) {
        if (byte_at < pieces[piece_at].length) {
            printf("%02x", (unsigned)pieces[piece_at].bytes[byte_at++]);
            link_room -= link_room > 0;
        } else {
            piece_at++;
            byte_at = 0;
        }
    }
    while (piece_at < n_pieces && byte_at == pieces[piece_at].length) {
        piece_at++;
        byte_at = 0;
    }
}

static void send(void *board, const usfp_piece *from, size_t count)
{
    check(unsent(board) == 0, "send while sending");
    pieces = from;
    n_pieces = count;
    piece_at = byte_at = 0;
}

static void abandon(void *board)
{
    (void)board;
    n_pieces = piece_at = byte_at = 0;
}

static const int16_t *next_ascan(void *board, usfp_ascan *ascan)
{
    check(unsent(board) == 0, "samples changed while they are sent");
    if (ready == 0) {
        return NULL;
    }
    ready -= ready > 0;
    for (int i = 0; i < N_SAMPLES; i++) {
        samples[i] = (int16_t)((int)((ascan->seq * 7u + (uint32_t)i * 3u) % 41u) * peak / 40);
    }
    ascan->gain_cdb = 2050;
    ascan->channel = 3;
    return samples;
}

static void lock(void *board)
{
    (void)board;
    check(!masked, "lock");
    masked = 1;
}

static void unlock(void *board)
{
    (void)board;
    check(masked, "unlock");
    masked = 0;
}

static void sleep_masked(void *board)
{
    (void)board;
    check(masked, "sleep with interrupts open");
    slept = 1;
}

static void receive(const char *hex)
{
    for (unsigned byte = 0; sscanf(hex, "%2x", &byte) == 1; hex += 2) {
        usfp_device_receive(&device, (uint8_t)byte);
    }
}

static void run_until_asleep(void)
{
    printf("tx ");
    slept = 0;
    while (!slept) {
        const size_t before = unsent(&now_us);
        drain();
        if (unsent(&now_us) != before) {
            usfp_device_wake(&device);
        }
        if (!usfp_device_step(&device)) {
            usfp_device_wait(&device);
        }
    }
    printf("\n");
}

static void print_counts(void)
{
    const usfp_device_counts *counts = &device.counts;
    printf("counts %lu %lu %lu %lu %lu %lu %lu\n", (unsigned long)counts->sent, (unsigned long)counts->commands,
           (unsigned long)counts->overruns, (unsigned long)counts->stalls,
           (unsigned long)counts->int16_instead, (unsigned long)counts->faults,
           (unsigned long)device.ring.lost_bytes);
}

static void fall_asleep(void)
{
    slept = 0;
    usfp_device_wait(&device);
    check(!masked, "interrupts left masked");
    printf(slept ? "slept\n" : "awake\n");
}

static void obey(const char *verb, const char *argument)
{
    const long number = strtol(argument, NULL, 10);
    if (strcmp(verb, "rx") == 0) {
        receive(argument);
    } else if (strcmp(verb, "run") == 0) {
        run_until_asleep();
    } else if (strcmp(verb, "step") == 0) {
        printf("step %d\n", usfp_device_step(&device));
    } else if (strcmp(verb, "wait") == 0) {
        fall_asleep();
    } else if (strcmp(verb, "clock") == 0) {
        now_us += (uint64_t)number;
    } else if (strcmp(verb, "link") == 0) {
        link_room = number;
    } else if (strcmp(verb, "ready") == 0) {
        ready = number;
    } else if (strcmp(verb, "peak") == 0) {
        peak = (int)number;
    } else if (strcmp(verb, "counts") == 0) {
        print_counts();
    } else {
        check(0, verb);
    }
}

int main(void)
{
    static char line[400000];
    static char verb[16];
    const usfp_port port = {&now_us, clock_us, next_ascan, send, unsent, abandon, lock, unlock, sleep_masked};
    usfp_device_config config = {.info = {.session_id = 77, .fs_hz = 10000000, .prf_mhz = 50000,
                                          .t0_ns = 1500, .n_samples = N_SAMPLES, .adc_bits = 12,
                                          .firmware = {1, 2, 3}, .name = "fake"},
                                 .max_prf_mhz = 1000000};
#if USFP_DEVICE_CODED
    config.scratch = scratch;
    config.scratch_size = sizeof scratch;
#else
    (void)scratch;
#endif
    usfp_device_init(&device, &port, &config);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *space = strchr(line, ' ');
        if (sscanf(line, "%15s", verb) == 1) {
            obey(verb, space == NULL ? "" : space + 1);
        }
    }
    return 0;
}
