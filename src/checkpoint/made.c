#include "checkpoint/made.h"

int made_read(made_values *make, const void *source, const struct files *files,
              uint64_t offset, void *buf, size_t len, struct pt2_err *err)
{
    char *to = buf;

    while (len > 0) {
        size_t skip = (size_t)(offset % sizeof(float)), done;
        uint64_t i = offset / sizeof(float);

        if (skip == 0 && len >= sizeof(float) && (uintptr_t)to % sizeof(float) == 0) {
            done = len / sizeof(float) * sizeof(float);
            if (make(source, files, i, done / sizeof(float), (float *)(void *)to, err) <
                0)
                return -1;
        } else {
            float one;

            done = MIN(len, sizeof(one) - skip);
            if (make(source, files, i, 1, &one, err) < 0)
                return -1;
            memcpy(to, (const char *)&one + skip, done);
        }
        to += done;
        offset += done;
        len -= done;
    }
    return 0;
}
