/* A USFP device on the STM32 HAL. See usfp_stm32.h. UM1725 (HAL of F4) and its like for other families: UART
 * and DMA drivers, callbacks. SPDX-License-Identifier: Apache-2.0 */
#include "usfp_stm32.h"

#include "usfp_device.h"
#include "main.h"

/* CubeMX's. */
extern UART_HandleTypeDef huart1;
extern ADC_HandleTypeDef hadc1;
extern TIM_HandleTypeDef htim2;
extern RNG_HandleTypeDef hrng;

#define N_SAMPLES 2048u
#define FS_HZ 2000000u
#define MID_SCALE 2048
#define MOST_BY_DMA 65535u /* its counter has 16 bits */
/* Four times what the converter takes: an A-scan that nobody asked for since is not handed over. */
#define OLDEST_US (4u * N_SAMPLES * 1000000u / FS_HZ)

static usfp_device device;
/* On parts with a data cache (F7, H7), place it where the MPU keeps it uncached, and the stack, the frame
 * headers in `device` and this are then what the DMA sees. */
static int16_t counts[N_SAMPLES];
static uint8_t received;
static enum { IDLE, ACQUIRING } acquiring;
static volatile uint8_t acquired;
static uint64_t main_bang_us;

/* ---- The clock ----------------------------------------------------------------------------------------- */

/* TIM2 wraps after 71 minutes; the main loop asks far more often. */
static uint64_t clock_us(void *board)
{
    static uint64_t now_us;
    (void)board;
    now_us += (uint32_t)(__HAL_TIM_GET_COUNTER(&htim2) - (uint32_t)now_us);
    return now_us;
}

/* ---- Acquisition --------------------------------------------------------------------------------------- */

/* Fire your pulser here, or start the timer that does, so that the first conversion stands at a known time
 * after the main bang: that is info.t0_ns. */
static void begin_acquisition(void)
{
    acquired = 0;
    main_bang_us = clock_us(NULL);
    if (HAL_ADC_Start_DMA(&hadc1, (uint32_t *)(void *)counts, N_SAMPLES) != HAL_OK) {
        Error_Handler();
    }
}

void HAL_ADC_ConvCpltCallback(ADC_HandleTypeDef *hadc)
{
    if (hadc == &hadc1) {
        acquired = 1;
        usfp_device_wake(&device);
    }
}

/* Asked when an A-scan is due: fires then, answers "not yet" until the DMA is done, and hands over. */
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
    (void)HAL_ADC_Stop_DMA(&hadc1);
    acquiring = IDLE;
    if (clock_us(NULL) - main_bang_us > OLDEST_US) {
        return next_ascan(board, ascan);
    }
    for (size_t i = 0; i < N_SAMPLES; i++) {
        counts[i] = (int16_t)(counts[i] - MID_SCALE);
    }
    ascan->t_us = main_bang_us;
    return counts;
}

/* ---- Sending: each piece by one DMA transfer or more, the next begun by the end of the last -------------- */

static const usfp_piece *piece;
static volatile size_t pieces_left;
static size_t piece_sent;
static uint16_t in_flight;

static void send_next(void)
{
    while (pieces_left > 0 && piece_sent == piece->length) {
        piece++;
        piece_sent = 0;
        pieces_left = pieces_left - 1u;
    }
    if (pieces_left == 0) {
        return;
    }
    const size_t left = piece->length - piece_sent;
    in_flight = (uint16_t)(left < MOST_BY_DMA ? left : MOST_BY_DMA);
    if (HAL_UART_Transmit_DMA(&huart1, (uint8_t *)(uintptr_t)(piece->bytes + piece_sent), in_flight) != HAL_OK) {
        Error_Handler();
    }
}

void HAL_UART_TxCpltCallback(UART_HandleTypeDef *huart)
{
    if (huart == &huart1) {
        piece_sent += in_flight;
        send_next();
        usfp_device_wake(&device);
    }
}

static void send(void *board, const usfp_piece *pieces, size_t n_pieces)
{
    (void)board;
    piece = pieces;
    piece_sent = 0;
    pieces_left = n_pieces;
    /* A byte that comes in while the HAL holds its lock on the handle would find Receive_IT busy, and be the
     * last one received. The end of a transfer runs in the UART's own interrupt and needs no mask. */
    __disable_irq();
    send_next();
    __enable_irq();
}

/* A plain UART has no reader to wait for, so only whether it is free matters, not how much is left. With
 * hardware flow control, give the bytes left and an `abandon` that calls HAL_UART_AbortTransmit. */
static size_t unsent(void *board)
{
    (void)board;
    return pieces_left;
}

/* ---- Receiving ----------------------------------------------------------------------------------------- */

static void receive_next(void)
{
    (void)HAL_UART_Receive_IT(&huart1, &received, 1);
}

void HAL_UART_RxCpltCallback(UART_HandleTypeDef *huart)
{
    if (huart == &huart1) {
        usfp_device_receive(&device, received);
        receive_next();
    }
}

/* An overrun ends the reception; after noise and framing errors it still runs, and the HAL says busy. Either
 * way a byte is lost, and the host repeats its command. A DMA error ends the transmission without a callback
 * of its own: memory that the DMA does not reach, as the F4's CCM, and so nothing to go on with. */
void HAL_UART_ErrorCallback(UART_HandleTypeDef *huart)
{
    if (huart == &huart1) {
        if ((huart->ErrorCode & HAL_UART_ERROR_DMA) != 0u) {
            Error_Handler();
        }
        receive_next();
    }
}

/* ---- The rest of the port ------------------------------------------------------------------------------ */

static void lock(void *board)
{
    (void)board;
    __disable_irq();
}

static void unlock(void *board)
{
    (void)board;
    __enable_irq();
}

static void sleep_masked(void *board)
{
    (void)board;
    __WFI();
}

/* On parts without the generator (F1, F3, G0x0), count boots in flash or in a backup register instead. */
static uint32_t session_id(void)
{
    uint32_t number = 0;
    if (HAL_RNG_GenerateRandomNumber(&hrng, &number) != HAL_OK) {
        Error_Handler();
    }
    return number;
}

void usfp_stm32_run(void)
{
    const usfp_port port = {
        .clock_us = clock_us, .next_ascan = next_ascan, .send = send, .unsent = unsent,
        .lock = lock, .unlock = unlock, .sleep = sleep_masked,
    };
    const usfp_device_config config = {
        .info = {.session_id = session_id(), .fs_hz = FS_HZ, .prf_mhz = 10000, .n_samples = N_SAMPLES,
                 .adc_bits = 12, .firmware = {1, 0, 0}, .name = "stm32"},
        .max_prf_mhz = 100000,
    };
    if (HAL_TIM_Base_Start(&htim2) != HAL_OK) {
        Error_Handler();
    }
#ifdef USFP_CRC32
    usfp_stm32_crc32_init();
#endif
    usfp_device_init(&device, &port, &config);
    receive_next();
    usfp_device_run(&device);
}
