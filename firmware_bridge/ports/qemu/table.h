/* The A-scans that the firmware plays; table.py writes them. SPDX-License-Identifier: Apache-2.0 */
#ifndef TABLE_H
#define TABLE_H

#include <stdint.h>

#define TABLE_ASCANS 16
#define TABLE_SAMPLES 2048

extern const int16_t table[TABLE_ASCANS][TABLE_SAMPLES];

#endif
