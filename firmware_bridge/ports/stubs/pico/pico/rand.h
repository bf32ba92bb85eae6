/* Only what ports/pico uses, declared by us so that it can be compiled without the Pico SDK.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef PICO_RAND_H
#define PICO_RAND_H

#include "pico/stdlib.h"

uint32_t get_rand_32(void);

#endif
