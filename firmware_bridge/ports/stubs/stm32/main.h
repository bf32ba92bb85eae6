/* Only what ports/stm32_hal uses of CubeMX's main.h, of the HAL and of CMSIS, declared by us so that it can be
 * compiled without them. SPDX-License-Identifier: Apache-2.0 */
#ifndef MAIN_H
#define MAIN_H

#include <stddef.h>
#include <stdint.h>

typedef enum { HAL_OK = 0, HAL_ERROR = 1, HAL_BUSY = 2, HAL_TIMEOUT = 3 } HAL_StatusTypeDef;
typedef struct {
    void *Instance;
    volatile uint32_t ErrorCode;
} UART_HandleTypeDef;
#define HAL_UART_ERROR_DMA 0x10u
typedef struct {
    void *Instance;
} ADC_HandleTypeDef;
typedef struct {
    volatile uint32_t CNT;
} TIM_TypeDef;
typedef struct {
    TIM_TypeDef *Instance;
} TIM_HandleTypeDef;
typedef struct {
    void *Instance;
} RNG_HandleTypeDef;
typedef struct {
    volatile uint32_t INIT;
} CRC_TypeDef;
/* CMSIS has this where the CRC unit knows other polynomials. */
#ifndef STUB_WITHOUT_CRC_POL
#define CRC_POL_POL 0xFFFFFFFFu
#endif
typedef struct {
    CRC_TypeDef *Instance;
    struct {
#ifdef CRC_POL_POL
        uint8_t DefaultPolynomialUse;
#endif
        uint8_t DefaultInitValueUse;
        uint32_t InputDataInversionMode;
        uint32_t OutputDataInversionMode;
    } Init;
    uint32_t InputDataFormat;
} CRC_HandleTypeDef;

extern CRC_TypeDef crc_unit;
#define CRC (&crc_unit)
#define DEFAULT_POLYNOMIAL_ENABLE ((uint8_t)0x00)
#define DEFAULT_INIT_VALUE_ENABLE ((uint8_t)0x00)
#define CRC_INPUTDATA_INVERSION_BYTE 0x20u
#define CRC_OUTPUTDATA_INVERSION_ENABLE 0x80u
#define CRC_INPUTDATA_FORMAT_BYTES 1u
#define __HAL_CRC_INITIALCRCVALUE_CONFIG(handle, value) ((handle)->Instance->INIT = (value))
#define __HAL_TIM_GET_COUNTER(handle) ((handle)->Instance->CNT)

HAL_StatusTypeDef HAL_UART_Transmit_DMA(UART_HandleTypeDef *huart, const uint8_t *bytes, uint16_t size);
HAL_StatusTypeDef HAL_UART_Receive_IT(UART_HandleTypeDef *huart, uint8_t *bytes, uint16_t size);
HAL_StatusTypeDef HAL_ADC_Start_DMA(ADC_HandleTypeDef *hadc, uint32_t *to, uint32_t length);
HAL_StatusTypeDef HAL_ADC_Stop_DMA(ADC_HandleTypeDef *hadc);
HAL_StatusTypeDef HAL_TIM_Base_Start(TIM_HandleTypeDef *htim);
HAL_StatusTypeDef HAL_RNG_GenerateRandomNumber(RNG_HandleTypeDef *hrng, uint32_t *number);
HAL_StatusTypeDef HAL_CRC_Init(CRC_HandleTypeDef *hcrc);
uint32_t HAL_CRC_Calculate(CRC_HandleTypeDef *hcrc, uint32_t *from, uint32_t length);
uint32_t __RBIT(uint32_t value);
void __disable_irq(void);
void __enable_irq(void);
void __WFI(void);
void Error_Handler(void);

/* The application's own. */
void HAL_ADC_ConvCpltCallback(ADC_HandleTypeDef *hadc);
void HAL_UART_TxCpltCallback(UART_HandleTypeDef *huart);
void HAL_UART_RxCpltCallback(UART_HandleTypeDef *huart);
void HAL_UART_ErrorCallback(UART_HandleTypeDef *huart);

#endif
