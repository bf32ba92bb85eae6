/* Runs a fuzz target over files without libFuzzer, and prints what the library made of each of them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    HOLDS(file != NULL && fseek(file, 0, SEEK_END) == 0);
    const long length = ftell(file);
    HOLDS(length >= 0 && fseek(file, 0, SEEK_SET) == 0);
    uint8_t *bytes = exactly((size_t)length);
    *size = fread(bytes, 1, (size_t)length, file);
    HOLDS(*size == (size_t)length && fclose(file) == 0);
    return bytes;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        size_t size = 0;
        uint8_t *input = read_file(argv[i], &size);
        printf("file %s\n", argv[i]);
        LLVMFuzzerTestOneInput(input, size);
        describe(input, size);
        free(input);
    }
    return 0;
}
