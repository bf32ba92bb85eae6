/* A pulse-echo front end on a Raspberry Pi Pico or Pico 2: a pulser on one pin, the converter of the chip at
 * 500 kS/s by DMA, USFP over USB-CDC. That rate is for echoes in air, at 40 kHz; for megahertz, put a
 * parallel converter behind a PIO program and let its DMA fill `counts` instead, in begin_acquisition.
 * RP2040 datasheet: ADC 4.9, DMA 2.5; Pico SDK 1.5 and 2. SPDX-License-Identifier: Apache-2.0 */
#include "hardware/adc.h"
#include "hardware/dma.h"
#include "hardware/gpio.h"
#include "hardware/irq.h"
#include "hardware/sync.h"
#include "pico/rand.h"
#include "pico/stdlib.h"
#include "tusb.h"

#include "usfp_device.h"
#include "usfp_pico.h"

#define PULSER_PIN 15u
#define ECHO_PIN 26u
#define N_SAMPLES 2048u
#define FS_HZ 500000u
#define MID_SCALE 2048
#define PULSE_US 12u
#define TICK_US 500
/* Four times what the converter takes: an A-scan that nobody asked for since is not handed over. */
#define OLDEST_US (4u * N_SAMPLES * 1000000u / FS_HZ)

static usfp_device device;
static int16_t counts[N_SAMPLES];
static uint8_t scratch[2u * N_SAMPLES];
static uint acquisition;
static enum { IDLE, ACQUIRING } acquiring;
static volatile bool acquired;
static uint64_t main_bang_us;
static uint32_t interrupts_before;

/* What is being sent, and how far. */
static const usfp_piece *piece;
static size_t pieces_left;
static size_t piece_sent;

/* ---- Acquisition --------------------------------------------------------------------------------------- */

static void acquisition_isr(void)
{
    dma_channel_acknowledge_irq0(acquisition);
    acquired = true;
    usfp_device_wake(&device);
}

static void acquisition_init(void)
{
    gpio_init(PULSER_PIN);
    gpio_set_dir(PULSER_PIN, true);
    adc_init();
    adc_gpio_init(ECHO_PIN);
    adc_select_input(ECHO_PIN - 26u);
    adc_fifo_setup(true, true, 1, false, false);
    adc_set_clkdiv(0); /* 96 cycles of 48 MHz: 500 kS/s */
    acquisition = (uint)dma_claim_unused_channel(true);
    dma_channel_set_irq0_enabled(acquisition, true);
    irq_set_exclusive_handler(DMA_IRQ_0, acquisition_isr);
    irq_set_enabled(DMA_IRQ_0, true);
}

static void begin_acquisition(void)
{
    dma_channel_config config = dma_channel_get_default_config(acquisition);
    channel_config_set_transfer_data_size(&config, DMA_SIZE_16);
    channel_config_set_read_increment(&config, false);
    channel_config_set_write_increment(&config, true);
    channel_config_set_dreq(&config, DREQ_ADC);
    adc_fifo_drain();
    acquired = false;
    dma_channel_configure(acquisition, &config, counts, &adc_hw->fifo, N_SAMPLES, true);
    gpio_put(PULSER_PIN, true);
    main_bang_us = time_us_64();
    adc_run(true);
    busy_wait_us_32(PULSE_US);
    gpio_put(PULSER_PIN, false);
}

/* Asked when an A-scan is due: fires then, answers "not yet" until the DMA is done, and hands over. Nothing
 * is fired while the last A-scan is still being sent, so that one buffer is enough. */
static const int16_t *next_ascan(void *board, usfp_ascan *ascan)
{
    (void)board;
    if (acquiring == IDLE) {
        begin_acquisition();
        acquiring = ACQUIRING;
        return NULL;
    }
    if (!acquired) {
        return NULL;
    }
    adc_run(false);
    acquiring = IDLE;
    if (time_us_64() - main_bang_us > OLDEST_US) {
        return next_ascan(board, ascan);
    }
    for (size_t i = 0; i < N_SAMPLES; i++) {
        counts[i] = (int16_t)(counts[i] - MID_SCALE);
    }
    ascan->t_us = main_bang_us;
    return counts;
}

/* ---- USB-CDC ------------------------------------------------------------------------------------------- */

/* From tud_task, so not an interrupt; all that comes goes into the ring. */
void tud_cdc_rx_cb(uint8_t itf)
{
    uint8_t bytes[64];
    uint32_t length;
    (void)itf;
    while ((length = tud_cdc_read(bytes, sizeof bytes)) > 0) {
        for (uint32_t i = 0; i < length; i++) {
            usfp_device_receive(&device, bytes[i]);
        }
    }
}

static void send(void *board, const usfp_piece *pieces, size_t n_pieces)
{
    (void)board;
    piece = pieces;
    pieces_left = n_pieces;
    piece_sent = 0;
}

static void push(void)
{
    while (pieces_left > 0) {
        const size_t left = piece->length - piece_sent;
        const uint32_t room = tud_cdc_write_available();
        const uint32_t length = left < room ? (uint32_t)left : room;
        if (length == 0 && left > 0) {
            break;
        }
        piece_sent += tud_cdc_write(piece->bytes + piece_sent, length);
        if (piece_sent == piece->length) {
            piece++;
            pieces_left--;
            piece_sent = 0;
        }
    }
    tud_cdc_write_flush();
}

/* Asked at every turn of the main loop: the moment to hand the USB stack what it has room for. */
static size_t unsent(void *board)
{
    size_t left = 0;
    (void)board;
    push();
    for (size_t i = 0; i < pieces_left; i++) {
        left += piece[i].length;
    }
    return left - piece_sent;
}

static void abandon(void *board)
{
    (void)board;
    pieces_left = 0;
    piece_sent = 0;
    tud_cdc_write_clear();
}

/* ---- The rest of the port ------------------------------------------------------------------------------ */

static uint64_t clock_us(void *board)
{
    (void)board;
    return time_us_64();
}

static void lock(void *board)
{
    (void)board;
    interrupts_before = save_and_disable_interrupts();
}

static void unlock(void *board)
{
    (void)board;
    restore_interrupts(interrupts_before);
}

/* An event for the USB stack may have come after tud_task looked. */
static void sleep_masked(void *board)
{
    (void)board;
    if (!tud_task_event_ready()) {
        __wfi();
    }
}

static bool tick(repeating_timer_t *timer)
{
    (void)timer;
    usfp_device_wake(&device);
    return true;
}

static void device_init(void)
{
    const usfp_port port = {
        .clock_us = clock_us, .next_ascan = next_ascan, .send = send, .unsent = unsent, .abandon = abandon,
        .lock = lock, .unlock = unlock, .sleep = sleep_masked,
    };
    const usfp_device_config config = {
        .info = {.session_id = get_rand_32(), .fs_hz = FS_HZ, .prf_mhz = 50000, .n_samples = N_SAMPLES,
                 .adc_bits = 12, .firmware = {1, 0, 0}, .name = "pico"},
        .max_prf_mhz = 200000, .scratch = scratch, .scratch_size = sizeof scratch,
    };
    usfp_device_init(&device, &port, &config);
}

int main(void)
{
    static repeating_timer_t timer;
    usfp_pico_crc32_init();
    device_init();
    acquisition_init();
    tusb_init();
    add_repeating_timer_us(-TICK_US, tick, NULL, &timer);
    for (;;) {
        tud_task();
        if (!usfp_device_step(&device)) {
            usfp_device_wait(&device);
        }
    }
}
