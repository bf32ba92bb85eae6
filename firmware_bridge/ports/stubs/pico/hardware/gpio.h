/* Only what ports/pico uses, declared by us so that it can be compiled without the Pico SDK.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef HARDWARE_GPIO_H
#define HARDWARE_GPIO_H

#include "pico/stdlib.h"

void gpio_init(uint gpio);
void gpio_set_dir(uint gpio, bool out);
void gpio_put(uint gpio, bool value);

#endif
