/* CRC-32 by the CRC calculation unit: RM0394 (L4) 14, RM0433 (H7) 22 and RM0440 (G4) 16 alike. CRC_INIT holds
 * the remainder as the unit does, unreversed; CRC_DR is turned round as it is read.
 * SPDX-License-Identifier: Apache-2.0 */
#include "usfp_stm32.h"

#include "main.h"

extern CRC_HandleTypeDef hcrc;

void usfp_stm32_crc32_init(void)
{
    hcrc.Instance = CRC;
#ifdef CRC_POL_POL /* F03x to F05x know no other polynomial, and their HAL no such field */
    hcrc.Init.DefaultPolynomialUse = DEFAULT_POLYNOMIAL_ENABLE; /* 0x04C11DB7 */
#endif
    hcrc.Init.DefaultInitValueUse = DEFAULT_INIT_VALUE_ENABLE;
    hcrc.Init.InputDataInversionMode = CRC_INPUTDATA_INVERSION_BYTE;
    hcrc.Init.OutputDataInversionMode = CRC_OUTPUTDATA_INVERSION_ENABLE;
    hcrc.InputDataFormat = CRC_INPUTDATA_FORMAT_BYTES;
    if (HAL_CRC_Init(&hcrc) != HAL_OK) {
        Error_Handler();
    }
}

uint32_t usfp_stm32_crc32(uint32_t crc, const uint8_t *bytes, size_t length)
{
    __HAL_CRC_INITIALCRCVALUE_CONFIG(&hcrc, __RBIT(~crc));
    /* The HAL asks for words and, told so above, reads bytes. */
    return ~HAL_CRC_Calculate(&hcrc, (uint32_t *)(uintptr_t)bytes, (uint32_t)length);
}
