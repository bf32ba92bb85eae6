/* A transducer that plays A-scans from flash: the same on every emulated board.
 * SPDX-License-Identifier: Apache-2.0 */
#include "board.h"
#include "cortex_m.h"
#include "usfp_device.h"
#include "table.h"

#define FS_HZ 10000000u
#define OWN_PRF_MHZ 20000u
#define MAX_PRF_MHZ 1000000000u

static usfp_device device;
static uint8_t scratch[2 * TABLE_SAMPLES];

void on_receive(uint8_t byte)
{
    usfp_device_receive(&device, byte);
}

void on_tick(void)
{
    usfp_device_wake(&device);
}

static uint64_t clock_us(void *board)
{
    (void)board;
    return board_clock_us();
}

/* The row is chosen by seq, so that the host knows it too. */
static const int16_t *next_ascan(void *board, usfp_ascan *ascan)
{
    (void)board;
    return table[ascan->seq % TABLE_ASCANS];
}

/* By polling: of the emulated transmitters, not all raise an interrupt. */
static void send(void *board, const usfp_piece *pieces, size_t n_pieces)
{
    (void)board;
    for (size_t i = 0; i < n_pieces; i++) {
        board_write(pieces[i].bytes, pieces[i].length);
    }
}

static void lock(void *board)
{
    (void)board;
    interrupts_off();
}

static void unlock(void *board)
{
    (void)board;
    interrupts_on();
}

static void sleep(void *board)
{
    (void)board;
    wait_for_interrupt();
}

static void set_name(usfp_info *info)
{
    for (size_t i = 0; i < USFP_NAME_SIZE && board_name[i] != '\0'; i++) {
        info->name[i] = board_name[i];
    }
}

int main(void)
{
    const usfp_port port = {
        .clock_us = clock_us, .next_ascan = next_ascan, .send = send,
        .lock = lock, .unlock = unlock, .sleep = sleep,
    };
    usfp_device_config config = {
        .info = {.fs_hz = FS_HZ, .prf_mhz = OWN_PRF_MHZ, .n_samples = TABLE_SAMPLES, .adc_bits = 12,
                 .firmware = {1, 0, 0}},
        .max_prf_mhz = MAX_PRF_MHZ, .scratch = scratch, .scratch_size = sizeof scratch,
    };
    interrupts_off();
    board_init();
    config.info.session_id = board_random();
    set_name(&config.info);
    usfp_device_init(&device, &port, &config);
    interrupts_on();
    usfp_device_run(&device);
    return 0;
}
