/* mutate_zip.c - libFuzzer's mutations of an archive, mostly with the CRC-32 of each record
 * set right afterwards, so that what was changed within a record is read. */
#include "fuzz.h"

#ifdef FUZZ_LIBFUZZER

#include "base/util.h"

#include <zlib.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static uint32_t u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static unsigned u16(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

/* One entry of the directory, its local header and what follows its bytes. */
static void repair_record(uint8_t *data, size_t size, uint8_t *entry)
{
    uint64_t local = u32(entry + 42), bytes = u32(entry + 20), at;
    uint32_t crc;

    if (local + 30 > size || memcmp(data + local, "PK\3\4", 4) != 0)
        return;
    at = local + 30 + u16(data + local + 26) + u16(data + local + 28);
    if (at + bytes > size)
        return;
    crc = (uint32_t)crc32(0, data + at, (uInt)bytes);
    put_u32(entry + 16, crc);
    if (u32(data + local + 14))
        put_u32(data + local + 14, crc);
    if (at + bytes + 8 <= size && memcmp(data + at + bytes, "PK\7\10", 4) == 0)
        put_u32(data + at + bytes + 4, crc);
}

static void repair(uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 46 <= size; i++)
        if (memcmp(data + i, "PK\1\2", 4) == 0)
            repair_record(data, size, data + i);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8 != 0)
        repair(data, size);
    return size;
}

#else
typedef int mutate_zip_is_for_libfuzzer;
#endif
